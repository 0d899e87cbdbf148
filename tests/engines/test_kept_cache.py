"""The in-place cache against transformers' own."""

from __future__ import annotations

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from vista.engines.kept_cache import Arena, KeptLayer, repeat


def states(rows: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 2, length, 4, generator=random), torch.randn(
        rows, 2, length, 4, generator=random
    )


def prefilled(layers: int = 2) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(layers):
        cache.update(*states(3, 5, seed=layer), layer)
    return cache


def test_it_grows_and_shrinks_as_the_dynamic_cache_does() -> None:
    cache, owners = prefilled(), torch.tensor([0, 0, 1, 2, 2])
    kept = repeat(cache, owners, room=4, arena=Arena())
    plain = [DynamicLayer() for _ in range(2)]
    for number, layer in enumerate(plain):
        layer.update(cache.layers[number].keys[owners], cache.layers[number].values[owners])
    for step, selection in enumerate([[0, 1, 2, 3, 4], [0, 4, 2], [2, 1]]):
        rows = torch.tensor(selection)
        kept.batch_select_indices(rows)
        for number, layer in enumerate(plain):
            layer.batch_select_indices(rows)
            new = states(len(rows), 1, seed=10 * step + number)
            expected, found = layer.update(*new), kept.update(*new, number)
            assert torch.equal(expected[0], found[0])
            assert torch.equal(expected[1], found[1])
        assert kept.get_seq_length() == 6 + step


def test_the_prefill_is_left_as_it_was() -> None:
    cache = prefilled()
    before = [layer.keys.clone() for layer in cache.layers]
    kept = repeat(cache, torch.tensor([1, 1]), room=1, arena=Arena())
    kept.update(*states(2, 1, seed=9), 0)
    assert all(torch.equal(old, layer.keys) for old, layer in zip(before, cache.layers, strict=True))


def test_memory_is_kept_from_one_cache_to_the_next() -> None:
    arena = Arena()
    first = repeat(prefilled(), torch.tensor([0, 1, 2]), room=4, arena=arena)
    address = first.layers[0].keys.data_ptr()
    second = repeat(prefilled(), torch.tensor([0, 1]), room=2, arena=arena)
    assert second.layers[0].keys.data_ptr() == address


def test_layers_of_another_kind_keep_their_own_class() -> None:
    cache = DynamicCache()
    cache.layers = [DynamicLayer(), DynamicSlidingWindowLayer(sliding_window=4)]
    for number in range(2):
        cache.update(*states(3, 5, seed=number), number)
    kept = repeat(cache, torch.tensor([2, 0]), room=1, arena=Arena())
    assert isinstance(kept.layers[0], KeptLayer)
    assert type(kept.layers[1]) is DynamicSlidingWindowLayer
    assert torch.equal(kept.layers[1].keys, cache.layers[1].keys[torch.tensor([2, 0])])
