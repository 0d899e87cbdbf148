"""What a pilot's table says of jobs that were done, failed or did not run, and what it measures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.conftest import World, make_suite
from tests.documents import undocumented
from vista.config import Suite
from vista.curation.curate import count_of
from vista.curation.stand_ins import SOURCE
from vista.errors import VistaError
from vista.manifest import Status, read_manifest
from vista.paths import Paths, manifest_of
from vista.planning.assumptions import Assumptions, load_assumptions
from vista.planning.pilot import COLUMNS, pilot_table, planned_jobs
from vista.records import CRITICAL, ROLLOUT, write_json, write_rows

RUN = "nano-b/both/rest-em/seed0/round1"
POLICY = "nano-b/both/sft-seed/seed0/round0"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path / "results").model_copy(update={"pilot": 8, "shards": 1})


@pytest.fixture
def paths(suite: Suite) -> Paths:
    return Paths(suite.results)


@pytest.fixture
def empty(suite: Suite, paths: Paths) -> World:
    return World(suite, paths)


def table_of(world: World) -> list[dict[str, str]]:
    pilot_table(world.suite, world.paths)
    with world.paths.table("pilot-so-far", "csv").open(newline="") as file:
        return list(csv.DictReader(file))


def row_of(world: World, stage: str, model: str) -> dict[str, str]:
    (row,) = [
        row for row in table_of(world) if (row["stage"], row["model"], row["job"]) == (stage, model, "")
    ]
    return row


def fail(world: World, stage: str, name: str, said: str) -> None:
    log = world.paths.log(stage, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"loading\n{said}\n")


def test_a_suite_that_is_no_pilot_has_no_such_table(empty: World) -> None:
    whole = empty.suite.model_copy(update={"pilot": None})
    with pytest.raises(VistaError, match="no pilot; run snakemake with --config pilot=8"):
        pilot_table(whole, empty.paths)


def test_nothing_made_is_nothing_done_and_nothing_failed(empty: World) -> None:
    rows = table_of(empty)
    assert {(row["done"], row["failed"]) for row in rows} == {("0", "0")}
    assert all(row["planned"] == row["not_run"] for row in rows)
    assert {row["stage"] for row in rows} == {
        *("tasks", "models", "rollouts", "curation", "training", "evaluation", "analysis")
    }
    text = empty.paths.table("pilot-so-far", "md").read_text()
    assert "**0 of" in text


def test_every_job_of_the_plan_is_told_from_the_next_by_its_output(empty: World) -> None:
    jobs = planned_jobs(empty.suite, empty.paths)
    assert len({manifest_of(job.output) for job in jobs}) == len(jobs)
    assert len({job.log for job in jobs}) == len(jobs)


def test_a_job_that_failed_is_a_row_with_what_it_said_last(empty: World) -> None:
    empty.manifest(empty.paths.trained(POLICY), "training", {"tokens": 5.0})
    fail(empty, "training", POLICY, "done")
    fail(empty, "training", RUN, "error: CUDA out of memory")
    row = row_of(empty, "training", "nano-b")
    assert (row["done"], row["failed"]) == ("1", "1")
    assert int(row["planned"]) == 2 + int(row["not_run"])
    (failed,) = [row for row in table_of(empty) if row["job"]]
    assert (failed["stage"], failed["model"], failed["job"]) == ("training", "nano-b", f"train {RUN}")
    assert failed["said"] == "error: CUDA out of memory"
    assert "## Jobs that failed" in empty.paths.table("pilot-so-far", "md").read_text()


def test_a_failed_check_and_a_failed_shard_are_found_by_their_logs(empty: World) -> None:
    (samples,) = {
        job.log for job in planned_jobs(empty.suite, empty.paths) if f"{POLICY}/samples" in job.name
    }
    for log in (samples, empty.paths.log("models", "nano-a.check")):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("error: no\n")
    failed = {row["job"].split()[0] for row in table_of(empty) if row["job"]}
    assert failed == {"sample", "check"}


def test_what_stands_in_is_told_and_so_is_what_had_nothing_to_do(empty: World) -> None:
    counts = {"examples": 4.0, count_of(SOURCE): 4.0}
    empty.manifest(empty.paths.training_set(POLICY), "curation", counts)
    empty.manifest(empty.paths.training_set(RUN), "curation", {"examples": 0.0}, "no-positives")
    row = row_of(empty, "curation", "nano-b")
    assert (row["done"], row["stand_ins"], row["empty"]) == ("2", "4", "1")
    assert "4 rows of training sets stand in" in empty.paths.table("pilot-so-far", "md").read_text()


def test_shares_without_an_answer_or_an_end_are_of_all_responses(empty: World) -> None:
    for run, predictions in ((POLICY, 30.0), (RUN, 10.0)):
        counts = {"predictions": predictions, "tokens": 9.0, "unanswered": 5.0, "unfinished": 10.0}
        empty.manifest(empty.paths.predictions(run), "evaluation", counts)
    row = row_of(empty, "evaluation", "nano-b")
    assert (row["responses"], row["unanswered"], row["unfinished"]) == ("40", "25.00", "50.00")


def test_time_and_memory_are_those_of_the_table_of_costs(empty: World) -> None:
    empty.manifest(empty.paths.trained(POLICY), "training", {"tokens": 40.0}, peak=50.0)
    empty.benchmark("training", POLICY)
    row = row_of(empty, "training", "nano-b")
    assert (row["seconds"], row["max_rss_mb"], row["tokens"]) == ("2.00", "100.00", "40")


def rollout(**changes: Any) -> dict[str, Any]:
    row = {"query_id": "q", "task": "easy", "sample": 0, "source": "prefix", "parent": 0, "prefix_len": 3}
    row |= {"token_ids": [1] * 9, "text": "x", "answer": None, "finished": True, "correct": False}
    return {**row, "logprob": -1.0, "seed": 1, **changes}


def measured(world: World) -> Assumptions:
    pilot_table(world.suite, world.paths)
    file = world.paths.table("assumptions", "yaml")
    assert read_manifest(file).stage == "analysis"
    return load_assumptions([str(file)])


@pytest.mark.parametrize("idle", [("no-positives", 8.0), ("complete", 0.0)], ids=["no policy", "no solution"])
def test_a_job_that_had_nothing_to_do_tells_nothing_of_a_start(
    empty: World, idle: tuple[Status, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vista.planning.measures.numbers_held", lambda _: 10**9)
    empty.manifest(empty.paths.base("nano-b"), "models", {})
    planned = [job for job in planned_jobs(empty.suite, empty.paths) if POLICY in job.name]
    (samples,) = [job for job in planned if "/samples/" in job.name]
    (scores,) = [job for job in planned if "/scores/" in job.name]
    status, solutions = idle
    empty.manifest(samples.output, "rollouts", {"solutions": 8.0, "tokens": 80.0})
    empty.manifest(scores.output, "rollouts", {"solutions": solutions}, status)
    for job, seconds in ((samples, 120), (scores, 6)):
        name = str(job.log.relative_to(empty.paths.results / "logs/rollouts").with_suffix(""))
        empty.benchmark("rollouts", name, f"{seconds}.0\t0\t1\t1\t1\t1\t1\t1\t1\t1.5")
    assert measured(empty).start_minutes == 2.0


def test_nothing_made_measures_nothing_and_leaves_every_default(empty: World) -> None:
    assert measured(empty) == Assumptions()


def test_shares_and_lengths_are_measured_on_what_was_sampled(empty: World) -> None:
    jobs = planned_jobs(empty.suite, empty.paths)
    (samples,) = [job.output for job in jobs if f"{POLICY}/samples" in job.name]
    (resamples,) = [job.output for job in jobs if f"{POLICY}/resamples" in job.name]
    counts = {"solutions": 8.0, "tokens": 800.0, "correct": 6.0}
    empty.manifest(samples, "rollouts", counts)
    rows = [rollout(sample=0), rollout(sample=1, correct=True)]
    write_rows(resamples, rows, ROLLOUT)
    empty.manifest(resamples, "rollouts", {"solutions": 2.0, "tokens": 14.0, "correct": 1.0})
    manifest = read_manifest(resamples).model_copy(update={"settings": {"resample": {"kind": "prefix"}}})
    write_json(manifest_of(resamples), manifest.model_dump())
    critical = resamples.parents[2] / "critical" / resamples.parent.name / resamples.name
    found = [{"query_id": "q", "task": "easy", "sample": n, "critical_token": n or None} for n in range(4)]
    write_rows(critical, [{**row, "replacement": None} for row in found], CRITICAL)
    empty.manifest(empty.paths.training_set(RUN), "curation", {"positives": 10.0, "dropped_by_filter": 4.0})
    manifest = read_manifest(empty.paths.training_set(RUN))
    settings = {"method": {"filter": {"kind": "vas"}}}
    write_json(
        manifest_of(empty.paths.training_set(RUN)),
        manifest.model_copy(update={"settings": settings}).model_dump(),
    )
    assumed = measured(empty)
    assert assumed.correct == 0.75
    assert assumed.response_tokens == 100
    assert assumed.recovered == 0.5
    assert assumed.resampled == 0.7  # 3 of 10 tokens were given, with the end token
    assert assumed.critical == 0.75
    assert assumed.kept == 0.6
    text = empty.paths.table("assumptions", "yaml").read_text()
    assert "correct: 0.75  # 8 samples" in text
    assert "gpu_tflops" not in text, "what a pilot cannot measure is not in it"


def test_every_column_is_explained(root: Path) -> None:
    assert undocumented(root, COLUMNS) == []
