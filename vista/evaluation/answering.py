"""What a model is asked in an evaluation and how it answers, by any engine and without lmms-eval.

Stage ``evaluation``. Greedy decoding; with a ``Selection``, the model chooses among its own candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vista import chat
from vista.config import HubModel, LocalModel, SelectMethod, Suite, Wording
from vista.engines.base import Engine, Request, Sample
from vista.errors import VistaError
from vista.grid import Run, weights
from vista.lmms.asking import Decoding
from vista.records import Row
from vista.seeding import derive_seed
from vista.wording import check_wording, selecting

if TYPE_CHECKING:  # torch takes seconds to import
    from vista.engines.checkpoints import Checkpoint


# What a task of lmms-eval's own asks of a document: its turns as JSON; the images are those of its query.
REQUEST = pa.schema(
    [
        ("name", pa.string()),  # of the document, in prompts
        ("turns", pa.string()),
        ("max_new_tokens", pa.int32()),
        ("until", pa.list_(pa.string())),
    ]
)


def is_trusted(suite: Suite, run: Run) -> bool:
    """Whether the entry of a run's model lets a checkpoint bring code."""
    model = suite.models[run.model]
    return isinstance(model, LocalModel | HubModel) and model.trust_remote_code


@dataclass(frozen=True)
class Selection:
    """How candidates are drawn and shown."""

    policy: str  # id of the run whose checkpoint is sampled
    k: int
    temperature: float
    wording: Wording

    @classmethod
    def of(cls, suite: Suite, run: Run) -> Selection | None:
        """The selection that ``run`` is evaluated with; ``None``: it is decoded greedily."""
        method = suite.methods[run.method]
        if not isinstance(method, SelectMethod):
            return None
        return cls(weights(suite, run).id, method.k, method.temperature, suite.wording)

    @property
    def stated(self) -> dict[str, Any]:
        """The selection in plain values."""
        return {**asdict(self), "wording": self.wording.model_dump(include={"select", "candidate"})}

    def seeds(self, query_id: str) -> list[int]:
        """The random streams of a query's candidates; the first ones are the same whatever ``k``."""
        return [derive_seed("candidate", self.policy, query_id, index) for index in range(self.k)]

    def asking(self, doc: Mapping[str, Any], candidates: Sequence[str]) -> Row:
        """The query ``doc``, asked with its candidates in the order in which they were drawn."""
        return selecting(doc, candidates, self.wording)

    def asking_turns(
        self, turns: Sequence[Mapping[str, Any]], candidates: Sequence[str]
    ) -> list[chat.Message]:
        """lmms-eval's turns with the candidates, in the place of the last text that they end with.

        Raises:
            VistaError: they have no text.
        """
        changed = [{**turn, "content": [dict(part) for part in turn["content"]]} for turn in turns]
        texts = [part for turn in changed for part in turn["content"] if part["type"] == "text"]
        if not texts:
            raise VistaError("a document without text has no instruction to add candidates to")
        asked = selecting({"instruction": texts[-1]["text"]}, candidates, self.wording)
        texts[-1]["text"] = asked["instruction"]
        return changed


def named(doc: Mapping[str, Any], task: str, place: int) -> str:
    """What a document is called in prompts and errors: its query's id, or its place in a task."""
    return str(doc.get("query_id", f"{task}/{place}"))


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        query_id: The query's, or the name of a document of lmms-eval's own.
        decoding: How it is answered.
        conversation: What is shown: as it is, or with candidates to choose among.
    """

    query_id: str
    decoding: Decoding
    conversation: Callable[[Sequence[str]], chat.Conversation]

    def images(self) -> list[Any]:
        """The images, decoded once more."""
        return list(self.conversation([])[1])


@dataclass(frozen=True)
class Answer:
    """A response."""

    text: str
    finished: bool
    input_tokens: int
    output_tokens: int


@dataclass
class Answering:
    """A checkpoint that answers.

    Attributes:
        checkpoint: Its processor encodes the prompts.
        engine: Decodes.
        selection: Lets the model choose among candidates; without, its greedy response counts.
        features: Whether the engine reads what the processor makes of images. Otherwise it is not kept.
        candidate_tokens: Tokens of all candidates so far.
    """

    checkpoint: Checkpoint
    engine: Engine
    selection: Selection | None = None
    features: bool = True
    candidate_tokens: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Refuse words that the model does not know, in which it would be asked to choose.

        Raises:
            VistaError: there are some.
        """
        if self.selection is not None:
            tokenizer = self.checkpoint.processor.tokenizer
            check_wording(tokenizer, self.selection.wording, ["select", "candidate"], self.checkpoint.name)

    def encode(
        self, asked: Sequence[Asked], limit: int, candidates: Sequence[Sequence[str]] | None = None
    ) -> list[chat.Prompt]:
        """The prompts of requests, with candidates for each if there are any.

        Raises:
            VistaError: names the query whose prompt the processor refuses, or that does not fit the context.
        """
        among = candidates or [()] * len(asked)
        prompts: list[chat.Prompt] = []
        for first in range(0, len(asked), chat.TOGETHER):
            part = slice(first, first + chat.TOGETHER)
            prompts += self._encode(asked[part], limit, among[part])
        return prompts

    def _encode(
        self, asked: Sequence[Asked], limit: int, candidates: Sequence[Sequence[str]]
    ) -> list[chat.Prompt]:
        names = [each.query_id for each in asked]
        shown = [each.conversation(own) for each, own in zip(asked, candidates, strict=True)]
        prompts = chat.encode_named(self.checkpoint.processor, names, shown)
        for name, prompt in zip(names, prompts, strict=True):
            chat.check_fits({"query_id": name}, len(prompt), limit, self.checkpoint.context)
        return [
            replace(
                prompt,
                query_id=each.query_id,
                open_images=each.images,
                image_features=prompt.image_features if self.features else {},
            )
            for prompt, each in zip(prompts, asked, strict=True)
        ]

    def answer(self, asked: Sequence[Asked], prompts: Sequence[chat.Prompt], limit: int) -> list[Answer]:
        """The response to each request; where all candidates were cut, an unfinished one without text."""
        shown = dict(enumerate(prompts))
        if self.selection is not None:
            shown = self._choices(self.selection, asked, prompts, limit)
        requests = [Request(prompt, seeds=[0]) for prompt in shown.values()]
        sampled = self.engine.sample(requests, temperature=0.0, max_new_tokens=limit) if requests else []
        samples = {index: sample for index, (sample,) in zip(shown, sampled, strict=True)}
        answers = []
        for index, each in enumerate(asked):
            sample = samples.get(index, Sample([], 0.0, finished=False))
            text, finished = self._said(each, sample)
            answers.append(Answer(text, finished, len(shown.get(index, ())), len(sample.token_ids)))
        return answers

    def _choices(
        self, selection: Selection, asked: Sequence[Asked], prompts: Sequence[chat.Prompt], limit: int
    ) -> dict[int, chat.Prompt]:
        """The prompts that ask to choose, by index. A candidate that was cut is none."""
        requests = [
            Request(prompt, selection.seeds(each.query_id))
            for each, prompt in zip(asked, prompts, strict=True)
        ]
        sampled = self.engine.sample(requests, selection.temperature, limit)
        found: dict[int, list[str]] = {}
        for index, (each, samples) in enumerate(zip(asked, sampled, strict=True)):
            self.candidate_tokens += sum(len(sample.token_ids) for sample in samples)
            said = [self._said(each, sample) for sample in samples]
            if candidates := [text for text, finished in said if finished]:
                found[index] = candidates
        chosen = self.encode([asked[index] for index in found], limit, list(found.values()))
        return dict(zip(found, chosen, strict=True))

    def _said(self, asked: Asked, sample: Sample) -> tuple[str, bool]:
        """The text of a sample up to a stop string, and whether it is finished."""
        return asked.decoding.ended(chat.decode(self.checkpoint.processor, sample.token_ids), sample.finished)
