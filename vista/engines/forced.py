"""Teacher-forced inputs: prompts with given responses, in batches that need no padding.

Serves what reads a model rather than samples from it: critical tokens and attention scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from vista.chat import Prompt
from vista.engines.batching import by_length, collate, to_device
from vista.engines.checkpoints import Checkpoint


def forced_batches(
    checkpoint: Checkpoint, prompts: Sequence[Prompt], responses: Sequence[Sequence[int]], batch_size: int
) -> Iterator[tuple[list[int], dict[str, torch.Tensor], torch.Tensor]]:
    """Batches of rows of equal length, so that a row's results do not depend on its company.

    Yields:
        Indices of the rows; the model's inputs, on its device, without an attention mask (nothing
        is padded); and ``response_mask`` [rows, length], True on response tokens.
    """
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    for rows in by_length(lengths, batch_size):
        batch = collate([prompts[row] for row in rows], [responses[row] for row in rows], checkpoint.pad_id)
        del batch["attention_mask"]
        batch = to_device(batch, checkpoint.device)
        yield rows, batch, batch.pop("response_mask")
