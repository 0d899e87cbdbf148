"""Where failed solutions are cut: at the critical token, at a random one, at the true first error."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.nano import checkpoint
from tests.rollouts.conftest import POLICY, asked, resample, resampling
from vista.chat import Prompt, encode_query, gold_ids
from vista.config import Sampling, Suite, Wording
from vista.engines.base import Request
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError
from vista.paths import Paths
from vista.records import ROLLOUT, Row, read_rows
from vista.resamplers import Job, prefix, random_prefix
from vista.resamplers.gold_prefix import GoldPrefixResampler, GoldPrefixSettings, gold_prefix
from vista.resamplers.prefix import Critical, Predictions, PrefixResampler, PrefixSettings, corrected_prefix
from vista.resamplers.random_prefix import RandomPrefixResampler, RandomPrefixSettings
from vista.rollouts.policy import shard_queries
from vista.seeding import derive_seed
from vista.testbed.audit import audit_query

LIMIT = 24


def job(max_new_tokens: int = LIMIT) -> Job:
    made = checkpoint("qwen2.5-vl")
    return Job(made, HfEngine(made, 8), POLICY, Sampling(k=4, max_new_tokens=max_new_tokens), 4, Wording())


def failed(query: Row, sample: int, token_ids: list[int]) -> Row:
    name = {"query_id": query["query_id"], "task": query["task"]}
    return {**name, "sample": sample, "token_ids": token_ids, "correct": False}


def test_the_prefix_is_cut_at_the_critical_token_which_the_best_prediction_replaces() -> None:
    assert corrected_prefix([5, 6, 7, 8], Critical(2, 9)) == [5, 6, 9]
    assert corrected_prefix([5, 6, 7, 8], Critical(0, 9)) == [9]


def test_where_the_best_prediction_is_to_stop_nothing_is_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    work = PrefixResampler(job(), PrefixSettings(kind="prefix", j=2))
    end = work.job.checkpoint.end_ids[0]
    found = [Critical(1, end), None, Critical(1, 20)]
    monkeypatch.setattr(prefix, "critical_tokens", lambda *_: found)
    query = asked("first", 0)
    rows = work.run([query], [failed(query, index, [20, 21]) for index in range(3)])
    assert [row["parent"] for row in rows] == [2, 2]
    assert [row["replacement"] for row in work.critical] == [end, None, 20]


# --- a random token ---


def best_by_the_book(made: Checkpoint, prompt: Prompt, response: list[int], position: int) -> int:
    """The likeliest token at a position of a response, from the whole model's logits."""
    batch = collate([prompt], [response[:position]], made.pad_id)
    del batch["response_mask"]
    with torch.no_grad():
        logits = made.model(**batch, use_cache=False).logits[0, -1]
    logits[made.forbidden_ids] = -torch.inf
    return int(logits.argmax())


@pytest.mark.usefixtures("odd_is_correct")
@pytest.mark.parametrize("order", ["swapped", "original"])
def test_failed_samples_continue_from_a_random_token_that_the_best_prediction_replaces(
    small: tuple[Suite, Paths], order: Any
) -> None:
    suite, name = resampling(small[0], "random-prefix", j=2, top_k=2, order=order)
    rows = resample(suite, small[1], name)
    matched = resampling(small[0], "prefix", j=2, top_k=2, order=order)[1]
    by_vista = {
        (row["query_id"], row["parent"])
        for row in read_rows(small[1].rollouts(POLICY.id, "resamples", matched, 0, 1), ROLLOUT)
    }
    samples = read_rows(small[1].rollouts(POLICY.id, "samples", "k4-t1-n12", 0, 1), ROLLOUT)
    queries = {query["query_id"]: query for query in shard_queries(suite, small[1], POLICY, 0)}
    work = RandomPrefixResampler(job(), RandomPrefixSettings(kind="random-prefix"))
    made = work.job.checkpoint
    expected = []
    for row in samples:
        if row["correct"] or (row["query_id"], row["sample"]) not in by_vista:
            continue
        position = work.position(row)
        query = queries[row["query_id"]]
        read = encode_query(made.processor, query, order)
        best = best_by_the_book(made, read, row["token_ids"], position)
        if best in made.end_ids:
            continue
        prefix = [*row["token_ids"][:position], best]
        seeds = [derive_seed("random-prefix", POLICY.id, row["query_id"], row["sample"], j) for j in (0, 1)]
        request = Request(encode_query(made.processor, query), seeds, prefix)
        (continued,) = HfEngine(made, 8).sample([request], 1.0, 12)
        for j, sample in enumerate(continued):
            expected.append((row["query_id"], row["sample"], j, [*prefix, *sample.token_ids], len(prefix)))
    assert len(expected) > 20
    found = [(r["query_id"], r["parent"], r["sample"], r["token_ids"], r["prefix_len"]) for r in rows]
    assert found == expected


def test_every_token_is_cut_at_about_equally_often_and_always_at_the_same_one() -> None:
    work = RandomPrefixResampler(job(), RandomPrefixSettings(kind="random-prefix"))
    rows = [failed(asked("first", number), sample, [1] * 5) for number in range(40) for sample in range(10)]
    positions = [work.position(row) for row in rows]
    assert positions == [work.position(row) for row in rows]
    counts = Counter(positions)
    assert set(counts) == set(range(5))
    assert all(50 < count < 110 for count in counts.values())  # 80 each, with a deviation of 8


def test_cuts_at_a_predicted_end_and_what_vista_did_not_continue_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query = asked("first", 0)
    matched = [{"query_id": query["query_id"], "parent": parent} for parent in (1, 1, 2, 2)]
    settings = RandomPrefixSettings(kind="random-prefix", j=1)
    work = RandomPrefixResampler(replace(job(), matched=matched), settings)
    ends = Predictions([0, 0], [work.job.checkpoint.end_ids[0]] * 2)
    asked_of: list[list[list[int]]] = []

    def read(_checkpoint: Any, _prompts: Any, responses: list[list[int]], _size: int) -> list[Predictions]:
        asked_of.append(responses)
        return [ends, Predictions([0, 0], [20, 20])]

    monkeypatch.setattr(random_prefix, "read_predictions", read)
    rows = work.run([query], [failed(query, index, [21 + index] * 2) for index in range(3)])
    assert [row["parent"] for row in rows] == [2]
    assert asked_of == [[[22, 22], [23, 23]]], "only these two are read"


# --- the gold rationale ---

TOKENS = st.lists(st.integers(0, 2), max_size=6)


@given(TOKENS, TOKENS)
def test_a_gold_prefix_is_the_common_beginning_and_the_next_gold_token(
    gold: list[int], found: list[int]
) -> None:
    common = 0
    while common < min(len(gold), len(found)) and gold[common] == found[common]:
        common += 1
    assert gold_prefix(gold, found) == (None if common == len(gold) else gold[: common + 1])


def test_failed_samples_continue_from_where_they_leave_the_gold_rationale() -> None:
    work = GoldPrefixResampler(job(), GoldPrefixSettings(kind="gold-prefix", j=2))
    made, query = work.job.checkpoint, asked("first", 0)
    gold = work.gold(query)
    assert audit_query(query["scene"], made.processor.tokenizer.decode(gold)).faithful
    wrong = gold_ids(made.processor, "yes")
    written = [
        wrong,  # wrong from the start
        [*gold[:5], *wrong, *gold[6:]],  # one wrong token
        gold[:7],  # breaks off
        gold,  # right, but not ended in time
        [*gold, *wrong],  # goes on behind the end
        [],
    ]
    rows = work.run([query], [failed(query, index, tokens) for index, tokens in enumerate(written)])
    lengths = {0: 1, 1: 6, 2: 8, 5: 1}
    assert [(row["parent"], row["sample"], row["prefix_len"]) for row in rows] == [
        (parent, j, length) for parent, length in lengths.items() for j in range(2)
    ]
    prompt = encode_query(made.processor, query)
    for row in rows:
        length = lengths[row["parent"]]
        assert row["token_ids"][:length] == gold[:length]
        assert row["seed"] == derive_seed("gold-prefix", POLICY.id, "q0", row["parent"], row["sample"])
        request = Request(prompt, [row["seed"]], gold[:length])
        ((sample,),) = HfEngine(made, 8).sample([request], 1.0, LIMIT)
        assert row["token_ids"][length:] == sample.token_ids


def test_a_gold_prefix_that_leaves_no_room_is_not_continued() -> None:
    query = asked("first", 0)
    for limit, parents in ((8, []), (9, [0])):
        work = GoldPrefixResampler(job(limit), GoldPrefixSettings(kind="gold-prefix", j=1))
        gold = work.gold(query)
        assert [row["parent"] for row in work.run([query], [failed(query, 0, gold[:7])])] == parents


@pytest.mark.parametrize(("scene", "said"), [(None, "no scene"), ('{"digits": []}', "not the ground truth")])
def test_a_query_without_a_scene_is_named(scene: str | None, said: str) -> None:
    work = GoldPrefixResampler(job(), GoldPrefixSettings(kind="gold-prefix"))
    query = {**asked("first", 3), "scene": scene}
    with pytest.raises(VistaError, match=f"query 'q3'.*{said}"):
        work.run([query], [failed(query, 0, [20])])
