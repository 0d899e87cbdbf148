"""Batches: what collate stacks, and how rows are grouped."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.nano import checkpoint
from vista.chat import Prompt
from vista.engines.batching import BatchSize, apply_to_rows, collate, near_length
from vista.engines.forced import by_length, read_forced

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
    for group in (by_length, near_length):
        batches = list(group(lengths, size))
        assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
        assert all(0 < len(batch) <= size for batch in batches)
    assert all(len({lengths[index] for index in batch}) == 1 for batch in by_length(lengths, size))


def test_forced_batches_hold_rows_of_equal_length_and_no_padding() -> None:
    prompts, responses = [SHORT, LONG, SHORT], [[20, 21], [22], [23]]
    batch_of = BatchSize(4, "reading")
    batches = list(read_forced(checkpoint("internvl"), prompts, responses, batch_of, lambda *read: read))
    assert [rows for rows, _ in batches] == [[2], [0, 1]]
    _, (rows, batch, in_response) = batches[1]
    assert rows == [0, 1]
    assert batch["input_ids"].tolist() == [[5, 6, 20, 21], [7, 8, 9, 22]]
    assert in_response.long().tolist() == [[0, 0, 1, 1], [0, 0, 0, 1]]
    assert "attention_mask" not in batch
    assert "response_mask" not in batch


def test_few_rows_come_out_of_a_layer_as_they_do_in_company() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(96, 70, bias=False)
    rows = torch.randn(40, 96)
    with torch.no_grad():
        whole = layer(rows)
        for count in (1, 2, 3, 7, 8, 9):
            assert torch.equal(apply_to_rows(layer, rows[:count]), whole[:count])
