"""Caches of prompts: repeated for several responses, and joined where the prompts are of unequal lengths."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

# Layers that keep keys and values of single tokens. What linear attention keeps is of all tokens together.
OF_TOKENS = (DynamicLayer, DynamicSlidingWindowLayer)


def of_tokens(model: Any) -> bool:
    """Whether all layers of a model's cache keep keys and values of single tokens."""
    return all(type(layer) in OF_TOKENS for layer in DynamicCache(config=model.config).layers)


def repeated(cache: DynamicCache, owners: torch.Tensor) -> DynamicCache:
    """A cache with a row for each of ``owners``, rows of ``cache``, which stays as it is.

    ``reorder_cache`` is what layers of every kind have: full attention, sliding windows, linear attention.
    """
    made = copy.deepcopy(cache)
    made.reorder_cache(owners)
    return made


def joined(caches: Sequence[DynamicCache], rows: Sequence[int]) -> tuple[DynamicCache, torch.Tensor]:
    """Caches of several lengths, each of so many ``rows``, as one, aligned at the end; they are given up.

    So no prompt is padded, only the keys and values that were made of it.

    Returns:
        The cache, and its mask [rows, length], 0 before the shorter ones.
    """
    first = caches[0]
    lengths = [cache.get_seq_length() for cache in caches]
    for number, layer in enumerate(first.layers):
        if not layer.is_initialized:  # it looks at another layer's keys
            continue
        parts = [cache.layers[number] for cache in caches]
        layer.keys = _aligned([part.keys for part in parts])
        layer.values = _aligned([part.values for part in parts])
        for part in parts[1:]:
            part.reset()  # frees its memory
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = max(lengths)
    shapes = zip(rows, lengths, strict=True)
    masks = [torch.ones((*shape, 1), dtype=torch.long, device=first.layers[0].device) for shape in shapes]
    return first, _aligned(masks)[..., 0]


def _aligned(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """``parts``, [rows, …, length, width] each, aligned at the ends of their lengths; zeros before them."""
    longest = max(part.shape[-2] for part in parts)
    rows = sum(map(len, parts))
    whole = parts[0].new_zeros((rows, *parts[0].shape[1:-2], longest, parts[0].shape[-1]))
    start = 0
    for part in parts:
        whole[start : start + len(part), ..., longest - part.shape[-2] :, :] = part
        start += len(part)
    return whole
