"""Batches: what collate stacks, and how rows are grouped."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.nano import checkpoint, own_checkpoint
from vista.chat import Prompt
from vista.engines.batching import BatchSize, apply_to_rows, collate, near_length, packed
from vista.engines.forced import read_forced

SHORT = Prompt([5, 6], {"kind": [0, 1]}, {"pixels": torch.tensor([[1.0], [2.0]])})
LONG = Prompt([7, 8, 9], {"kind": [1, 0, 1]}, {"pixels": torch.tensor([[3.0]])})


def test_rows_are_padded_on_the_right() -> None:
    batch = collate([SHORT, LONG], [[20], [21, 22]], pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 20, 0, 0], [7, 8, 9, 21, 22]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["response_mask"].long().tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 1]]
    assert batch["kind"].tolist() == [[0, 1, 0, 0, 0], [1, 0, 1, 0, 0]]
    assert batch["pixels"].tolist() == [[1.0], [2.0], [3.0]]


def test_rows_are_padded_on_the_left() -> None:
    batch = collate([SHORT, LONG], [[20], [21, 22]], pad_id=0, side="left")
    assert batch["input_ids"].tolist() == [[0, 0, 5, 6, 20], [7, 8, 9, 21, 22]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert batch["response_mask"].long().tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 1]]
    assert batch["kind"].tolist() == [[0, 0, 0, 1, 0], [1, 0, 1, 0, 0]]


@given(lengths=st.lists(st.integers(0, 6), max_size=40), size=st.integers(1, 9))
def test_grouping_takes_every_row_once(lengths: list[int], size: int) -> None:
    equal = list(packed(lengths, size, 0.0))
    for batches in (equal, list(near_length(lengths, size)), list(packed(lengths, size, 0.3))):
        assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
        assert all(0 < len(batch) <= size for batch in batches)
    assert all(len({lengths[index] for index in batch}) == 1 for batch in equal)


@given(
    rows=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 12)), max_size=60),
    size=st.integers(1, 40),
    padded=st.sampled_from([0.0, 0.1, 0.2, 0.5]),
)
def test_padding_stays_below_its_share_and_full_batches_have_none(
    rows: list[tuple[int, int]], size: int, padded: float
) -> None:
    lengths, weights = [length for length, _ in rows], [weight for _, weight in rows]
    kinds = [("image",) if length % 2 else () for length in lengths]
    batches = list(packed(lengths, size, padded, weights=weights, kinds=kinds))
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    for batch in batches:
        count, longest = sum(weights[index] for index in batch), max(lengths[index] for index in batch)
        tokens = sum(weights[index] * lengths[index] for index in batch)
        assert count <= size or len(batch) == 1
        assert tokens >= (1 - padded) * count * longest - 1e-9
        assert [lengths[index] for index in batch] == sorted(lengths[index] for index in batch)
    alone = {tuple(batch) for batch in packed(lengths, size, 0.0, weights=weights, kinds=kinds)}
    for batch in alone:
        if sum(weights[index] for index in batch) == size:
            assert list(batch) in batches


def test_prompts_of_plausible_sizes_fill_their_batches() -> None:
    lengths = [300 + 37 * number % 900 for number in range(256)]  # nearly all differ
    assert len([*packed(lengths, 64, 0.0)]) > 200
    assert len([*packed(lengths, 64, 0.5)]) <= 6


def test_forced_batches_hold_rows_of_equal_length_and_no_padding() -> None:
    prompts, responses = [SHORT, LONG, SHORT], [[20, 21], [22], [23]]
    batch_of = BatchSize(4, "reading")
    batches = list(read_forced(checkpoint("internvl"), prompts, responses, batch_of, lambda read: read))
    assert [rows for rows, _ in batches] == [[2], [0, 1]]
    _, forced = batches[1]
    batch, in_response = forced.inputs, forced.in_response
    assert forced.rows == [0, 1]
    assert batch["input_ids"].tolist() == [[5, 6, 20, 21], [7, 8, 9, 22]]
    assert in_response.long().tolist() == [[0, 0, 1, 1], [0, 0, 0, 1]]
    assert "attention_mask" not in batch
    assert "response_mask" not in batch


def test_forced_batches_of_near_lengths_are_padded_behind_their_rows() -> None:
    ids = [[7, 8, 9, 10, 11, 12], [7, 8, 9, 10, 11]]
    prompts = [Prompt(own, {"kind": [1] * len(own)}, {}) for own in ids]
    padding = own_checkpoint("internvl", padding=True)
    ((rows, forced),) = read_forced(
        padding, prompts, [[20], [21]], BatchSize(4, "reading"), lambda read: read
    )
    batch, in_response = forced.inputs, forced.in_response
    assert rows == [1, 0]
    assert batch["input_ids"].tolist() == [[7, 8, 9, 10, 11, 21, padding.pad_id], [*ids[0], 20]]
    assert batch["kind"].tolist() == [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0]]
    assert in_response.long().tolist() == [[0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1]]
    assert "attention_mask" not in batch


def test_rows_that_lack_a_feature_have_zeros() -> None:
    batch = collate([Prompt([5], {}, {}), SHORT], [[], []], pad_id=0)
    assert batch["kind"].tolist() == [[0, 0], [0, 1]]


def test_few_rows_come_out_of_a_layer_as_they_do_in_company() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(96, 70, bias=False)
    rows = torch.randn(40, 96)
    with torch.no_grad():
        whole = layer(rows)
        for count in (1, 2, 3, 7, 8, 9):
            assert torch.equal(apply_to_rows(layer, rows[:count]), whole[:count])
