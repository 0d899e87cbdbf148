"""A checkpoint folder as a model of lmms-eval: ``lmms-eval --model vista --model_args pretrained=…``.

Stage ``evaluation``. Decodes greedily with the sampling engine and the prompts that the other
stages use; with a ``Selection``, the model chooses among its own candidates. Whatever goes
wrong is raised: an error is never scored as an empty answer. A response that the length limit cut is marked
(``verdicts.marked``), so that a suite's tasks score it as wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from vista import chat
from vista.engines.base import Engine, Request, Sample
from vista.errors import VistaError
from vista.evaluation.evaluate import Selection
from vista.lmms.asking import Decoding, split_images
from vista.verdicts import marked
from vista.wording import check_wording

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


@dataclass(frozen=True)
class Asked:
    """One request: its document, how that is turned into a conversation, and the prompt."""

    query_id: str
    key: tuple[str, int]  # of the document: its task and place
    doc: Mapping[str, Any]
    to_messages: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
    decoding: Decoding
    prompt: chat.Prompt

    @property
    def is_query(self) -> bool:
        """Whether a suite's task asks it; other tasks' scorers do not know the mark of a cut response."""
        return set(self.doc) >= OF_A_QUERY


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

        Raises:
            VistaError: the folder or a setting is not usable, or the model does not know the words
                in which it would be asked to choose.
        """
        super().__init__()
        from vista.engines.checkpoints import load_checkpoint
        from vista.engines.hf import HfEngine

        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise VistaError("the vista model evaluates in one process; start it without a launcher")
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise VistaError(f"batch_size {batch_size!r}: give a number of requests, at least 1")
        self.batch_size = int(batch_size)
        self.checkpoint = load_checkpoint(
            Path(pretrained),
            attention=attention,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            padding=padding,
        )
        self.engine: Engine = HfEngine(self.checkpoint, self.batch_size, progress="answer")
        # By task and place, documents whose response the length limit cut, or without a candidate to choose.
        self.cut: set[tuple[str, int]] = set()
        self.selection = selection
        self.candidate_tokens = 0
        if selection is not None:
            tokenizer = self.checkpoint.processor.tokenizer
            check_wording(tokenizer, selection.wording, ["select", "candidate"], str(pretrained))

    @property
    def device(self) -> Any:
        """The device that the model is on."""
        return self.checkpoint.device

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
                asked = list(pool.values())
                responses = self._respond(asked, self._prompts(asked, limit), limit)
                for index, response in zip(pool, responses, strict=True):
                    results[index] = response
        answered = [result for result in results if result is not None]
        if len(answered) != len(requests):
            raise RuntimeError(f"{len(requests)} requests, but {len(answered)} responses")
        return answered

    def _pools(
        self, requests: Sequence[Instance], members: Sequence[int], decodings: Sequence[Decoding]
    ) -> Iterator[dict[int, Asked]]:
        """Requests by index, as many at a time as the engine may sort into batches."""
        pool: dict[int, Asked] = {}
        size = 0
        with tqdm(total=len(members), desc="encode", unit="query", mininterval=5) as bar:
            for start in range(0, len(members), chat.TOGETHER):
                part = members[start : start + chat.TOGETHER]
                for index, asked in zip(part, self._ask(requests, decodings, part), strict=True):
                    pool[index] = asked
                    size += sum(tensor.nbytes for tensor in asked.prompt.image_features.values())
                bar.update(len(part))
                if size >= POOL_BYTES and len(pool) >= self.batch_size:
                    yield pool
                    pool, size = {}, 0
        if pool:
            yield pool

    def _ask(
        self, requests: Sequence[Instance], decodings: Sequence[Decoding], members: Sequence[int]
    ) -> list[Asked]:
        """The requests of these indices, which have one length limit, with their prompts."""
        asked = []
        for index in members:
            _, doc_to_messages, _, doc_id, task, split = requests[index].args
            doc = self.task_dict[task][split][doc_id]
            query_id = doc.get("query_id", f"{task}/{doc_id}")
            asked.append((query_id, (task, doc_id), doc, doc_to_messages, decodings[index]))
        conversations = [to_messages(doc) for _, _, doc, to_messages, _ in asked]
        names = [query_id for query_id, *_ in asked]
        prompts = self._encode(conversations, names, decodings[members[0]].max_new_tokens)
        return [Asked(*each, prompt) for each, prompt in zip(asked, prompts, strict=True)]

    def _encode(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], query_ids: Sequence[str], limit: int
    ) -> list[chat.Prompt]:
        """The prompts of conversations.

        Raises:
            VistaError: names the query whose prompt the processor refuses, or that does not fit the context.
        """
        split = [split_images(conversation) for conversation in conversations]
        prompts = chat.encode_named(self.checkpoint.processor, query_ids, split)
        for query_id, prompt in zip(query_ids, prompts, strict=True):
            chat.check_fits({"query_id": query_id}, len(prompt), limit, self.checkpoint.context)
        return [replace(prompt, query_id=name) for prompt, name in zip(prompts, query_ids, strict=True)]

    def _prompts(self, asked: Sequence[Asked], limit: int) -> dict[int, chat.Prompt]:
        """The prompts to respond to, by index: as they are, or those that ask to choose.

        A candidate that was cut is none; a query of which all were has no prompt.
        """
        if self.selection is None:
            return {index: each.prompt for index, each in enumerate(asked)}
        requests = [Request(each.prompt, self.selection.seeds(each.query_id)) for each in asked]
        sampled = self.engine.sample(requests, self.selection.temperature, limit)
        conversations = {}
        for index, (each, samples) in enumerate(zip(asked, sampled, strict=True)):
            self.candidate_tokens += sum(len(sample.token_ids) for sample in samples)
            said = [self._said(each, sample) for sample in samples]
            if candidates := [text for text, finished in said if finished]:
                conversations[index] = (
                    each.to_messages(self.selection.asking(each.doc, candidates))
                    if each.is_query
                    else self.selection.asking_turns(each.to_messages(each.doc), candidates)
                )
        names = [asked[index].query_id for index in conversations]
        return dict(zip(conversations, self._encode(list(conversations.values()), names, limit), strict=True))

    def _said(self, asked: Asked, sample: Sample) -> tuple[str, bool]:
        """The text of a sample up to a stop string, and whether it is finished."""
        return asked.decoding.ended(chat.decode(self.checkpoint.processor, sample.token_ids), sample.finished)

    def _respond(
        self, asked: Sequence[Asked], prompts: Mapping[int, chat.Prompt], limit: int
    ) -> list[GenerationResult]:
        """The greedy response to each request; where it has no prompt, an unfinished one without text."""
        requests = [Request(prompt, seeds=[0]) for prompt in prompts.values()]
        sampled = self.engine.sample(requests, temperature=0.0, max_new_tokens=limit) if requests else []
        samples = {index: sample for index, (sample,) in zip(prompts, sampled, strict=True)}
        results = []
        for index, each in enumerate(asked):
            sample = samples.get(index, Sample([], 0.0, finished=False))
            text, finished = self._said(each, sample)
            if not finished:
                self.cut.add(each.key)
            counts = TokenCounts(
                input_tokens=len(prompts.get(index, ())), output_tokens=len(sample.token_ids)
            )
            results.append(GenerationResult(marked(text, finished) if each.is_query else text, counts))
        return results

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not offered: the suite's tasks are generated and verified."""
        raise VistaError("the vista model only generates; choose a task of output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not offered: the suite's tasks have one round."""
        raise VistaError("the vista model answers in one round; choose a task of output_type generate_until")
