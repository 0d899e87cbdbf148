"""From the rows of a training set to batches of tensors. It serves ``vista train``.

A response is trained on as the tokens that were sampled, never as text tokenised again, with
the end token after it; only gold text has no tokens and is tokenised here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from vista import chat
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint
from vista.images import open_images
from vista.records import Row

Item = dict[str, int]  # what the dataset that TRL sees holds of an example: its index
Batch = dict[str, torch.Tensor]

IGNORED = -100  # label of a token that is not trained on


class Prompts:
    """Encoded prompts, each encoded once as long as there is room to keep it.

    The examples of a query share one prompt, but for those that show solutions as well. What does
    not fit into ``budget`` bytes, as with large images, is encoded anew whenever it is needed.
    """

    def __init__(self, processor: Any, budget: int = 2 * 1024**3) -> None:
        self.processor = processor
        self.budget = budget
        self.kept: dict[tuple[str, str], chat.Prompt] = {}

    def of(self, row: Row) -> chat.Prompt:
        """The prompt of a training row."""
        key = row["query_id"], json.dumps(row["prompt"])
        if key in self.kept:
            return self.kept[key]
        prompt = chat.encode(self.processor, row["prompt"], open_images(row))
        size = sum(value.numel() * value.element_size() for value in prompt.image_features.values())
        if size <= self.budget:
            self.budget -= size
            self.kept[key] = prompt
        return prompt


class Responses:
    """Response tokens with the end token, from sampled tokens or from gold text."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.processor = checkpoint.processor
        self.end = checkpoint.end_ids[0]

    def of(self, ids: Sequence[int] | None, turns: Sequence[chat.Message]) -> list[int]:
        """Tokens to train on.

        Args:
            ids: Tokens as sampled, without the end token; ``None`` for gold text.
            turns: The assistant's turn, whose text counts when there are no tokens.
        """
        if ids is None:
            ids = chat.gold_ids(self.processor, turns[0]["content"][0]["text"])
        return [*ids, self.end]


class _Collator:
    """Rows by index. The index after the last stands for a filler: a row that is not trained on."""

    lengths: list[int]  # response tokens of each row

    def __init__(self, rows: Sequence[Row], checkpoint: Checkpoint) -> None:
        self.rows = rows
        self.checkpoint = checkpoint
        self.prompts = Prompts(checkpoint.processor)

    def row_of(self, index: int) -> int:
        """The row that stands at ``index``; for a filler the shortest one, which costs least."""
        return index if index < len(self.rows) else self.lengths.index(min(self.lengths))

    def stack(self, items: Sequence[Item], *sides: Sequence[Sequence[int]]) -> Batch:
        """Stack the rows of ``items`` with their responses of each side; a filler has no labels."""
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

    # Log-probabilities of chosen and rejected under the reference model [pairs, 2], once taken.
    reference: torch.Tensor | None = None

    def __init__(self, rows: Sequence[Row], checkpoint: Checkpoint) -> None:
        super().__init__(rows, checkpoint)
        responses = Responses(checkpoint)
        self.chosen = [responses.of(row["chosen_ids"], row["chosen"]) for row in rows]
        self.rejected = [responses.of(row["rejected_ids"], row["rejected"]) for row in rows]
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
    encoded = [prompts.of(row) for row in rows]
    for row, prompt, response in zip(rows, encoded, responses, strict=True):
        chat.check_fits(row, len(prompt), len(response), checkpoint.context)
    return collate(encoded, responses, checkpoint.pad_id)
