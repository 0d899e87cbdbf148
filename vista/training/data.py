"""The rows of a training set: checked, ordered and stacked into batches of tensors, for ``vista train``.

A response is trained on as the tokens that were sampled, never as text tokenised again, followed by
the end token unless it was cut at the length limit. Only gold text has no tokens, and is tokenised here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Sampler

from vista import chat
from vista.config import GrpoSettings, HfEngineSettings, Sampling, SamplingStrategy, VllmEngineSettings
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint
from vista.errors import VistaError
from vista.images import open_images
from vista.manifest import check_count
from vista.records import Row, read_rows
from vista.seeding import generator
from vista.shown import printable

Item = dict[str, int]  # an example in the dataset that TRL sees: only its index
Batch = dict[str, torch.Tensor]

IGNORED = -100  # label of a token that is not trained on
POOL = 4  # steps that are sorted by length together, where steps are grouped by length
ANEW = "delete it and curate again"


@dataclass(frozen=True)
class Online:
    """What a policy is trained on as it samples, besides its queries.

    Attributes:
        objective: What to minimise, and what is rewarded.
        sampling: How to sample.
        engine: What samples: transformers, in the training's own process, or vLLM beside it.
        trusted: Whether code that the checkpoint brings may run.
        start: The checkpoint that training starts from; vLLM takes its processor from it.
        dtype: The type of its weights, in which vLLM is given those that are trained.
        tokens: The step after which so many have been sampled is the last; ``None`` for no such limit.
    """

    objective: GrpoSettings
    sampling: Sampling
    engine: HfEngineSettings | VllmEngineSettings
    trusted: bool = False
    start: Path = Path()
    dtype: torch.dtype = torch.float32
    tokens: int | None = None


def read_training_set(path: Path, schema: pa.Schema) -> list[Row]:
    """Rows of a training set: ``records.EXAMPLE``, ``records.PAIR`` or ``records.ASKED``.

    Raises:
        VistaError: the file has no rows, or not as many as its manifest says; a row has no prompt, no
            response, or not the images that its prompt shows.
    """
    rows = read_rows(path, schema)
    sides = [name for name in ("completion", "chosen", "rejected") if name in schema.names]
    if not rows:
        raise VistaError(f"{path}: no rows, though its manifest says complete; {ANEW}")
    check_count(path, len(rows), "examples")
    for index, row in enumerate(rows):
        problem = _problem(row, sides)
        if problem:
            raise VistaError(f"{path}: row {index}: {problem}; {ANEW}")
    return rows


# Examples that show or repeat what the policy wrote, as text (R3V's self-refine and self-select).
REFLECTIONS = ("refine", "select")


def check_tokens(
    path: Path, rows: list[Row], checkpoint: Checkpoint, dropped: Container[str] = (), remedy: str = ANEW
) -> list[Row]:
    """The rows that the model can be trained on: all but those of ``dropped`` that spell special tokens.

    Sampled tokens are trained on as they are. Texts that are tokenised here (prompts, and responses without
    tokens) may spell special tokens: a place for an image, or the end of a turn.

    Args:
        path: The training set; named in errors.
        rows: Its rows.
        checkpoint: The model.
        dropped: Sources whose rows are left out if a response spells special tokens; a line on stderr counts
            them, and the rows whose prompts show solutions that do.
        remedy: What to do about the response of any other row.

    Raises:
        VistaError: a token is not in the vocabulary, marks images or turns, or is spelled where it must not
            be, or no row is left; names the row, and the query if a text is wrong.
    """
    spelled = cache(checkpoint.spelled)
    kept: list[Row] = []
    first = ""
    for index, row in enumerate(rows):
        for name in ("completion_ids", "chosen_ids", "rejected_ids"):
            token = checkpoint.unsayable(row.get(name) or [])
            if token is not None:
                raise VistaError(f"{path}: row {index}: column {name!r}: {token}; {ANEW}")
        found = _spelled(row, spelled)
        if found is None:
            kept.append(row)
            continue
        what, token = found
        said = f"row {index}: query {row['query_id']!r}: its {what} spells {token!r}"
        if row.get("source") not in (dropped if what == "response" else REFLECTIONS):
            do = remedy if what == "response" else "correct or remove the query"
            raise VistaError(f"{path}: {said}, a special token of {checkpoint.name}; {do}")
        first = first or said
    if rows and not kept:
        raise VistaError(f"{path}: every row spells special tokens of {checkpoint.name} ({first}); {remedy}")
    if first and os.environ.get("RANK", "0") == "0":
        left_out = f"{len(rows) - len(kept)} of {len(rows)} examples are left out"
        told = f"{path}: {left_out}, which spell special tokens of the model ({first})"
        print(printable(told), file=sys.stderr)
    return kept


def _spelled(row: Row, spelled: Callable[[str], str | None]) -> tuple[str, str] | None:
    """Which text of a row spells a special token, and the token; of responses, only those without tokens."""
    sides = [name for name in ("completion", "chosen", "rejected") if row.get(f"{name}_ids", ()) is None]
    texts = [("response", row[name][0]["content"][0]["text"]) for name in sides]
    texts += [("prompt", part["text"]) for turn in row["prompt"] for part in turn["content"] if part["text"]]
    return next(((what, token) for what, text in texts if (token := spelled(text)) is not None), None)


def _problem(row: Row, responses: Sequence[str]) -> str | None:
    parts = [part for turn in row["prompt"] for part in turn["content"] or []]
    if not any(turn["role"] == "user" for turn in row["prompt"]) or not parts:
        return "column 'prompt' holds no question"
    shown = sum(part["type"] == "image" for part in parts)
    if shown != len(row["images"]):
        return f"column 'images' holds {len(row['images'])} images, but the prompt shows {shown}"
    for name in responses:
        turns = row[name]
        if len(turns) != 1 or not turns[0]["content"] or turns[0]["content"][0]["text"] is None:
            return f"column {name!r} is not one turn with a text"
        if row[f"{name}_ids"] == [] and not row.get(f"{name}_finished", True):
            return f"column '{name}_ids' is empty, and the response did not end: there is nothing to train on"
    return None


# torch's samplers draw from the global random state, which anything else that draws from it shifts. This
# order depends only on the seed and the epoch.
def shuffled(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, strategy: SamplingStrategy = "random"
) -> list[int]:
    """Every index once: the first ``batch_size`` are the epoch's first step, and so on.

    A smaller last step is the last, and any indices may be in it. Within a step the longest come first:
    the optimiser sees the same step, and the forward passes that it is cut into are padded less.

    Args:
        lengths: Response tokens of each example.
        batch_size: Examples in a step.
        seed: Of the run.
        epoch: Each has an order of its own.
        strategy: ``random``: every step is drawn uniformly. ``group_by_length``: a step has similar lengths,
            since pools of ``POOL`` random steps are sorted by length and cut into steps, which are shuffled.
    """
    random = generator("training order", seed, epoch)
    order = random.permutation(len(lengths))
    by_length = np.asarray(lengths)
    starts = np.arange(0, len(order), batch_size)
    if strategy == "group_by_length":
        full = len(order) - len(order) % batch_size
        for start in range(0, full, POOL * batch_size):
            pool = order[start : min(start + POOL * batch_size, full)]
            order[start : start + len(pool)] = pool[np.argsort(by_length[pool], kind="stable")]
        starts[: full // batch_size] = random.permutation(starts[: full // batch_size])
    steps = [order[start : start + batch_size] for start in starts]
    return [int(index) for step in steps for index in step[np.argsort(-by_length[step], kind="stable")]]


class StepSampler(Sampler[int]):
    """``shuffled`` for every epoch, then fillers that do not count in the loss.

    Each process needs a part of every forward pass. Where the last pass would be smaller, accelerate
    repeats examples. Here it is filled up with the index ``len(lengths)``, so that the step is the same on
    any number of processes.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        together: int = 1,
        strategy: SamplingStrategy = "random",
    ) -> None:
        """All but ``together`` are arguments of ``shuffled``.

        Args:
            lengths: Response tokens of each example.
            batch_size: Examples in a step.
            seed: Of the run.
            together: Examples in one forward pass of all processes; 1 fills nothing up.
            strategy: How steps are drawn.
        """
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.fillers = -len(lengths) % together
        self.strategy = strategy
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths) + self.fillers

    def __iter__(self) -> Iterator[int]:
        yield from shuffled(self.lengths, self.batch_size, self.seed, self.epoch, self.strategy)
        yield from [len(self.lengths)] * self.fillers

    def set_epoch(self, epoch: int) -> None:
        """Switch to the order of ``epoch``."""
        self.epoch = epoch


class Prompts:
    """Encoded prompts, each encoded once while there is room to keep it.

    The examples of a query share one prompt, except those that also show solutions. Prompts that do not
    fit into ``budget`` bytes, such as those with large images, are encoded whenever they are needed.
    """

    def __init__(self, processor: Any, budget: int = 2 * 1024**3) -> None:
        self.processor = processor
        self.budget = budget
        self.kept: dict[tuple[str, str], chat.Prompt] = {}

    def of(self, rows: Sequence[Row]) -> list[chat.Prompt]:
        """The prompts of training rows; the processor sees those together that were not kept.

        Raises:
            VistaError: an image cannot be decoded, or the processor refuses the prompt; names the query.
        """
        keys = [(row["query_id"], json.dumps(row["prompt"])) for row in rows]
        found = {key: self.kept[key] for key in keys if key in self.kept}
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
        asked = [(row["prompt"], open_images(row)) for row in new.values()]
        made = chat.encode_named(self.processor, [query_id for query_id, _ in new], asked)
        for (key, row), encoded in zip(new.items(), made, strict=True):
            found[key] = prompt = replace(encoded, open_images=partial(open_images, row))
            size = sum(value.numel() * value.element_size() for value in prompt.image_features.values())
            if size <= self.budget:
                self.budget -= size
                self.kept[key] = prompt
        return [found[key] for key in keys]


class Responses:
    """The tokens of responses, from sampled tokens or from gold text; what ended has an end token."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.processor = checkpoint.processor
        self.end = checkpoint.end_ids[0]

    def of(
        self, ids: Sequence[int] | None, turns: Sequence[chat.Message], finished: bool = True
    ) -> list[int]:
        """Tokens to train on.

        Args:
            ids: Tokens as sampled, without the end token; ``None`` for gold text.
            turns: The assistant's turn; its text is tokenised when there are no tokens.
            finished: Whether the response ended; one that was cut at the length limit gets no end token.
        """
        if ids is None:
            ids = chat.gold_ids(self.processor, turns[0]["content"][0]["text"])
        return [*ids, self.end] if finished else list(ids)


class _Collator:
    """Rows by index. The index after the last row means a filler: a row that is not trained on."""

    lengths: list[int]  # response tokens of each row

    def __init__(self, rows: Sequence[Row], checkpoint: Checkpoint) -> None:
        self.rows = rows
        self.checkpoint = checkpoint  # nothing is computed with it here: a worker may have no GPU
        self.prompts = Prompts(checkpoint.processor)

    def row_of(self, index: int) -> int:
        """The row at ``index``; for a filler the shortest one, which costs least."""
        return index if index < len(self.rows) else self.lengths.index(min(self.lengths))

    def stack(self, items: Sequence[Item], *sides: Sequence[Sequence[int]]) -> Batch:
        """Stack the rows of ``items`` with their responses from each side; a filler has no labels."""
        indices = [item["index"] for item in items]
        real = [index < len(self.rows) for index in indices]
        at = [self.row_of(index) for index in indices]
        rows = [self.rows[index] for index in at] * len(sides)
        batch = stack(rows, [side[index] for side in sides for index in at], self.prompts, self.checkpoint)
        in_response = batch.pop("response_mask") & torch.tensor(real * len(sides))[:, None]
        batch["labels"] = batch["input_ids"].masked_fill(~in_response, IGNORED)
        return batch


class ExampleCollator(_Collator):
    """Batches of ``records.EXAMPLE`` rows: model inputs with labels on the response tokens."""

    def __init__(self, rows: Sequence[Row], checkpoint: Checkpoint) -> None:
        super().__init__(rows, checkpoint)
        responses = Responses(checkpoint)
        self.responses = [responses.of(row["completion_ids"], row["completion"]) for row in rows]
        self.lengths = [len(response) for response in self.responses]

    def __call__(self, items: Sequence[Item]) -> Batch:
        """Stack the examples named by ``items``; right-padded."""
        return self.stack(items, self.responses)


class PairCollator(_Collator):
    """Batches of ``records.PAIR`` rows in TRL's layout: all chosen, then all rejected."""

    # Log-probabilities of chosen and rejected under the reference model [pairs, 2], once computed.
    reference: torch.Tensor | None = None

    def __init__(self, rows: Sequence[Row], checkpoint: Checkpoint) -> None:
        super().__init__(rows, checkpoint)
        responses = Responses(checkpoint)
        self.chosen, self.rejected = (
            [responses.of(row[f"{side}_ids"], row[side], row[f"{side}_finished"]) for row in rows]
            for side in ("chosen", "rejected")
        )
        self.lengths = [
            max(len(chosen), len(rejected))
            for chosen, rejected in zip(self.chosen, self.rejected, strict=True)
        ]

    def __call__(self, items: Sequence[Item]) -> Batch:
        """Stack the pairs named by ``items``; right-padded."""
        batch = self.stack(items, self.chosen, self.rejected)
        if self.reference is not None:
            batch["reference"] = self.reference[[self.row_of(item["index"]) for item in items]]
        return batch


def stack(
    rows: Sequence[Row], responses: Sequence[Sequence[int]], prompts: Prompts, checkpoint: Checkpoint
) -> Batch:
    """``batching.collate`` of the rows' prompts with ``responses``.

    Raises:
        VistaError: an image cannot be decoded, or a sequence does not fit the model's context.
    """
    encoded = prompts.of(rows)
    for row, prompt, response in zip(rows, encoded, responses, strict=True):
        chat.check_fits(row, len(prompt), len(response), checkpoint.context)
    return collate(encoded, responses, checkpoint.pad_id)
