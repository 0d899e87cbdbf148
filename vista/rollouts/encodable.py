"""Whether a base model's processor can encode every query of the model's jobs, before anything is spent.

Stage ``rollouts``; ``vista encodable`` runs it, one job for each model, and all jobs that sample, train or
evaluate wait for it. A processor refuses images that are too long and thin, and text that spells a special
token of the model; most would be found only after all training, in the test split. Texts are tokenised; of
images, a blank one is encoded for every size that occurs. The model itself is not loaded. Words that the
tokenizer has no token for are no error, since a model may well do without some; they are counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoConfig

from vista import chat
from vista.config import AnnotatedRationales, Improving, SelfRationales, Suite, TeacherRationales
from vista.engines.presenter import Presenter, load_processor
from vista.errors import VistaError
from vista.images import BROKEN, seen_size
from vista.manifest import Recorder, check_count
from vista.paths import Paths
from vista.reads import Reads
from vista.records import Row, read_queries, write_json
from vista.shown import printable

EXAMPLES = 5  # queries in one error, and words in one warning
# Tokens by which a length that is added up may be wrong, since what is written for an image may share a token
# with the text beside it. Lengths that are closer to the limit are counted.
MARGIN = 16
COLUMNS = [
    *("query_id", "task", "split", "images", "system", "instruction", "answer", "answer_type", "rationale")
]
# What processors and chat templates raise for images and texts that they cannot take.
REFUSALS = (
    *(*chat.REFUSALS, TypeError, LookupError, ArithmeticError, MemoryError),
    *(RuntimeError, AssertionError, StopIteration),
)

Sizes = tuple[tuple[int, int], ...]  # width and height of each image of a query


class Examiner:
    """Says what keeps a processor from encoding a query.

    Args:
        processor: Of the base model.
        context: How many tokens the model takes; ``None`` where it does not say.
    """

    def __init__(self, processor: Presenter, context: int | None) -> None:
        self.processor = processor
        self.context = context
        self.longest = 0  # tokens of a prompt, to within ``MARGIN``
        self.tokens = 0  # of all prompts
        self.tokens_of = cache(self._tokens_of)
        self.unknown_words = cache(partial(chat.unknown_words, processor.tokenizer))

    def problem(self, query: Row, response_len: int) -> str | None:
        """What is wrong with a query; ``None`` if it can be asked.

        Args:
            query: With ``COLUMNS``, as the model is asked it.
            response_len: Tokens that the model may respond with.
        """
        for name in ("system", "instruction", "rationale"):
            special = self.spelled(query[name] or "")
            if special is not None:
                return f"its {name} spells {special!r}, a special token of the model"
        try:
            sizes = tuple(seen_size(image["bytes"]) for image in query["images"])
        except BROKEN as error:
            return f"its image cannot be opened ({error})"
        expanded = self.tokens_of(sizes)
        if isinstance(expanded, str):
            shown = ", ".join(f"{width}×{height}" for width, height in sizes)
            return f"the processor refuses its image ({shown} pixels): {expanded}"
        try:
            length = self.length(query, sizes, expanded, response_len)
        except REFUSALS as error:
            return f"the processor or its chat template refuses its prompt: {error or type(error).__name__}"
        self.longest = max(self.longest, length)
        self.tokens += length
        if self.context is not None and length + response_len > self.context:
            return (
                f"its prompt has {length} tokens and the response up to {response_len}, but the model's "
                f"context is {self.context}"
            )
        return None

    def length(self, query: Row, sizes: Sizes, expanded: int, response_len: int) -> int:
        """Tokens of a prompt: to within ``MARGIN``, and exact where that decides whether it fits.

        Args:
            query: As for ``problem``.
            sizes: Those of its images.
            expanded: Tokens that they add to the rendered prompt.
            response_len: As for ``problem``.
        """
        turns = chat.messages(query)
        text = chat.render(self.processor, turns)
        length = len(chat.template_ids(self.processor, chat.Prompt([], {}, {}, text))) + expanded
        if self.context is not None and length + response_len + MARGIN > self.context:
            return len(chat.encode(self.processor, turns, blank(sizes)))
        return length

    def spelled(self, text: str) -> str | None:
        """The first special token of the model that a text spells, or the processor's place of an image."""
        own = self.placeholder if self.placeholder and self.placeholder in text else None
        return chat.spelled(self.processor, text, self.special_ids) or own

    def unknown(self, query: Row) -> list[str]:
        """The words of a query, its answer and its rationale that the tokenizer has no token for."""
        texts = (query[name] or "" for name in ("system", "instruction", "answer", "rationale"))
        return [word for text in texts for word in self.unknown_words(text)]

    def written(self, rationale: str | None) -> int:
        """Tokens of a rationale that is trained on, with the end token."""
        return len(chat.gold_ids(self.processor, rationale or "")) + 1

    @cached_property
    def special_ids(self) -> set[int]:
        """Every special token."""
        return set(chat.forbidden_tokens(self.processor, []))

    @property
    def placeholder(self) -> str | None:
        """What the processor takes for the place of an image, wherever it stands."""
        found = getattr(self.processor.inner, "image_token", None)
        return found if isinstance(found, str) else None

    def _tokens_of(self, sizes: Sizes) -> int | str:
        """How many tokens images of these sizes add to a rendered prompt, or why they are refused."""
        asked: Row = {"images": sizes, "system": None, "instruction": "x"}
        try:
            prompt = chat.encode(self.processor, chat.messages(asked), blank(sizes))
        except REFUSALS as error:
            return str(error) or type(error).__name__
        return len(prompt) - len(chat.template_ids(self.processor, prompt))


def blank(sizes: Sizes) -> list[Image.Image]:
    """Images without content."""
    return [Image.new("RGB", size) for size in sizes]


def check_encodable(suite: Suite, paths: Paths, model: str) -> None:
    """Write how many queries a model's processor has been found to take, and the manifest.

    Raises:
        VistaError: lists the first queries that it does not take, with the reason; or the model cannot be
            asked with its ``prompts``, or is not the suite's.
    """
    files = Reads(suite, paths).asked(model)
    base = paths.base(model)
    recorder = Recorder("rollouts", {"model": model}, [base, *files])
    trusted = getattr(suite.models[model], "trust_remote_code", False)
    processor = load_processor(base, trust_remote_code=trusted)
    chat.check_prompts(processor, suite.models[model].prompts, model)
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=trusted)
    examiner = Examiner(processor, getattr(config.get_text_config(), "max_position_embeddings", None))
    queries, problems = 0, list[str]()
    unknown: dict[str, dict[str, Any]] = {}
    for file in files:
        rows = [chat.prompted(row, suite.models[model].prompts) for row in read_queries(file, COLUMNS)]
        if isinstance(suite.seed_rationales, TeacherRationales):  # training leaves those out, and counts them
            rows = [{**row, "rationale": None} for row in rows]
        check_count(file, len(rows), "queries", required=False)
        queries += len(rows)
        limits = [response_limit(suite, file.stem)] * len(rows)
        if file.stem == "seed" and isinstance(suite.seed_rationales, AnnotatedRationales):
            limits = [examiner.written(row["rationale"]) for row in rows]
        problems += _problems(examiner, file, rows, limits)
        if (found := _unknown(examiner, _where(file), rows)) is not None:
            unknown[_where(file)] = found
    if problems:
        more = f"\n  and {len(problems) - EXAMPLES:,} more" if len(problems) > EXAMPLES else ""
        raise VistaError(
            f"model {model!r} cannot be asked {len(problems):,} of its {queries:,} queries:\n"
            + "\n".join(f"  - {problem}" for problem in problems[:EXAMPLES])
            + f"{more}\nCorrect these rows in a local copy of the data (source: {{kind: path, path: …}}), or "
            "leave them out of it; rationales, where seed_rationales.files says; or take the model out of "
            "the suite. Nothing has been spent on it yet"
        )
    counts: dict[str, float] = {
        "queries": queries,
        "image_sizes": examiner.tokens_of.cache_info().currsize,
        "longest_prompt": examiner.longest,
        "prompt_tokens": examiner.tokens,
    }
    counts |= {f"unknown/{where}": found["queries"] for where, found in unknown.items()}
    for found in unknown.values():
        print(printable(f"warning: model {model}: {found['said']}"), file=sys.stderr)
    output = paths.encodable(model)
    write_json(output, {"model": model, **counts, **({"unknown": unknown} if unknown else {})})
    recorder.write(output, counts)


def response_limit(suite: Suite, split: str) -> int:
    """Tokens that a response to a query of a split may have, in any job of the suite."""
    if split == "test":
        return suite.eval_max_new_tokens
    own = suite.seed_rationales
    if split == "seed":  # sampled on just for the base model's own rationales
        return own.rollouts.max_new_tokens if isinstance(own, SelfRationales) else 0
    methods = [method for method in suite.methods.values() if isinstance(method, Improving)]
    return max((method.rollouts.max_new_tokens for method in methods), default=0)


def _where(file: Path) -> str:
    """Task and split of a file of queries."""
    return f"{file.parent.name}/{file.stem}"


def _unknown(examiner: Examiner, where: str, rows: Sequence[Row]) -> dict[str, Any] | None:
    """How many queries have words that the tokenizer does not know, and which most often."""
    found = [words for words in map(examiner.unknown, rows) if words]
    if not found:
        return None
    words = Counter(word for each in found for word in each)
    frequent = [word for word, _ in words.most_common(EXAMPLES)]
    shown = ", ".join(map(repr, frequent)) + (" …" if len(words) > len(frequent) else "")
    return {
        "queries": len(found),
        "words": len(words),
        "said": f"{where}: {len(found):,} of {len(rows):,} queries have words that its tokenizer has no "
        f"token for ({len(words):,}: {shown}); it reads each of them as the same unknown one",
    }


def _problems(examiner: Examiner, file: Path, rows: Sequence[Row], limits: Sequence[int]) -> list[str]:
    where = _where(file)
    found = ((row, examiner.problem(row, limit)) for row, limit in zip(rows, limits, strict=True))
    return [f"{where}: query {row['query_id']!r}: {said}" for row, said in found if said is not None]
