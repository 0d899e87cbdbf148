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


def middle(made: Checkpoint, batch_size: int) -> torch.Tensor:
    return torch.tensor(attention_scores(made, *shared(made), [1], batch_size))


def every_layer(made: Checkpoint, batch_size: int) -> torch.Tensor:
    return torch.tensor(attention_scores(made, *shared(made), LAYERS, batch_size))


def shared_logprobs(made: Checkpoint, batch_size: int) -> torch.Tensor:
    prompts, _, responses = shared(made)
    rows = [row for row, response in enumerate(responses) if response]
    own = [prompts[row] for row in rows], [responses[row] for row in rows]
    return torch.tensor(mean_logprobs(made, *own, batch_size))


def logprobs(made: Checkpoint, batch_size: int) -> torch.Tensor:
    prompts, _, responses = material(made)
    return torch.tensor(mean_logprobs(made, prompts, responses, batch_size))


def shared(made: Checkpoint) -> tuple[list[Prompt], list[list[int]], list[list[int]]]:
    """Eight responses, one of them empty, to each of three prompts, one without an image."""
    prompts, kinds, responses = [], [], []
    for number in range(3):
        asked = query(number, words=30 + 8 * number, size=[SQUARE, STRIP, (56, 40)][number])
        if number == 1:
            asked["images"] = []
        prompt = encode_query(made.processor, asked)
        prompts += [prompt] * 8
        kinds += [segments(made.processor, messages(asked), prompt)] * 8
        responses += [[20 + (number + 7 * count + place) % 30 for place in range(count)] for count in LENGTHS]
    return prompts, kinds, responses


LENGTHS = (9, 0, 3, 3, 13, 1, 7, 5)
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


# --- a prompt with several responses ---

SHARED = {
    "middle layer": (middle, 2e-6),
    "every layer": (every_layer, 2e-6),
    "log-probabilities": (shared_logprobs, 1e-5),
}
every_shared = pytest.mark.parametrize("what", SHARED)


def tokens_read(made: Checkpoint) -> list[int]:
    """Collects the positions of every pass through the decoder."""
    sizes: list[int] = []

    def count(_module: Any, _inputs: Any, keywords: dict[str, Any]) -> None:
        sizes.append(keywords["input_ids"].numel())

    made.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    return sizes


@every_shared
@every_architecture
def test_a_prompt_is_read_once_for_all_its_responses(architecture: str, what: str) -> None:
    read, tolerance = SHARED[what]
    alone = read(checkpoint(architecture), 1)
    made = own_checkpoint(architecture, padding=True)
    sizes = tokens_read(made)
    for batch_size in (64, 3):
        sizes.clear()
        torch.testing.assert_close(read(made, batch_size), alone, atol=tolerance, rtol=0)
        prompts, _, responses = shared(made)
        assert sum(sizes) < 0.5 * sum(map(len, prompts)) + sum(map(len, responses))
    assert torch.equal(read(made, 64), read(made, 64))


@every_architecture
def test_predictions_are_the_same_where_a_prompt_is_read_once(architecture: str) -> None:
    made = checkpoint(architecture)
    prompts, _, responses = shared(made)
    found = read_predictions(replace(made, padding=True), prompts, responses, 3)
    assert found == read_predictions(made, prompts, responses, 1)
    assert [len(read.ranks) for read in found] == [*LENGTHS] * 3


@every_architecture
def test_an_empty_response_is_scored_at_the_last_row_of_a_prompt_that_is_read_once(architecture: str) -> None:
    made = replace(checkpoint(architecture), padding=True)
    found = attention_scores(made, *shared(made), [1], 64)
    for number in range(3):
        assert sum(found[8 * number + 1][0]) == pytest.approx(1.0, abs=1e-5)
        assert (found[8 * number + 1][0][1] == 0) == (number == 1), "only where there is an image"


@every_shared
def test_whichever_pass_runs_out_of_memory_what_is_read_is_the_same(what: str) -> None:
    read, tolerance = SHARED[what]
    counting = Starvation()
    expected = read(counting.of(own_checkpoint("qwen2.5-vl", padding=True)), 8)
    for at in range(len(counting.passes)):
        starved = Starvation(at=at)
        found = read(starved.of(own_checkpoint("qwen2.5-vl", padding=True)), 8)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
        assert starved.failures == 1


def test_without_padding_every_row_is_read_whole() -> None:
    made = own_checkpoint("internvl")
    sizes = tokens_read(made)
    middle(made, 64)
    prompts, _, responses = shared(made)
    assert sum(sizes) == sum(map(len, prompts)) + sum(map(len, responses))
