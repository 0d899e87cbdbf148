"""What a policy reads from rows of unequal lengths in one batch is what it reads from each row alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from tests.nano import ARCHITECTURES, SQUARE, STRIP, checkpoint, own_checkpoint, query
from tests.starved import Starvation
from vista.chat import Prompt, encode_query, messages
from vista.engines import batching
from vista.engines.checkpoints import Checkpoint
from vista.resamplers.prefix import critical_tokens, read_predictions
from vista.rollouts import score
from vista.rollouts.gains import mean_logprobs
from vista.rollouts.score import attention_scores
from vista.segments import INSTRUCTION, VISION, segments

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
COUNT = 15
LAYERS = [0, 1, 2]


def material(made: Checkpoint) -> tuple[list[Prompt], list[list[int]], list[list[int]]]:
    """Prompts of many lengths, some without an image, their segments, and responses of 1 to 17 tokens."""
    prompts, kinds, responses = [], [], []
    for number in range(COUNT):
        asked = query(number, words=3 + 2 * number % 7, size=[SQUARE, STRIP, (56, 40)][number % 3])
        if number % 6 == 5:
            asked["images"] = []
        prompt = encode_query(made.processor, asked)
        prompts.append(prompt)
        kinds.append(segments(made.processor, messages(asked), prompt))
        responses.append([20 + (number * 7 + place) % 30 for place in range(1 + 5 * number % 17)])
    return prompts, kinds, responses


def scores(made: Checkpoint, batch_size: int) -> torch.Tensor:
    return torch.tensor(attention_scores(made, *material(made), LAYERS, batch_size))


def logprobs(made: Checkpoint, batch_size: int) -> torch.Tensor:
    prompts, _, responses = material(made)
    return torch.tensor(mean_logprobs(made, prompts, responses, batch_size))


READERS = {"scores": (scores, 2e-6), "log-probabilities": (logprobs, 1e-5)}
every_reader = pytest.mark.parametrize("what", READERS)


@every_reader
@every_architecture
def test_rows_of_unequal_lengths_are_read_together_and_as_alone(architecture: str, what: str) -> None:
    read, tolerance = READERS[what]
    counting = Starvation()
    made = counting.of(own_checkpoint(architecture))
    alone = read(made, 1)
    assert counting.passes == [1] * COUNT
    counting.passes.clear()
    together = read(replace(made, padding=True), COUNT)
    torch.testing.assert_close(together, alone, atol=tolerance, rtol=0)
    assert sum(counting.passes) == COUNT
    assert len(counting.passes) <= 5
    counting.passes.clear()
    read(made, COUNT)
    assert len(counting.passes) > 2 * 5


@every_architecture
def test_predictions_and_critical_tokens_are_those_of_each_row_alone(architecture: str) -> None:
    made = checkpoint(architecture)
    prompts, _, responses = material(made)
    padding = replace(made, padding=True)
    assert read_predictions(padding, prompts, responses, COUNT) == read_predictions(
        made, prompts, responses, 1
    )
    found = critical_tokens(padding, prompts, responses, 5, COUNT)
    assert found == critical_tokens(made, prompts, responses, 5, 1)
    assert any(found)


@every_architecture
def test_padding_counts_as_no_segment(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, ...]] = []
    own = score.AttentionReader.read

    def noted(self: Any, batch: dict[str, torch.Tensor], rows: torch.Tensor, marks: torch.Tensor) -> Any:
        seen.append((batch["input_ids"], rows.clone(), marks))
        return own(self, batch, rows, marks)

    monkeypatch.setattr(score.AttentionReader, "read", noted)
    made = replace(checkpoint(architecture), padding=True)
    prompts, kinds, responses = material(made)
    responses[3] = []  # read at the last row of its prompt, not of the batch
    values = attention_scores(made, prompts, kinds, responses, [1], COUNT)
    assert sum(values[3][0]) == pytest.approx(1.0, abs=1e-5)
    padded = 0
    for ids, rows, marks in seen:
        for row, own_rows, own_marks in zip(ids.tolist(), rows, marks, strict=True):
            (number,) = [
                index
                for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
                if row[: len(prompt) + len(response)] == [*prompt.input_ids, *response]
            ]
            length, end = len(prompts[number]), len(prompts[number]) + len(responses[number])
            padded += len(row) - end
            assert own_marks.sum(1).tolist() == [1.0] * length + [0.0] * (len(row) - length)
            assert own_marks[:, VISION].sum() == kinds[number].count(VISION)
            assert own_marks[:, INSTRUCTION].sum() == kinds[number].count(INSTRUCTION)
            assert own_rows.nonzero()[:, 0].tolist() == [*range(length, end)] or [length - 1]
    assert padded


@every_reader
def test_no_more_than_its_share_of_a_batch_is_padding(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = {}
    for share in (0.0, 0.05, 0.2):
        monkeypatch.setattr("vista.engines.forced.PADDED_READING", share)
        counting = Starvation()
        made = replace(counting.of(own_checkpoint("internvl")), padding=True)
        READERS[what][0](made, COUNT)
        passes[share] = len(counting.passes)
    assert passes[0.0] > passes[0.05] >= passes[0.2]
    assert batching.PADDED_READING < batching.PADDED_DECODING < 1


@every_reader
@every_architecture
def test_out_of_memory_halves_batches_of_unequal_lengths_too(architecture: str, what: str) -> None:
    read, tolerance = READERS[what]
    expected = read(own_checkpoint(architecture), 1)
    starved = Starvation(rows=2)
    made = replace(starved.of(own_checkpoint(architecture)), padding=True)
    torch.testing.assert_close(read(made, COUNT), expected, atol=tolerance, rtol=0)
    assert starved.failures >= 1
    assert max(starved.passes[-3:]) <= 2
    again = partial(read, replace(own_checkpoint(architecture), padding=True), COUNT)
    assert torch.equal(again(), again())
