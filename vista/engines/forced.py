"""Teacher-forced inputs: prompts with given responses, in batches with no padding or little.

For everything that reads from a model rather than samples: critical tokens, attention scores, gains.

Padding is behind the responses. No token of a causal model sees what comes after it, so it needs no mask, and
positions are those of the row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from vista.chat import Prompt
from vista.engines.batching import PADDED_READING, BatchSize, collate, names_of, packed, to_device
from vista.engines.checkpoints import Checkpoint

Result = TypeVar("Result")
# From the indices of the rows, the model's inputs and ``response_mask`` to what is read from the model.
Read = Callable[[list[int], dict[str, torch.Tensor], torch.Tensor], Result]


def read_forced(
    checkpoint: Checkpoint,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    batch: BatchSize,
    read: Read[Result],
) -> Iterator[tuple[list[int], Result]]:
    """Read batches of rows of equal length or, if the checkpoint allows ``padding``, of near lengths.

    If memory runs out, a batch is read again in halves.

    Args:
        checkpoint: The model.
        prompts: The prompt of each row.
        responses: Its response tokens.
        batch: Rows per forward pass.
        read: What is done with a batch. Its inputs are on the model's device, without an attention
            mask; ``response_mask`` [rows, length] is True on response tokens.

    Yields:
        Indices of the rows, and what ``read`` made of them.

    Raises:
        VistaError: there is not enough memory for one row; names its query.
    """
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    left: list[int] = []

    def attempt() -> tuple[list[int], Result]:
        rows = left[: batch.size]
        batch.trying(names_of(prompts[row] for row in rows))
        return rows, read(rows, *forced_batch(checkpoint, prompts, responses, rows))

    for left in packed(lengths, batch.size, PADDED_READING if checkpoint.padding else 0.0):
        while left:
            rows, result = batch.until_it_fits(attempt)
            yield rows, result
            left = left[len(rows) :]


def forced_batch(
    checkpoint: Checkpoint, prompts: Sequence[Prompt], responses: Sequence[Sequence[int]], rows: Sequence[int]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The model's inputs for ``rows``, padded behind, and their ``response_mask``; see ``read_forced``."""
    batch = collate([prompts[row] for row in rows], [responses[row] for row in rows], checkpoint.pad_id)
    del batch["attention_mask"]
    batch = to_device(batch, checkpoint.device)
    return batch, batch.pop("response_mask")
