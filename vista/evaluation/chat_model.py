"""A checkpoint folder as a model of lmms-eval: ``lmms-eval --model vista --model_args pretrained=…``.

Stage ``evaluation``. Decodes greedily with the sampling engine and the prompts that the other
stages use; with a ``Selection``, the model chooses among its own candidates. Whatever goes
wrong is raised: an error is never scored as an empty answer. A response that the length limit cut is marked
(``verdicts.marked``), so that a suite's tasks score it as wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from vista import chat
from vista.engines.base import Engine
from vista.errors import VistaError
from vista.evaluation.answering import Answer, Answering, Asked, Selection, named
from vista.lmms.asking import Decoding, split_images
from vista.verdicts import marked

# Encoded prompts wait in memory up to this size (or one batch, if that is larger).
POOL_BYTES = 2**30
# Columns that all queries of a suite have; other tasks' documents may have some of them.
OF_A_QUERY = {"query_id", "cluster_id", "instruction", "answer_type"}


def manifest() -> Any:
    """What lmms-eval's entry point returns.

    A function, since ``lmms_eval.models`` loads the entry point while it is itself being imported.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="vista", chat_class_path="vista.evaluation.chat_model.VistaChatModel")


def is_query(doc: Mapping[str, Any]) -> bool:
    """Whether a suite's task asks it; other tasks' scorers do not know the mark of a cut response."""
    return set(doc) >= OF_A_QUERY


class VistaChatModel(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """Greedy answers of one checkpoint, each task's on their own."""

    is_simple = False

    def __init__(
        self,
        pretrained: str | Path,
        batch_size: int | str = 1,
        device: str | None = None,
        dtype: str | None = None,
        attention: str | None = None,
        trust_remote_code: bool = False,
        padding: bool | None = None,
        selection: Selection | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Load the checkpoint.

        Args:
            pretrained: A checkpoint folder.
            batch_size: Requests decoded at a time.
            device: ``cpu``, ``cuda`` …; default: a GPU if there is one.
            dtype: Of the weights; ``auto`` as they are stored; default: as the checkpoint says.
            attention: Implementation, by transformers' name; default: as the checkpoint says.
            trust_remote_code: Run code that the checkpoint brings.
            padding: Whether requests of unequal length share a batch; default: on a GPU.
            selection: Let the model choose among candidates; default: its greedy response counts.
            engine: Answers; default: transformers. With one, no weights are read.

        Raises:
            VistaError: the folder or a setting is not usable, or the model does not know the words
                in which it would be asked to choose.
        """
        super().__init__()
        from vista.engines.checkpoints import load_checkpoint, load_outline
        from vista.engines.hf import HfEngine

        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise VistaError("the vista model evaluates in one process; start it without a launcher")
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise VistaError(f"batch_size {batch_size!r}: give a number of requests, at least 1")
        self.batch_size = int(batch_size)
        reads = engine is None
        if engine is None:
            checkpoint = load_checkpoint(
                Path(pretrained),
                attention=attention,
                device=device,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                padding=padding,
            )
            engine = HfEngine(checkpoint, self.batch_size, progress="answer")
        else:
            # Whoever drew its samples has read the weights, which may be released since.
            checkpoint = load_outline(Path(pretrained), trust_remote_code=trust_remote_code, weights=False)
        self.answering = Answering(checkpoint, engine, selection, features=reads)
        # By task and place, documents whose response the length limit cut, or without a candidate to choose.
        self.cut: set[tuple[str, int]] = set()
        self._queries: dict[tuple[str, str], bool] = {}

    @property
    def device(self) -> Any:
        """The device that the model is on."""
        return self.answering.checkpoint.device

    def clean(self) -> None:
        """Keep what is loaded: lmms-eval cleans up after every call, and takes longer than a small task."""

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The greedy response to every request (with ``selection``: to its candidates), in order.

        Raises:
            VistaError: a request cannot be shown to this model.
            RuntimeError: the engine returned anything but one response to each.
        """
        results: list[GenerationResult | None] = [None] * len(requests)
        decodings = [Decoding.parse(request.args[4], request.args[2]) for request in requests]
        # Tasks share no batch: on a GPU, the last bits would depend on which others are evaluated.
        together: dict[tuple[str, int], list[int]] = {}
        for index, (request, decoding) in enumerate(zip(requests, decodings, strict=True)):
            together.setdefault((request.args[4], decoding.max_new_tokens), []).append(index)
        for (_, limit), members in together.items():
            for pool in self._pools(requests, members, decodings):
                asked = [each for each, _ in pool.values()]
                answers = self.answering.answer(asked, [prompt for _, prompt in pool.values()], limit)
                for index, answer in zip(pool, answers, strict=True):
                    results[index] = self._result(requests[index], answer)
        answered = [result for result in results if result is not None]
        if len(answered) != len(requests):
            raise RuntimeError(f"{len(requests)} requests, but {len(answered)} responses")
        return answered

    def _pools(
        self, requests: Sequence[Instance], members: Sequence[int], decodings: Sequence[Decoding]
    ) -> Iterator[dict[int, tuple[Asked, chat.Prompt]]]:
        """Requests by index, as many at a time as the engine may sort into batches."""
        pool: dict[int, tuple[Asked, chat.Prompt]] = {}
        size = 0
        with tqdm(total=len(members), desc="encode", unit="query", mininterval=5) as bar:
            for start in range(0, len(members), chat.TOGETHER):
                part = members[start : start + chat.TOGETHER]
                asked = [self._asked(requests[index], decodings[index]) for index in part]
                prompts = self.answering.encode(asked, decodings[part[0]].max_new_tokens)
                for index, each, prompt in zip(part, asked, prompts, strict=True):
                    pool[index] = each, prompt
                    size += sum(tensor.nbytes for tensor in prompt.image_features.values())
                bar.update(len(part))
                if size >= POOL_BYTES and len(pool) >= self.batch_size:
                    yield pool
                    pool, size = {}, 0
        if pool:
            yield pool

    def _asked(self, request: Instance, decoding: Decoding) -> Asked:
        """A request of lmms-eval."""
        _, to_messages, _, doc_id, task, _ = request.args
        doc, selection = self._doc(request), self.answering.selection

        def conversation(candidates: Sequence[str]) -> chat.Conversation:
            if selection is None or not candidates:
                return split_images(to_messages(doc))
            if is_query(doc):
                return split_images(to_messages(selection.asking(doc, candidates)))
            return split_images(selection.asking_turns(to_messages(doc), candidates))

        return Asked(named(doc, task, doc_id), decoding, conversation)

    def _doc(self, request: Instance) -> Mapping[str, Any]:
        _, _, _, doc_id, task, split = request.args
        doc: Mapping[str, Any] = self.task_dict[task][split][doc_id]
        return doc

    def _asks_query(self, request: Instance) -> bool:
        """``is_query`` of a request's document, asked of one for each task: all have its columns."""
        _, _, _, _, task, split = request.args
        if (task, split) not in self._queries:
            self._queries[task, split] = is_query(self._doc(request))
        return self._queries[task, split]

    def _result(self, request: Instance, answer: Answer) -> GenerationResult:
        """A response, as lmms-eval's scorers are given it."""
        _, _, _, doc_id, task, _ = request.args
        if not answer.finished:
            self.cut.add((task, doc_id))
        text = marked(answer.text, answer.finished) if self._asks_query(request) else answer.text
        return GenerationResult(
            text, TokenCounts(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens)
        )

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not offered: the suite's tasks are generated and verified."""
        raise VistaError("the vista model only generates; choose a task of output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not offered: the suite's tasks have one round."""
        raise VistaError("the vista model answers in one round; choose a task of output_type generate_until")
