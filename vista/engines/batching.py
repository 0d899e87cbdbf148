"""From prompts and responses of many lengths to one batch of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

import torch

from vista.chat import Prompt

Item = TypeVar("Item")

# Below so many rows the kernels for CPUs add up a matrix product in another order.
MIN_ROWS = 8


def collate(
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    pad_id: int,
    side: Literal["left", "right"] = "right",
) -> dict[str, torch.Tensor]:
    """Stack ``prompts``, each followed by its response tokens, into model inputs.

    Returns:
        ``input_ids`` and ``attention_mask`` [batch, length], ``response_mask`` [batch, length]
        (True on response tokens), per-token features [batch, length] (0 on responses and
        padding), and image features concatenated along their first axis.
    """
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    shape = (len(prompts), max(lengths))
    ids = torch.full(shape, pad_id, dtype=torch.long)
    attention = torch.zeros(shape, dtype=torch.long)
    in_response = torch.zeros(shape, dtype=torch.bool)
    features = {name: torch.zeros(shape, dtype=torch.long) for name in prompts[0].token_features}
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        start = 0 if side == "right" else shape[1] - lengths[row]
        middle, end = start + len(prompt), start + lengths[row]
        ids[row, start:end] = torch.tensor([*prompt.input_ids, *response], dtype=torch.long)
        attention[row, start:end] = 1
        in_response[row, middle:end] = True
        for name, values in features.items():
            values[row, start:middle] = torch.tensor(prompt.token_features[name])
    return {
        "input_ids": ids,
        "attention_mask": attention,
        "response_mask": in_response,
        **features,
        **image_features(prompts),
    }


def image_features(prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Image features of all prompts, concatenated along their first axis.

    Where the other axes differ (images of one query in more tiles than those of another), zeros
    fill up their ends, as transformers' processors do in batches of their own.
    """
    names = {name for prompt in prompts for name in prompt.image_features}
    return {
        name: _concatenated([p.image_features[name] for p in prompts if name in p.image_features])
        for name in sorted(names)
    }


def _concatenated(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """``parts``, filled up to one shape beyond the first axis, along the first axis."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    if any(list(part.shape[1:]) != shape for part in parts):
        grown = [part.new_zeros((part.shape[0], *shape)) for part in parts]
        for large, part in zip(grown, parts, strict=True):
            large[tuple(slice(size) for size in part.shape)] = part
        parts = grown
    return torch.cat(list(parts))


def to_device(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Every tensor of ``batch`` on ``device``."""
    return {name: value.to(device) for name, value in batch.items()}


def apply_to_rows(layer: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """``layer(rows)``, [rows, …] each, whose last bits do not depend on how few rows there are."""
    missing = MIN_ROWS - len(rows)
    if missing <= 0:
        full: torch.Tensor = layer(rows)
        return full
    padded: torch.Tensor = layer(torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))]))
    return padded[: len(rows)]


def by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of at most ``batch_size``, each of equal lengths, so without padding.

    Padding would change the last bits of a row's results with the company it is in.
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    for length in sorted(groups):
        members = groups[length]
        for start in range(0, len(members), batch_size):
            yield members[start : start + batch_size]


def near_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of ``batch_size``, sorted by length, so with little padding."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
