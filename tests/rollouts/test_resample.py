"""Resampling failed solutions: from corrected prefixes, with a hint, and what holds for all resamplers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.nano import checkpoint
from tests.rollouts.conftest import (
    GREEDY,
    POLICY,
    PREFIX,
    RATIONALIZE,
    SAMPLES,
    let_odd_be_correct,
    resample,
    resampling,
    suite_at,
)
from vista import chat, plugins
from vista.config import Sampling, Suite, Wording
from vista.engines.base import Request
from vista.engines.hf import HfEngine
from vista.manifest import Manifest, read_manifest
from vista.paths import Paths
from vista.records import CRITICAL, ROLLOUT, Row, read_rows
from vista.resamplers import Job, ResampleSettings
from vista.resamplers.prefix import PrefixResampler, PrefixSettings, critical_tokens
from vista.resamplers.rationalize import RationalizeResampler, RationalizeSettings
from vista.rollouts import resample as stage
from vista.rollouts import sample
from vista.rollouts.policy import shard_queries
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.seeding import derive_seed

odd_is_correct = pytest.mark.usefixtures("odd_is_correct")
RESAMPLERS = plugins.Plugin("resampler", ResampleSettings, "vista.resamplers")
KINDS = [kind for kind in RESAMPLERS.kinds() if kind != "none"]


def settings_of(kind: str) -> Any:
    return RESAMPLERS.settings(kind)(kind=kind)


def source_of(kind: str) -> str:
    return str(plugins.implementation(settings_of(kind)).source)


def resampled(small: tuple[Suite, Paths], samples: str, name: str) -> tuple[list[Row], list[Row]]:
    """The samples and the resamples made from them."""
    suite, paths = small
    sample_shard(suite, paths, POLICY, samples, 0)
    resample_shard(suite, paths, POLICY, name, 0)
    return (
        read_rows(paths.rollouts(POLICY.id, "samples", samples, 0, 1), ROLLOUT),
        read_rows(paths.rollouts(POLICY.id, "resamples", name, 0, 1), ROLLOUT),
    )


@odd_is_correct
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
        seeds = [derive_seed("prefix", POLICY.id, row["query_id"], row["sample"], j) for j in range(3)]
        request = Request(chat.encode_query(made.processor, query), seeds, prefix)
        (continued,) = HfEngine(made, 8).sample([request], 1.0, 12)
        for j, made_one in enumerate(continued):
            expected.append((row["query_id"], row["sample"], j, [*prefix, *made_one.token_ids], len(prefix)))
    assert expected
    found_rows = [(r["query_id"], r["parent"], r["sample"], r["token_ids"], r["prefix_len"]) for r in rows]
    assert found_rows == expected
    assert {row["source"] for row in rows} == {"prefix"}
    assert all(len(row["token_ids"]) <= 12 for row in rows)


@odd_is_correct
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


@odd_is_correct
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
        seed = derive_seed("rationalize", POLICY.id, query["query_id"], 0)
        ((expected,),) = HfEngine(made, 8).sample([Request(hinted, [seed])], 0.0, 12)
        assert row["token_ids"] == expected.token_ids
        assert (row["source"], row["parent"], row["prefix_len"]) == ("rationalize", None, 0)
        assert row["seed"] == seed
    assert read_manifest(paths.rollouts(POLICY.id, "resamples", RATIONALIZE, 0, 1)).counts[
        "resampled"
    ] == len(rows)


def test_the_streams_of_prefixes_and_rationalisations_are_those_they_always_were() -> None:
    made = checkpoint("qwen2.5-vl")
    job = Job(made, HfEngine(made, 8), POLICY, Sampling(), 4, Wording())
    prefix = PrefixResampler(job, PrefixSettings(kind="prefix"))
    rationalize = RationalizeResampler(job, RationalizeSettings(kind="rationalize"))
    # Written down once: with other streams the results of every suite would be others.
    assert [prefix.seed("q0", j, 1) for j in range(2)] == [5540931946273362073, 5991997862407210651]
    assert [rationalize.seed(q, 0) for q in ("q0", "q1")] == [6351506492327180835, 811230821175147499]


@dataclass(frozen=True)
class Done:
    """What a resampler of some kind has made of the small suite."""

    suite: Suite
    paths: Paths
    kind: str
    name: str
    samples: list[Row]
    rows: list[Row]
    manifest: Manifest


@pytest.fixture(scope="module", params=KINDS)
def done(
    request: pytest.FixtureRequest, policy_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Done]:
    """Every resampler in turn, run once for all tests that look at its results."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("models", "tasks"):
        (folder / name).symlink_to(policy_folder / name)
    suite, name = resampling(suite_at(folder), request.param)
    paths = Paths(folder)
    with pytest.MonkeyPatch.context() as patch:
        let_odd_be_correct(patch)
        rows = resample(suite, paths, name)
        samples = read_rows(paths.rollouts(POLICY.id, "samples", SAMPLES, 0, 1), ROLLOUT)
        manifest = read_manifest(paths.rollouts(POLICY.id, "resamples", name, 0, 1))
        yield Done(suite, paths, request.param, name, samples, rows, manifest)


def test_shards_together_hold_what_one_shard_holds(done: Done) -> None:
    in_two = done.suite.model_copy(update={"shards": 2})
    assert done.rows
    assert [row for shard in (0, 1) for row in resample(in_two, done.paths, done.name, shard)] == done.rows


def test_resamples_are_of_one_source_and_no_two_share_a_key_or_a_stream(done: Done) -> None:
    assert {row["source"] for row in done.rows} == {source_of(done.kind)}
    assert len({(row["query_id"], row["parent"], row["sample"]) for row in done.rows}) == len(done.rows)
    every = done.rows + done.samples
    assert len({row["seed"] for row in every}) == len(every)


def test_the_manifest_counts_failures_attempts_and_tokens(done: Done) -> None:
    counts = done.manifest.counts
    assert counts["negatives"] == sum(not row["correct"] for row in done.samples)
    assert counts["resampled"] == len({(row["query_id"], row["parent"]) for row in done.rows})
    assert counts["solutions"] == len(done.rows)
    assert counts["correct"] == sum(row["correct"] for row in done.rows)
    assert counts["tokens"] == sum(
        len(row["token_ids"]) - row["prefix_len"] + row["finished"] for row in done.rows
    )


def test_what_a_resampler_reads_is_recorded(done: Done) -> None:
    read = {path.split("/")[-3] for path in done.manifest.inputs if "/rollouts/" in path}
    is_matched = done.kind in ("budget-matched", "random-prefix")
    assert read == ({"samples", "resamples"} if is_matched else {"samples"})


def test_an_empty_shard_has_empty_files(done: Done) -> None:
    in_ten = done.suite.model_copy(update={"shards": 10})  # of nine queries
    assert resample(in_ten, done.paths, done.name) == []
    manifest = read_manifest(done.paths.rollouts(POLICY.id, "resamples", done.name, 0, 10))
    assert (manifest.status, manifest.counts["queries"], manifest.counts["tokens"]) == ("complete", 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_that_was_never_trained_gives_empty_files_that_say_so(
    small: tuple[Suite, Paths], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, name = resampling(small[0], kind)
    for module in (stage, sample):
        monkeypatch.setattr(module, "has_weights", lambda *_: False)
    assert resample(suite, small[1], name) == []
    for output, schema in [("resamples", ROLLOUT), *([("critical", CRITICAL)] if kind == "prefix" else [])]:
        path = small[1].rollouts(POLICY.id, output, name, 0, 1)
        assert read_rows(path, schema) == []
        assert read_manifest(path).status == "no-positives"
        assert set(read_manifest(path).counts.values()) == {0}


def test_every_resampler_calls_its_rows_by_a_name_of_its_own() -> None:
    sources = [source_of(kind) for kind in KINDS]
    assert len({*sources, "sample", "seed"}) == len(sources) + 2
