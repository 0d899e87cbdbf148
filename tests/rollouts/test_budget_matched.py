"""Plain samples for the tokens that prefix resampling costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nano import checkpoint
from tests.rollouts.conftest import (
    POLICY,
    PREFIX,
    SAMPLES,
    let_odd_be_correct,
    resample,
    resampling,
    suite_at,
)
from vista.chat import encode_query
from vista.config import Sampling, Suite, Wording
from vista.engines.base import Request
from vista.engines.hf import HfEngine
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import ROLLOUT, Row, read_rows
from vista.resamplers import Job
from vista.resamplers.budget_matched import (
    BudgetMatchedResampler,
    BudgetMatchedSettings,
    affordable,
    total_tokens,
)
from vista.rollouts.policy import shard_queries
from vista.seeding import derive_seed
from vista.verdicts import drawn_tokens

SETTINGS = BudgetMatchedSettings(kind="budget-matched", j=3, top_k=2)
COSTS = st.lists(st.integers(1, 20), max_size=12)


@given(COSTS, st.integers(0, 120))
def test_the_samples_taken_are_those_whose_total_is_nearest_to_the_budget(
    costs: list[int], budget: int
) -> None:
    totals = [0, *accumulate(costs)]
    expected = None
    if totals[-1] >= budget:
        # Of two that are as near, the larger.
        expected = min(range(len(totals)), key=lambda count: (abs(totals[count] - budget), -count))
    assert affordable(costs, budget) == expected


@given(COSTS.filter(len), st.integers(1, 120), COSTS)
def test_the_cost_is_off_by_half_a_sample_at_most_and_later_samples_change_nothing(
    costs: list[int], budget: int, later: list[int]
) -> None:
    count = affordable(costs, budget)
    if count is None:
        assert sum(costs) < budget
        return
    assert abs(sum(costs[:count]) - budget) <= max(costs) / 2
    assert affordable(costs + later, budget) == count


Matched = tuple[Suite, Paths, str, list[Row]]


@pytest.fixture(scope="module")
def matched(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matched]:
    """Suite, paths, name and rows of plain samples that match a prefix resampling."""
    folder = tmp_path_factory.mktemp("matched")
    for name in ("models", "tasks"):
        (folder / name).symlink_to(policy_folder / name)
    suite, name = resampling(suite_at(folder), "budget-matched", j=3, top_k=2)
    with pytest.MonkeyPatch.context() as patch:
        let_odd_be_correct(patch)
        yield suite, Paths(folder), name, resample(suite, Paths(folder), name)


def read(paths: Paths, kind: str, name: str) -> list[Row]:
    return read_rows(paths.rollouts(POLICY.id, kind, name, 0, 1), ROLLOUT)


def tokens_of(rows: Iterable[Row]) -> list[tuple[str, int, list[int]]]:
    return [(row["query_id"], row["sample"], row["token_ids"]) for row in rows]


def test_each_query_is_sampled_one_by_one_until_its_budget_is_spent(matched: Matched) -> None:
    suite, paths, _, rows = matched
    made = checkpoint("qwen2.5-vl")
    expected: list[tuple[object, ...]] = []
    for query in shard_queries(suite, paths, POLICY, 0):
        name = query["query_id"]
        budget = sum(
            len(row["token_ids"]) - row["prefix_len"] + row["finished"]
            for row in read(paths, "resamples", PREFIX)
            if row["query_id"] == name
        )
        taken, spent = [], 0
        while spent < budget:
            seed = derive_seed("plain", POLICY.id, name, len(taken))
            request = Request(encode_query(made.processor, query), [seed])
            ((sample,),) = HfEngine(made, 8).sample([request], 1.0, 12)
            taken.append((name, len(taken), seed, sample.token_ids, sample.finished))
            spent += len(sample.token_ids) + sample.finished
        if taken:
            last = len(taken[-1][3]) + taken[-1][4]
            if budget - (spent - last) < spent - budget:
                taken.pop()
        expected += taken
    assert len(expected) > 9
    found = [(r["query_id"], r["sample"], r["seed"], r["token_ids"], r["finished"]) for r in rows]
    assert found == expected
    assert {(row["source"], row["parent"], row["prefix_len"]) for row in rows} == {("plain", None, 0)}


def test_samples_do_not_depend_on_the_waves_they_are_drawn_in(matched: Matched) -> None:
    suite, paths, _, rows = matched
    made = checkpoint("qwen2.5-vl")
    work = Job(
        made,
        HfEngine(made, 64),
        POLICY,
        Sampling(k=4, max_new_tokens=12),
        8,
        Wording(),
        matched=read(paths, "resamples", PREFIX),
    )
    queries, samples = shard_queries(suite, paths, POLICY, 0), read(paths, "samples", SAMPLES)
    for tokens in (1, 1000):  # samples that look so cheap, or so dear, make one large wave, or many small
        as_if = [{**row, "token_ids": [20] * tokens} for row in samples]
        assert tokens_of(BudgetMatchedResampler(work, SETTINGS).run(queries, as_if)) == tokens_of(rows)


def test_the_manifest_tells_the_budget_and_what_was_drawn_in_vain(matched: Matched) -> None:
    _, paths, name, rows = matched
    counts = read_manifest(paths.rollouts(POLICY.id, "resamples", name, 0, 1)).counts
    target = read_manifest(paths.rollouts(POLICY.id, "resamples", PREFIX, 0, 1)).counts["tokens"]
    assert counts["budget"] == target == sum(total_tokens(read(paths, "resamples", PREFIX)).values())
    assert counts["tokens"] == sum(map(drawn_tokens, rows))
    assert abs(counts["tokens"] - target) <= 9 * 13 / 2  # half a sample for each of nine queries
    assert 0 <= counts["discarded"] < target


def test_matched_in_number_a_query_is_sampled_as_often_as_it_was_continued(matched: Matched) -> None:
    suite, paths, _, rows = matched
    made = checkpoint("qwen2.5-vl")
    resamples = read(paths, "resamples", PREFIX)
    work = Job(made, HfEngine(made, 64), POLICY, Sampling(k=4, max_new_tokens=12), 8, Wording(), resamples)
    queries, samples = shard_queries(suite, paths, POLICY, 0), read(paths, "samples", SAMPLES)
    settings = SETTINGS.model_copy(update={"match": "samples"})
    found = BudgetMatchedResampler(work, settings).run(queries, samples)
    assert Counter(row["query_id"] for row in found) == Counter(row["query_id"] for row in resamples)
    # The first of them are the very samples that a budget of tokens pays for.
    by_tokens = {(query, number): ids for query, number, ids in tokens_of(rows)}
    both = [(ids, by_tokens[query, n]) for query, n, ids in tokens_of(found) if (query, n) in by_tokens]
    assert len(both) > 9
    assert all(one == other for one, other in both)


def test_a_query_that_was_not_resampled_is_not_sampled_again(matched: Matched) -> None:
    suite, paths, _, rows = matched
    made = checkpoint("qwen2.5-vl")
    resamples = [row for row in read(paths, "resamples", PREFIX) if row["query_id"] in ("q1", "q7")]
    work = Job(made, HfEngine(made, 64), POLICY, Sampling(k=4, max_new_tokens=12), 8, Wording(), resamples)
    queries, samples = shard_queries(suite, paths, POLICY, 0), read(paths, "samples", SAMPLES)
    found = BudgetMatchedResampler(work, SETTINGS).run(queries, samples)
    assert tokens_of(found) == tokens_of(row for row in rows if row["query_id"] in ("q1", "q7"))
    assert {row["query_id"] for row in found} == {"q1", "q7"}
