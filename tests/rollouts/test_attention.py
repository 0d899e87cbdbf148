"""Attention scores against eager attention, summed by hand, on all three architectures."""

from __future__ import annotations

import pytest
import torch

from tests.nano import ARCHITECTURES, SQUARE, STRIP, own_checkpoint, query
from vista.chat import Prompt, encode_query, messages
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint
from vista.errors import VistaError
from vista.rollouts import score
from vista.rollouts.score import attention_scores, reading, row_attention, segment_attention
from vista.segments import segments

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def material(made: Checkpoint) -> tuple[list[Prompt], list[list[int]], list[list[int]]]:
    """Prompts of several lengths and image shapes, their segments, and responses."""
    prompts, kinds, responses = [], [], []
    for number in range(10):
        asked = query(number, words=3 + number % 4, size=STRIP if number % 3 == 0 else SQUARE)
        prompt = encode_query(made.processor, asked)
        prompts.append(prompt)
        kinds.append(segments(made.processor, messages(asked), prompt))
        responses.append([20 + (number * 7 + i) % 30 for i in range(8 - number % 4)])
    return prompts, kinds, responses


def by_hand(made: Checkpoint, prompt: Prompt, kinds: list[int], response: list[int]) -> list[list[float]]:
    """Whole attention matrices of the eager implementation, summed entry by entry."""
    batch = collate([prompt], [response], made.pad_id)
    del batch["response_mask"]
    made.model.set_attn_implementation("eager")
    with torch.no_grad():
        matrices = made.model(**batch, output_attentions=True, use_cache=False).attentions
    made.model.set_attn_implementation("sdpa")
    assert len(matrices) == 3
    values = []
    for matrix in matrices:
        sums = [0.0, 0.0, 0.0]
        for head in matrix[0].tolist():
            for row in range(len(prompt), len(prompt) + len(response)):
                for position, kind in enumerate(kinds):
                    sums[kind] += head[row][position]
        heads = matrix.shape[1]
        values.append([total / heads / len(response) for total in sums])
    return values


@every_architecture
def test_scores_equal_eager_attention_summed_by_hand(architecture: str) -> None:
    made = own_checkpoint(architecture)
    prompts, kinds, responses = material(made)
    found = attention_scores(made, prompts, kinds, responses, [0, 1, 2], batch_size=4)
    for index in range(len(prompts)):
        expected = by_hand(made, prompts[index], kinds[index], responses[index])
        torch.testing.assert_close(torch.tensor(found[index]), torch.tensor(expected), atol=1e-5, rtol=1e-5)
    shares = torch.tensor(found)[:, :, 1] / torch.tensor(found).sum(2)
    assert shares.std() > 0.01  # attention far from uniform: the comparison means something


@every_architecture
def test_scores_do_not_depend_on_the_batch_size_or_the_chunks(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = own_checkpoint(architecture)
    whole = torch.tensor(attention_scores(made, *material(made), [0, 1, 2], batch_size=64))
    alone = torch.tensor(attention_scores(made, *material(made), [0, 1, 2], batch_size=1))
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=0)
    monkeypatch.setattr(score, "CHUNK", 500)
    chunks = torch.tensor(attention_scores(made, *material(made), [0, 1, 2], batch_size=64))
    torch.testing.assert_close(whole, chunks, atol=1e-5, rtol=0)


def test_the_pass_stops_at_the_last_layer_asked_for() -> None:
    made = own_checkpoint("qwen3-vl")
    every = torch.tensor(attention_scores(made, *material(made), [0, 1, 2], batch_size=4))
    ran: list[int] = []
    for number, layer in enumerate(made.model.get_decoder().layers):
        layer.mlp.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
    middle = torch.tensor(attention_scores(made, *material(made), [1], batch_size=4))
    torch.testing.assert_close(every[:, 1:2], middle)
    assert set(ran) == {0}


def test_a_response_without_tokens_is_scored_at_the_last_row_of_the_prompt() -> None:
    made = own_checkpoint("internvl")
    prompts, kinds, _ = material(made)
    found = attention_scores(made, prompts[:1], kinds[:1], [[]], [1], batch_size=1)
    assert sum(found[0][0]) == pytest.approx(1.0, abs=1e-5)  # nothing but the prompt to look at


def test_the_model_is_left_as_it_was_even_after_an_error() -> None:
    made = own_checkpoint("qwen2.5-vl")
    with pytest.raises(RuntimeError, match="stop"), reading(made.model, [0]):
        raise RuntimeError("stop")
    assert made.model.get_decoder().config._attn_implementation == "sdpa"
    assert score.IMPLEMENTATION not in score.ALL_ATTENTION_FUNCTIONS


def test_attention_that_cannot_be_read_is_refused() -> None:
    made = own_checkpoint("internvl")
    prompts, kinds, responses = material(made)
    with pytest.raises(VistaError, match=r"layers \[7\] cannot be read"):
        attention_scores(made, prompts, kinds, responses, [1, 7], batch_size=4)


@pytest.mark.parametrize("boolean", [True, False])
def test_a_mask_beyond_causality_is_respected(boolean: bool) -> None:
    random = torch.Generator().manual_seed(0)
    query_states = torch.randn(2, 4, 6, 8, generator=random)
    key_states = torch.randn(2, 2, 6, 8, generator=random)
    allowed = torch.ones(6, 6, dtype=torch.bool).tril() & torch.ones(6, 6, dtype=torch.bool).triu(-2)
    scores = query_states @ key_states.repeat_interleave(2, 1).transpose(-1, -2) * 0.5
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
    rows = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]], dtype=torch.bool)
    marks = torch.eye(3)[torch.tensor([[0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 2, 2]])]
    expected = torch.stack([(weights[b, :, rows[b]].mean((0, 1)) @ marks[b]) for b in range(2)])
    mask = allowed if boolean else torch.zeros(6, 6).masked_fill(~allowed, -torch.inf)
    found = segment_attention(query_states, key_states, 0.5, mask[None, None], rows, marks)
    torch.testing.assert_close(found, expected)
    # Row by row, the same before the mean over rows; nothing on the others.
    single = row_attention(query_states, key_states, 0.5, mask[None, None], rows, marks)
    torch.testing.assert_close(single.sum(1) / rows.sum(1, keepdim=True), expected)
    torch.testing.assert_close(single[0, 3], weights[0, :, 3].mean(0) @ marks[0])
    assert not single[~rows].any()
