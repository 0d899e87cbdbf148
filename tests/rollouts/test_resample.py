"""Resampling failed solutions, from corrected prefixes or with a hint."""

from __future__ import annotations

import pytest

from tests.nano import checkpoint
from tests.rollouts.conftest import GREEDY, POLICY, PREFIX, RATIONALIZE, SAMPLES
from vista import chat
from vista.config import PrefixResample, Suite
from vista.engines.base import Request
from vista.engines.hf import HfEngine
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import CRITICAL, ROLLOUT, Row, read_rows
from vista.rollouts.critical import Critical, critical_tokens
from vista.rollouts.resample import (
    PrefixResampler,
    corrected_prefix,
    prefix_seed,
    rationalize_seed,
    resample_shard,
)
from vista.rollouts.sample import sample_shard
from vista.rollouts.shards import shard_queries

pytestmark = pytest.mark.usefixtures("odd_is_correct")


def resampled(small: tuple[Suite, Paths], samples: str, name: str) -> tuple[list[Row], list[Row]]:
    """The samples and the resamples made from them."""
    suite, paths = small
    sample_shard(suite, paths, POLICY, samples, 0)
    resample_shard(suite, paths, POLICY, name, 0)
    return (
        read_rows(paths.rollouts(POLICY.id, "samples", samples, 0, 1), ROLLOUT),
        read_rows(paths.rollouts(POLICY.id, "resamples", name, 0, 1), ROLLOUT),
    )


def test_the_prefix_is_cut_at_the_critical_token_which_the_best_prediction_replaces() -> None:
    assert corrected_prefix([5, 6, 7, 8], Critical(2, 9)) == [5, 6, 9]
    assert corrected_prefix([5, 6, 7, 8], Critical(0, 9)) == [9]


def test_failed_samples_continue_from_their_corrected_prefix(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    samples, rows = resampled(small, SAMPLES, PREFIX)
    made = checkpoint("qwen2.5-vl")
    queries = {q["query_id"]: q for q in shard_queries(suite, paths, POLICY, 0)}
    failed = [row for row in samples if not row["correct"]]
    criticals = read_rows(paths.rollouts(POLICY.id, "critical", PREFIX, 0, 1), CRITICAL)
    assert [(c["query_id"], c["sample"]) for c in criticals] == [(r["query_id"], r["sample"]) for r in failed]
    expected = []
    for row, stored in zip(failed, criticals, strict=True):
        query = queries[row["query_id"]]
        swapped = chat.encode_query(made.processor, query, "swapped")
        (found,) = critical_tokens(made, [swapped], [row["token_ids"]], 2, 1)
        assert stored["critical_token"] == (None if found is None else found.position)
        assert stored["replacement"] == (None if found is None else found.replacement)
        if found is None or found.replacement in made.end_ids:
            continue
        prefix = [*row["token_ids"][: found.position], found.replacement]
        seeds = [prefix_seed(POLICY, row["query_id"], row["sample"], j) for j in range(3)]
        request = Request(chat.encode_query(made.processor, query), seeds, prefix)
        (continued,) = HfEngine(made, 8).sample([request], 1.0, 12)
        for j, sample in enumerate(continued):
            expected.append((row["query_id"], row["sample"], j, [*prefix, *sample.token_ids], len(prefix)))
    assert expected
    found_rows = [(r["query_id"], r["parent"], r["sample"], r["token_ids"], r["prefix_len"]) for r in rows]
    assert found_rows == expected
    assert {row["source"] for row in rows} == {"prefix"}
    assert all(len(row["token_ids"]) <= 12 for row in rows)


def test_continuations_are_kept_and_counted_whether_correct_or_not(small: tuple[Suite, Paths]) -> None:
    _, paths = small
    samples, rows = resampled(small, SAMPLES, PREFIX)
    assert {row["correct"] for row in rows} == {True, False}
    counts = read_manifest(paths.rollouts(POLICY.id, "resamples", PREFIX, 0, 1)).counts
    assert counts["negatives"] == sum(not row["correct"] for row in samples)
    assert counts["resampled"] == len(rows) / 3
    assert counts["solutions"] == len(rows)
    assert counts["correct"] == sum(row["correct"] for row in rows)
    assert counts["tokens"] == sum(
        len(row["token_ids"]) - row["prefix_len"] + row["finished"] for row in rows
    )


def test_where_the_best_prediction_is_to_stop_nothing_is_resampled(
    small: tuple[Suite, Paths], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, paths = small
    made = checkpoint("qwen2.5-vl")
    monkeypatch.setattr(
        "vista.rollouts.resample.critical_tokens",
        lambda _, prompts, *__: [Critical(1, made.end_ids[0]), None, Critical(1, 20)],
    )
    queries = shard_queries(suite, paths, POLICY, 0)[:1]
    samples = [
        {"query_id": "q0", "task": "first", "sample": index, "token_ids": [20, 21], "correct": False}
        for index in range(3)
    ]
    method = suite.methods["vista"]
    settings = PrefixResample(kind="prefix", j=2)
    work = PrefixResampler(made, HfEngine(made, 4), POLICY, method.rollouts, settings)  # type: ignore[union-attr]
    rows, criticals = work.run(queries, samples, 4)
    assert [row["parent"] for row in rows] == [2, 2]
    assert [row["replacement"] for row in criticals] == [made.end_ids[0], None, 20]


def test_rationalisation_asks_unsolved_queries_again_with_the_answer_as_a_hint(
    small: tuple[Suite, Paths],
) -> None:
    suite, paths = small
    samples, rows = resampled(small, GREEDY, RATIONALIZE)
    solved = {row["query_id"] for row in samples if row["correct"]}
    queries = [q for q in shard_queries(suite, paths, POLICY, 0) if q["query_id"] not in solved]
    assert [row["query_id"] for row in rows] == [query["query_id"] for query in queries]
    made = checkpoint("qwen2.5-vl")
    for query, row in zip(queries, rows, strict=True):
        asked = f"{query['instruction']}\nhint : the answer is {query['answer']}"
        hinted = chat.encode_query(made.processor, {**query, "instruction": asked})
        seed = rationalize_seed(POLICY, query["query_id"], 0)
        ((sample,),) = HfEngine(made, 8).sample([Request(hinted, [seed])], 0.0, 12)
        assert row["token_ids"] == sample.token_ids
        assert (row["source"], row["parent"], row["prefix_len"]) == ("rationalize", None, 0)
        assert row["seed"] == seed
    assert read_manifest(paths.rollouts(POLICY.id, "resamples", RATIONALIZE, 0, 1)).counts[
        "resampled"
    ] == len(rows)
