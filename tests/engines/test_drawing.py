"""Drawing tokens by inverse CDF."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vista.engines import drawing
from vista.engines.drawing import draw, invert_cdf

NONE = torch.tensor([], dtype=torch.long)
LARGEST = math.nextafter(1.0, 0.0)


def test_the_token_is_the_one_whose_share_of_the_unit_interval_holds_the_uniform() -> None:
    probabilities = torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64)
    for uniform, token in [(0.0, 0), (0.2499, 0), (0.25, 1), (0.7499, 1), (0.75, 2), (LARGEST, 2)]:
        assert invert_cdf(probabilities, torch.tensor([uniform], dtype=torch.float64)).tolist() == [token]


@given(
    weights=st.lists(st.sampled_from([0.0, 1e-12, 0.1, 3.0]), min_size=2, max_size=12).filter(any),
    uniform=st.one_of(st.sampled_from([0.0, LARGEST]), st.floats(0.0, LARGEST)),
)
def test_a_token_of_probability_zero_never_comes(weights: list[float], uniform: float) -> None:
    probabilities = torch.tensor([weights], dtype=torch.float64)
    probabilities /= probabilities.sum()
    token = int(invert_cdf(probabilities, torch.tensor([uniform], dtype=torch.float64)))
    assert weights[token] > 0


def test_forbidden_tokens_never_come_and_do_not_count_in_the_log_probability() -> None:
    logits = torch.tensor([[50.0, 1.0, 1.0]]).repeat(100, 1)
    uniforms = torch.linspace(0, 0.999, 100, dtype=torch.float64)
    for temperature in (0.0, 0.5, 1.0):
        tokens, logprobs = draw(logits, uniforms, temperature, torch.tensor([0]))
        assert 0 not in tokens.tolist()
        assert logprobs.tolist() == pytest.approx([math.log(0.5)] * 100)


def test_log_probabilities_are_those_at_temperature_one_whatever_the_temperature() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    uniforms = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for temperature in (0.0, 0.3, 1.0, 2.0):
        tokens, logprobs = draw(logits, uniforms, temperature, NONE)
        expected = logits.double().log_softmax(1)[torch.arange(50), tokens]
        torch.testing.assert_close(logprobs, expected)


def test_temperature_zero_takes_the_likeliest_token_that_may_come() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
    tokens, _ = draw(logits, torch.full((2,), 0.9999, dtype=torch.float64), 0.0, torch.tensor([0]))
    assert tokens.tolist() == [1, 2]


def test_drawing_in_chunks_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(23, 11, generator=torch.Generator().manual_seed(0))
    uniforms = torch.rand(23, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = draw(logits, uniforms, 1.0, NONE)
    monkeypatch.setattr(drawing, "CHUNK", 30)
    parts = draw(logits, uniforms, 1.0, NONE)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])
