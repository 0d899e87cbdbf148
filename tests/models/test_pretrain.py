"""The pretraining loop."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.starved import Starvation
from vista.config import Wording
from vista.engines.batching import collate
from vista.engines.checkpoints import wrap
from vista.errors import VistaError
from vista.models.nano import build_nano
from vista.models.pretrain import (
    Corpus,
    Example,
    Recipe,
    _accumulate,
    batches,
    collect_words,
    draw_examples,
    encode_corpus,
    pretrain,
    response_loss,
    thinned,
)

Rows = list[dict[str, Any]]


def prepare(architecture: Any, rows: Rows) -> tuple[Any, Any, Corpus]:
    model, processor = build_nano(architecture, collect_words(rows, Wording()), seed=0)
    return model, processor, encode_corpus(processor, draw_examples(rows, 0, 0.3, 0.1, wording=Wording()))


def test_every_example_is_seen_once_per_pass(rows: Rows) -> None:
    _, _, corpus = prepare("internvl", rows)
    made = list(batches(corpus, Recipe(steps=20, batch_size=8, learning_rate=1e-3)))
    assert [len(batch) for batch in made] == [8] * 20
    seen = Counter(index for batch in made for index in batch)
    assert sum(seen.values()) == 160
    assert set(seen.values()) == {4}  # 160 places, 40 examples: four whole passes


def test_a_batch_size_larger_than_the_corpus_is_filled_by_repetition(rows: Rows) -> None:
    _, _, corpus = prepare("internvl", rows)
    made = list(batches(corpus, Recipe(steps=2, batch_size=100, learning_rate=1e-3)))
    assert [len(batch) for batch in made] == [100, 100]


def test_the_order_is_the_corpus_own(rows: Rows) -> None:
    _, _, corpus = prepare("internvl", rows)
    made = list(batches(corpus, Recipe(steps=6, batch_size=8, learning_rate=1e-3)))
    assert [index for batch in made for index in batch] == [*range(40), *range(8)]


def test_the_loss_is_the_mean_over_response_tokens_of_a_plain_loop(architecture: Any, rows: Rows) -> None:
    model, processor, corpus = prepare(architecture, rows)
    model.eval()
    chosen = [0, 1, 2]
    pad = processor.tokenizer.pad_token_id
    batch = collate([corpus.prompts[i] for i in chosen], [corpus.responses[i] for i in chosen], pad)
    losses = []
    with torch.no_grad():
        fast = response_loss(model, {**batch, **corpus.image_features(chosen)}).item()
        for index in chosen:
            prompt, response = corpus.prompts[index], corpus.responses[index]
            alone = collate([prompt], [response], pad)
            del alone["response_mask"]
            logits = model(**alone, **corpus.image_features([index])).logits[0]
            for position, token in enumerate(response):
                before = logits[len(prompt) + position - 1]
                losses.append(-torch.log_softmax(before, -1)[token].item())
    assert fast == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_the_parts_of_a_batch_add_up_to_its_gradient(architecture: Any, rows: Rows) -> None:
    model, processor, corpus = prepare(architecture, rows)
    pad = processor.tokenizer.pad_token_id
    indices = [*range(40), *range(10)]  # more than one part
    in_parts = _accumulate(model, corpus, indices, pad)
    expected = [p.grad.clone() if p.grad is not None else None for p in model.parameters()]
    model.zero_grad()
    batch = collate([corpus.prompts[i] for i in indices], [corpus.responses[i] for i in indices], pad)
    at_once = response_loss(model, {**batch, **corpus.image_features(indices)})
    at_once.backward()
    assert in_parts == pytest.approx(at_once.item(), rel=1e-5)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(gradient, parameter.grad, atol=1e-5, rtol=1e-3)


def test_bfloat16_rounds_products_alone_and_each_step_from_the_weights_of_the_last(
    architecture: Any, rows: Rows
) -> None:
    model, processor, corpus = prepare(architecture, rows)
    pad = processor.tokenizer.pad_token_id

    def gradient(bfloat16: bool) -> torch.Tensor:
        model.zero_grad()
        _accumulate(model, corpus, list(range(10)), pad, 4, bfloat16)
        found = [weight.grad for weight in model.parameters() if weight.grad is not None]
        assert {each.dtype for each in found} == {torch.float32}
        return torch.cat([each.flatten() for each in found])

    exact, rounded = gradient(False), gradient(True)
    assert not torch.equal(exact, rounded)
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.95
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    again = gradient(True)
    near = torch.cosine_similarity(gradient(False), again, dim=0)
    assert near > max(0.95, torch.cosine_similarity(rounded, again, dim=0))
    outcome = pretrain(model, corpus, pad, Recipe(2, 8, 2e-3, bfloat16=True, part=4))
    assert math.isfinite(outcome.final_loss)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_the_loss_falls(architecture: Any, rows: Rows) -> None:
    model, processor, corpus = prepare(architecture, rows)
    outcome = pretrain(model, corpus, processor.tokenizer.pad_token_id, Recipe(40, 8, 2e-3))
    assert outcome.final_loss < 0.5 * outcome.first_loss
    assert outcome.tokens > 40 * 8 * 8


def test_the_same_seed_gives_the_same_weights(architecture: Any, rows: Rows) -> None:
    states = []
    for _ in range(2):
        model, processor, corpus = prepare(architecture, rows)
        pretrain(model, corpus, processor.tokenizer.pad_token_id, Recipe(3, 8, 2e-3))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_loss_that_is_not_a_number_names_the_step(rows: Rows) -> None:
    model, processor, corpus = prepare("internvl", rows)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(VistaError, match=r"nano: the loss is nan at step 0 of 3; lower .* \(now 0.002\)"):
        pretrain(model, corpus, processor.tokenizer.pad_token_id, Recipe(3, 8, 2e-3), label="nano")


def test_where_little_fits_the_parts_are_smaller_and_the_steps_the_same(rows: Rows) -> None:
    states = []
    for starved in (Starvation(), Starvation(rows=8), Starvation(at=3)):
        model, processor, corpus = prepare("internvl", rows)
        starved.of(wrap(model, processor))
        pretrain(model, corpus, processor.tokenizer.pad_token_id, Recipe(2, 40, 2e-3))
        states.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
        assert starved.failures == {10**9: 0, 8: 2}.get(starved.rows, 0) or starved.at == 3
    # Muon's and Adam's first steps are little but signs, so where a gradient is almost 0 it may flip.
    for state in states[1:]:
        assert (state - states[0]).abs().gt(1e-4).float().mean() < 0.005


def test_where_not_one_example_fits_the_model_is_named(rows: Rows) -> None:
    model, processor, corpus = prepare("internvl", rows)
    starved = Starvation(rows=0)
    starved.of(wrap(model, processor))
    with pytest.raises(VistaError, match=r"^nano: out of memory while pretraining, even one at a time"):
        pretrain(model, corpus, processor.tokenizer.pad_token_id, Recipe(2, 8, 2e-3), label="nano")
    assert starved.failures == 6


def test_weights_broken_by_the_last_step_are_refused(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor, corpus = prepare("internvl", rows)
    step = torch.optim.AdamW.step

    def broken(self: Any, *arguments: Any) -> Any:
        done = step(self, *arguments)
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(torch.inf)
        return done

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with pytest.raises(VistaError, match=r"nano: weight .* is not finite after step 1; lower the model's"):
        pretrain(model, corpus, processor.tokenizer.pad_token_id, Recipe(1, 8, 2e-3), label="nano")


def test_a_loss_that_ends_far_above_its_start_is_refused(rows: Rows) -> None:
    model, processor, corpus = prepare("internvl", rows)
    with pytest.raises(VistaError, match=r"nano: the loss has risen from \d.* to \d.* in 20 steps; lower"):
        pretrain(model, corpus, processor.tokenizer.pad_token_id, Recipe(20, 8, 2.0), label="nano")


@given(length=st.integers(1, 200), count=st.integers(1, 300), seed=st.integers(0, 9))
def test_a_thinned_corpus_keeps_its_curriculum(length: int, count: int, seed: int) -> None:
    whole = [Example({"query_id": str(place)}, "original") for place in range(length)]
    kept = [int(example.row["query_id"]) for example in thinned(whole, count, seed)]
    assert len(kept) == min(count, length)
    for place, index in enumerate(kept):
        assert place * length // len(kept) <= index < (place + 1) * length // len(kept)


@pytest.mark.parametrize("kinds", range(2, 9))
@pytest.mark.parametrize("every", range(2, 9))
def test_a_thinned_corpus_has_all_kinds_of_questions_that_come_in_turn(kinds: int, every: int) -> None:
    length = kinds * every * 40
    whole = [Example({"query_id": str(place % kinds)}, "original") for place in range(length)]
    found = Counter(example.row["query_id"] for example in thinned(whole, length // every, 0))
    assert len(found) == kinds
    assert min(found.values()) > length / every / kinds / 3
