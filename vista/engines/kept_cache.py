"""A key-value cache that is written in place, in memory that is kept from batch to batch.

transformers' own dynamic cache copies itself into fresh memory at every token, which costs more
than a small model's arithmetic. Serves ``hf.HfEngine``.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class Arena:
    """Memory by name, kept and handed out again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}

    def take(self, name: tuple[object, ...], shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """An uninitialised tensor of ``shape``; what ``name`` was given before is overwritten."""
        size = 1
        for length in shape:
            size *= length
        kept = self._kept.get(name)
        if kept is None or kept.numel() < size or kept.dtype != like.dtype or kept.device != like.device:
            self._kept.pop(name, None)  # freed before its successor is allocated
            kept = self._kept[name] = like.new_empty(size)
        return kept[:size].view(shape)

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()


class KeptLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [rows, heads, length, width] inside larger buffers."""

    def __init__(
        self, layer: DynamicLayer, owners: torch.Tensor, room: int, arena: Arena, number: int
    ) -> None:
        super().__init__()
        rows, (_, heads, self.length, _) = len(owners), layer.keys.shape
        self.is_initialized = True
        self.dtype, self.device = layer.keys.dtype, layer.keys.device
        self.rows = rows
        self.buffers = []
        for name, states in (("keys", layer.keys), ("values", layer.values)):
            shape = (rows, heads, self.length + room, states.shape[-1])
            buffer = arena.take((number, name), shape, states)
            buffer[:, :, : self.length] = states.index_select(0, owners)
            self.buffers.append(buffer)
        self._point()

    def _point(self) -> None:
        """Show the part of the buffers that is in use."""
        self.keys, self.values = (buffer[: self.rows, :, : self.length] for buffer in self.buffers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states behind the old ones."""
        end = self.length + key_states.shape[-2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[: self.rows, :, self.length : end] = states
        self.length = end
        self._point()
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows ``indices``, in this order; copies only rows that move."""
        moved = (indices != torch.arange(len(indices), device=indices.device)).nonzero()[:, 0]
        for buffer in self.buffers:
            used = buffer[:, :, : self.length]
            used[moved] = used[indices[moved]]
        self.rows = len(indices)
        self._point()


def repeat(cache: DynamicCache, owners: torch.Tensor, room: int, arena: Arena) -> Cache:
    """A cache with a row for each of ``owners``, rows of ``cache``, and room to grow in place.

    ``cache`` stays as it is. Layers that are not plain attention (sliding windows, recurrent
    states) keep transformers' own class.

    Args:
        cache: The cache of a prefill.
        owners: [rows] rows of ``cache``.
        room: Positions that may yet be written.
        arena: Whose memory to use; the last cache made with it is overwritten.
    """
    layers: list[Any] = []
    for number, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            layers.append(KeptLayer(layer, owners, room, arena, number))
        else:
            own = copy.copy(layer)
            own.batch_select_indices(owners)
            layers.append(own)
    return Cache(layers=layers)
