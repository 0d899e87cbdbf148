"""The sampling engine against slow, obvious versions of itself, on all architectures and a hybrid."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from tests.nano import ARCHITECTURES, SQUARE, STRIP, checkpoint, own_checkpoint, query
from vista.chat import Prompt, encode_query
from vista.engines import batching, hf
from vista.engines.base import Request, Sample
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint, wrap
from vista.engines.hf import HfEngine, draw, invert_cdf
from vista.errors import VistaError
from vista.seeding import uniforms

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
LIMIT = 24


def prompts(made: Checkpoint, count: int) -> list[Prompt]:
    """Prompts of several lengths, in two of which the image has another shape."""
    sizes = [SQUARE, STRIP]
    queries = [query(i, words=4 + i % 3, size=sizes[(i // 3) % 2]) for i in range(count)]
    return [encode_query(made.processor, q) for q in queries]


def requests(made: Checkpoint, count: int, seeds: int) -> list[Request]:
    return [
        Request(prompt, [1000 * number + seed for seed in range(seeds)])
        for number, prompt in enumerate(prompts(made, count))
    ]


def next_logits(made: Checkpoint, prompt: Prompt, response: Sequence[int]) -> torch.Tensor:
    """Logits of the next token: one full forward pass, without a cache."""
    batch = collate([prompt], [response], made.pad_id)
    del batch["response_mask"]
    with torch.no_grad():
        logits: torch.Tensor = made.model(**batch, use_cache=False).logits[0, -1].double()
    logits[made.forbidden_ids] = -torch.inf
    return logits


def slow_sample(made: Checkpoint, request: Request, seed: int, temperature: float) -> Sample:
    """One row, one full forward pass per token, a loop over the cumulative distribution."""
    numbers = uniforms(seed, LIMIT)
    response, logprob, finished = list(request.prefix), 0.0, False
    while len(response) < LIMIT and not finished:
        logits = next_logits(made, request.prompt, response)
        shares = (logits / temperature).softmax(0).tolist()
        left = numbers[len(response)]
        token = 0
        while left >= shares[token]:
            left -= shares[token]
            token += 1
        logprob += float(logits.log_softmax(0)[token])
        finished = token in made.end_ids
        if not finished:
            response.append(token)
    return Sample(response[len(request.prefix) :], logprob, finished)


@every_architecture
def test_each_sample_equals_a_row_of_its_own_without_a_cache(architecture: str) -> None:
    made = checkpoint(architecture)
    asked = requests(made, 6, 2)
    asked[3] = Request(asked[3].prompt, asked[3].seeds, prefix=[20, 21, 22])
    for temperature in (1.0, 0.7):
        for request, samples in zip(asked, HfEngine(made, 16).sample(asked, temperature, LIMIT), strict=True):
            for seed, sample in zip(request.seeds, samples, strict=True):
                expected = slow_sample(made, request, seed, temperature)
                assert sample.token_ids == expected.token_ids
                assert sample.finished == expected.finished
                assert sample.logprob == pytest.approx(expected.logprob, abs=1e-4)


@every_architecture
def test_samples_do_not_depend_on_batch_size_order_or_shard(architecture: str) -> None:
    made = checkpoint(architecture)
    asked = requests(made, 36, 6)
    whole = HfEngine(made, 640).sample(asked, 1.0, LIMIT)
    for batch_size in (1, 7):
        part = asked[:4] if batch_size == 1 else asked
        assert HfEngine(made, batch_size).sample(part, 1.0, LIMIT) == whole[: len(part)]
    order = list(range(len(asked)))
    random.Random(0).shuffle(order)
    shuffled = HfEngine(made, 64).sample([asked[index] for index in order], 1.0, LIMIT)
    assert shuffled == [whole[index] for index in order]
    engine = HfEngine(made, 640)
    shards = [engine.sample(asked[first : first + 17], 1.0, LIMIT) for first in range(0, 36, 17)]
    assert [samples for shard in shards for samples in shard] == whole


@every_architecture
def test_the_first_token_comes_as_often_as_the_softmax_says(architecture: str) -> None:
    made = checkpoint(architecture)
    prompt = prompts(made, 1)[0]
    count = 4000
    (samples,) = HfEngine(made, 2000).sample([Request(prompt, range(count))], 1.0, 1)
    tokens = [sample.token_ids[0] if sample.token_ids else -1 for sample in samples]
    expected = next_logits(made, prompt, []).softmax(0) * count
    expected_end = float(expected[made.end_ids].sum())
    expected[made.end_ids] = 0
    pairs = [(tokens.count(t), float(e)) for t, e in enumerate(expected.tolist()) if e > 0]
    pairs.append((tokens.count(-1), expected_end))
    common = [pair for pair in pairs if pair[1] >= 5]
    rare = [pair for pair in pairs if pair[1] < 5]
    merged = [(sum(o for o, _ in rare), sum(e for _, e in rare))] if rare else []
    observed, wanted = zip(*common, *merged, strict=True)
    assert sum(observed) == count
    assert stats.chisquare(observed, wanted, sum_check=False).pvalue > 1e-3


@every_architecture
def test_temperature_zero_equals_greedy_generation(architecture: str) -> None:
    made = checkpoint(architecture)
    for prompt in prompts(made, 4):
        batch = collate([prompt], [[]], made.pad_id)
        del batch["response_mask"]
        output = made.model.generate(
            **batch, do_sample=False, max_new_tokens=LIMIT, suppress_tokens=made.forbidden_ids
        )
        expected = output[0, len(prompt) :].tolist()
        (samples,) = HfEngine(made, 8).sample([Request(prompt, [1, 2])], 0.0, LIMIT)
        assert samples[0] == samples[1]
        ending = expected[-1:] if samples[0].finished else []
        assert samples[0].token_ids + ending == expected
        assert samples[0].finished == (expected[-1] in made.end_ids)


@every_architecture
def test_a_prefix_continues_the_same_stream(architecture: str) -> None:
    made = checkpoint(architecture)
    asked = requests(made, 8, 1)
    engine = HfEngine(made, 64)
    whole = [samples[0] for samples in engine.sample(asked, 1.0, LIMIT)]
    cuts = [len(sample.token_ids) // 2 for sample in whole]
    resumed = [
        Request(request.prompt, request.seeds, prefix=sample.token_ids[:cut])
        for request, sample, cut in zip(asked, whole, cuts, strict=True)
    ]
    for samples, sample, cut in zip(engine.sample(resumed, 1.0, LIMIT), whole, cuts, strict=True):
        assert samples[0].token_ids == sample.token_ids[cut:]
        assert samples[0].finished == sample.finished


def test_the_length_limit_counts_the_prefix() -> None:
    made = checkpoint("qwen2.5-vl")
    prompt = prompts(made, 1)[0]
    asked = [Request(prompt, range(30), prefix=[20] * length) for length in (0, 3, 5)]
    free, three, full = HfEngine(made, 100).sample(asked, 1.0, 5)
    assert max(len(sample.token_ids) for sample in free) == 5
    assert max(len(sample.token_ids) for sample in three) == 2
    assert full == [Sample([], 0.0, False)] * 30
    assert all(sample.finished or len(sample.token_ids) == 5 for sample in free)


def test_responses_hold_no_forbidden_and_no_end_token() -> None:
    made = checkpoint("qwen2.5-vl")
    banned = {*made.forbidden_ids, *made.end_ids}
    assert made.forbidden_ids
    for samples in HfEngine(made, 256).sample(requests(made, 20, 10), 3.0, LIMIT):
        assert all(banned.isdisjoint(sample.token_ids) for sample in samples)


def test_dropping_rows_that_have_ended_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoint("qwen2.5-vl")
    asked = requests(made, 20, 5)
    results = []
    for share in (0.0, 0.85, 1.1):  # never, as usual, after every step
        monkeypatch.setattr(hf, "CROWDED", share)
        results.append(HfEngine(made, 640).sample(asked, 1.0, LIMIT))
    assert results[0] == results[1] == results[2]


def test_more_seeds_than_the_batch_size_are_drawn_from_one_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoint("internvl")
    asked = requests(made, 3, 9)
    whole = HfEngine(made, 640).sample(asked, 1.0, LIMIT)
    engine, prefill, calls = HfEngine(made, 4), HfEngine._prefill, []

    def counted(self: HfEngine, batch: Sequence[Request]) -> object:
        calls.append(len(batch))
        return prefill(self, batch)

    monkeypatch.setattr(HfEngine, "_prefill", counted)
    assert engine.sample(asked, 1.0, LIMIT) == whole
    assert calls == [1, 1, 1]


def test_a_prompt_longer_than_the_context_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    made = own_checkpoint("qwen2.5-vl", context=40)
    monkeypatch.setattr(HfEngine, "_prefill", lambda *_: pytest.fail("work was done"))
    long = encode_query(made.processor, query(0, words=30))
    asked = [*requests(made, 2, 1), Request(long, [0])]
    with pytest.raises(VistaError, match=r"request 2.*context is 40"):
        HfEngine(made, 8).sample(asked, 1.0, 4)


def test_a_model_that_diverged_is_refused() -> None:
    made = own_checkpoint("internvl")
    with torch.no_grad():
        made.model.get_decoder().norm.weight.fill_(torch.nan)
    with pytest.raises(VistaError, match="NaN"):
        HfEngine(made, 8).sample(requests(made, 1, 2), 1.0, 4)


def test_no_requests_give_no_samples() -> None:
    assert HfEngine(checkpoint("internvl"), 8).sample([], 1.0, 4) == []


# --- batches of unequal lengths ---


def unequal(made: Checkpoint, seeds: int) -> list[Request]:
    """Prompts of many lengths, some without an image, some with a given prefix."""
    found = []
    for number in range(14):
        asked = query(number, words=3 + 2 * number % 11, size=[SQUARE, STRIP, (56, 40)][number % 3])
        if number % 5 == 4:
            asked["images"] = []
        prefix = [20, 21, 22, 23, 24][: number % 4]
        prompt = encode_query(made.processor, asked)
        found.append(Request(prompt, [100 * number + seed for seed in range(seeds)], prefix))
    return found


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the rows of every batch that is decoded."""
    decode, sizes = HfEngine._decode, []

    def noted(self: HfEngine, prefill: object, drawn: Sequence[tuple[int, int]], *more: object) -> object:
        sizes.append(len(drawn))
        return decode(self, prefill, drawn, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(HfEngine, "_decode", noted)
    return sizes


def assert_same(found: Sequence[Sequence[Sample]], alone: Sequence[Sequence[Sample]]) -> None:
    for own, expected in zip(found, alone, strict=True):
        for one, other in zip(own, expected, strict=True):
            assert (one.token_ids, one.finished) == (other.token_ids, other.finished)
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


@every_architecture
@pytest.mark.parametrize(("temperature", "seeds"), [(0.0, 1), (1.0, 3), (0.6, 2)])
def test_rows_of_unequal_lengths_share_a_batch_and_say_what_they_say_alone(
    architecture: str, temperature: float, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = checkpoint(architecture)
    asked = unequal(made, seeds)
    assert len({len(request.prompt) + len(request.prefix) for request in asked}) > 7
    alone = [HfEngine(made, 1).sample([request], temperature, LIMIT)[0] for request in asked]
    sizes = counted(monkeypatch)
    for batch_size, most in ((64, 2), (11, 6)):
        sizes.clear()
        padding = replace(made, padding=True)
        assert_same(HfEngine(padding, batch_size).sample(asked, temperature, LIMIT), alone)
        assert sum(sizes) == len(asked) * seeds
        assert len(sizes) <= most * seeds
    sizes.clear()
    HfEngine(made, 64).sample(asked, temperature, LIMIT)
    assert len(sizes) > 7


@every_architecture
def test_rows_of_unequal_lengths_are_dropped_as_they_end(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = replace(checkpoint(architecture), padding=True)
    asked = unequal(made, 2)
    results = []
    for share in (0.0, 0.85, 1.1):  # never, as usual, after every step
        monkeypatch.setattr(hf, "CROWDED", share)
        results.append(HfEngine(made, 64).sample(asked, 1.0, LIMIT))
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])
    assert len({len(sample.token_ids) for samples in results[0] for sample in samples}) > 3


def test_what_fills_a_batch_is_as_without_padding_bit_for_bit() -> None:
    made = checkpoint("qwen2.5-vl")
    prompts_ = [encode_query(made.processor, query(number, words=5)) for number in range(8)]
    odd = [encode_query(made.processor, query(20 + number, words=7 + number)) for number in range(3)]
    asked = [Request(prompt, [number]) for number, prompt in enumerate([*prompts_, *odd])]
    plain = HfEngine(made, 8).sample(asked, 1.0, LIMIT)
    padded = HfEngine(replace(made, padding=True), 8).sample(asked, 1.0, LIMIT)
    assert padded[:8] == plain[:8]


def test_the_same_requests_give_the_same_bits_again() -> None:
    made = replace(checkpoint("qwen3-vl"), padding=True)
    asked = unequal(made, 2)
    assert HfEngine(made, 9).sample(asked, 1.0, LIMIT) == HfEngine(made, 9).sample(asked, 1.0, LIMIT)


# --- the cache ---


def test_rows_are_repeated_and_dropped_and_the_prefill_is_left_as_it_was() -> None:
    random = torch.Generator().manual_seed(0)
    cache = DynamicCache()
    cache.layers = [DynamicLayer(), DynamicSlidingWindowLayer(sliding_window=4)]

    def states(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (rows, 2, length, 4)
        return torch.randn(shape, generator=random), torch.randn(shape, generator=random)

    for number in range(2):
        cache.update(*states(3, 5), number)
    before = [cache.layers[0].keys.clone(), cache.layers[1].values.clone()]
    owners = torch.tensor([2, 0, 0, 1])
    repeated = batching.repeated(cache, owners)
    assert torch.equal(repeated.layers[0].keys, before[0][owners])
    assert torch.equal(repeated.layers[1].values, before[1][owners])
    for number in range(2):
        repeated.update(*states(4, 1), number)
    repeated.reorder_cache(torch.tensor([3, 1]))
    assert torch.equal(repeated.layers[0].keys[:, :, :5], before[0][[1, 0]])
    assert torch.equal(cache.layers[0].keys, before[0])
    assert torch.equal(cache.layers[1].values, before[1])


def hybrid() -> Checkpoint:
    """A tiny Qwen3.5, every second layer of which is linear attention."""
    made = checkpoint("qwen3-vl")
    old = made.model.config
    vision = old.vision_config.to_dict()
    for name in ("deepstack_visual_indexes", "model_type"):
        del vision[name]
    text = {
        "hidden_size": old.text_config.hidden_size,
        "intermediate_size": 64,
        "vocab_size": old.text_config.vocab_size,
        "layer_types": ["linear_attention", "full_attention"],
        "num_hidden_layers": 2,
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
        **{"linear_num_key_heads": 2, "linear_num_value_heads": 4},
        **{"linear_key_head_dim": 8, "linear_value_head_dim": 8},
        "rope_parameters": {
            **{"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
            **{"mrope_section": [2, 1, 1], "mrope_interleaved": True},
        },
    }
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    tokens = {name: getattr(old, name) for name in names}
    torch.manual_seed(0)
    model = Qwen3_5ForConditionalGeneration(Qwen3_5Config(text_config=text, vision_config=vision, **tokens))
    model.generation_config.eos_token_id = made.model.generation_config.eos_token_id
    return wrap(model.eval(), made.processor)


def test_a_model_with_linear_attention_is_sampled_as_without_a_cache() -> None:
    made = hybrid()
    asked = requests(made, 4, 4)
    results = HfEngine(made, 16).sample(asked, 1.0, LIMIT)
    for request, samples in zip(asked, results, strict=True):
        for seed, sample in zip(request.seeds, samples, strict=True):
            expected = slow_sample(made, request, seed, 1.0)
            assert (sample.token_ids, sample.finished) == (expected.token_ids, expected.finished)
            assert sample.logprob == pytest.approx(expected.logprob, abs=1e-4)


# --- drawing a token ---

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
    monkeypatch.setattr(hf, "CHUNK", 30)
    parts = draw(logits, uniforms, 1.0, NONE)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])
