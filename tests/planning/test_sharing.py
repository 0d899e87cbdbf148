"""Shared work is done once: jobs against distinct policies, and against the methods run apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.planning.conftest import make_suite
from tests.planning.test_plan import EASY
from vista import grid
from vista.cli import app
from vista.config import SelfImprovement, Suite, load_suite
from vista.grid import Run
from vista.planning.assumptions import CPU_SECONDS, Assumptions
from vista.planning.estimate import Estimator
from vista.planning.jobs import Job, JobTree, job_counts, rollout_files
from vista.planning.plan import job_hours, make_plan, sharing


@pytest.fixture(scope="module")
def full(root: Path) -> Suite:
    return load_suite(root / "config/testbed-full.yaml", root=root)


def improving(suite: Suite) -> list[tuple[Run, SelfImprovement]]:
    """Runs that train on rollouts, with their methods."""
    found = ((run, suite.methods[run.method]) for run in grid.runs(suite))
    return [(run, method) for run, method in found if isinstance(method, SelfImprovement)]


def test_the_full_grid_samples_and_scores_each_policy_once_per_settings(full: Suite) -> None:
    jobs = job_counts(full)
    sampled = {(grid.policy(full, run), method.rollouts.slug) for run, method in improving(full)}
    assert jobs["sample"] == len(sampled)
    assert jobs["sample"] < len(improving(full)) / 1.5, "most runs read what another has sampled"
    resampled = {
        (grid.policy(full, run), method.rollouts.slug, method.resample.slug)
        for run, method in improving(full)
        if method.resample.kind != "none"
    }
    assert jobs["resample"] == len(resampled)
    # What VISTA scores does not depend on what it then does with the scores: τ, layers, restart …
    scored = {
        (grid.policy(full, run), method.rollouts.slug, method.resample.model_dump_json())
        for run, method in improving(full)
        if method.filter.kind == "vas"
    }
    files = [file for file in rollout_files(full) if file.kind == "scores"]
    by_vista = [
        file
        for file in files
        if any(grid.self_improvement(full, run).filter.kind == "vas" for run in file.readers)
    ]
    assert len(by_vista) == len(scored)
    assert jobs["score"] == len(files)
    assert len({file.policy for file in rollout_files(full)}) == len({policy for policy, _ in sampled})


def test_sft_seeds_samples_are_read_by_every_method_that_samples_alike(full: Suite) -> None:
    policy = Run("nano-qwen2.5-vl", "grids", "sft-seed", 0, 0)
    alike = [
        run
        for run, method in improving(full)
        if grid.policy(full, run) == policy and method.rollouts.slug == "k10-t1-n80"
    ]
    (file,) = [
        file
        for file in rollout_files(full)
        if (file.policy, file.kind, file.name) == (policy, "samples", "k10-t1-n80")
    ]
    # Where rollouts accumulate, later rounds read them as well.
    assert [run for run in file.readers if run.round == 1] == alike
    assert len(alike) >= 20


def test_the_jobs_behind_all_runs_are_those_that_a_plan_counts(full: Suite, suite: Suite) -> None:
    for each in (full, suite):
        tree = JobTree(each)
        jobs = set().union(*(tree.of_run(run) for run in grid.runs(each)))
        counted = {
            rule: count for rule, count in job_counts(each).items() if rule not in ("collect", "results")
        }
        assert Counter(job.rule for job in jobs) == counted


def test_a_run_needs_its_whole_past_and_nothing_of_other_methods(suite: Suite) -> None:
    jobs = JobTree(suite).of_run(Run("m-1b", "one", "rest-em", 0, 2))
    first, second = ("m-1b/one/rest-em/seed0/round1", "m-1b/one/rest-em/seed0/round2")
    seed = "m-1b/one/sft-seed/seed0/round0"
    assert {job.name for job in jobs if job.rule == "train"} == {seed, first, second}
    assert {job.name for job in jobs if job.rule == "evaluate"} == {second}
    assert {job.name for job in jobs if job.rule == "sample"} == {
        f"{policy}/samples/k10-t1-n64/{shard}" for policy in (seed, first) for shard in (0, 1)
    }
    assert not any(job.rule in ("resample", "score") for job in jobs)
    assert Job("models", "m-1b") in jobs


def test_training_that_samples_as_it_goes_has_seconds_of_its_own(root: Path) -> None:
    suite = load_suite(root / "config/testbed-online.yaml", root=root)
    seconds = {"train": 36.0, "train-online": 180.0}
    estimator = Estimator(suite, EASY.model_copy(update={"cpu_seconds": seconds}))
    found = [
        job_hours(estimator, Job("train", f"nano-internvl/grids/{method}/seed0/round1"))
        for method in ("rest-em", "grpo")
    ]
    assert found == pytest.approx([0.01, 0.05])


def test_apart_every_method_pays_for_its_own_past(tmp_path: Path) -> None:
    # Without GPUs every job costs its rule's seconds; here one each, so hours are jobs.
    suite = make_suite(tmp_path, gpus=0, shards=1)
    ones = dict.fromkeys(CPU_SECONDS, 3600.0)
    found = sharing(suite, Estimator(suite, EASY.model_copy(update={"cpu_seconds": ones})))
    always = len(["model", "check", "test split", "check of all queries"])
    zero_shot = always + len(["respond", "evaluate"])
    sft_seed = always + len(["seed split", "curate", "train", "respond", "evaluate"])
    past = always + len(["seed split", "train split", "curate SFT-Seed", "train SFT-Seed"])
    one_round = len(["sample", "curate", "train", "respond", "evaluate"])
    rest_em, vista, dpo = (
        past + 2 * one_round,
        past + one_round + len(["resample", "score"]),
        past + one_round,
    )
    assert found.jobs_apart == zero_shot + sft_seed + rest_em + vista + dpo
    counts = job_counts(suite)
    assert found.jobs == sum(counts.values()) - counts["collect"] - counts["results"]
    assert (found.hours, found.hours_apart) == (found.jobs, found.jobs_apart)
    assert found.hours_common == 2 + 4
    assert found.hours_common_apart == 4 + 5 + 3 * 6
    assert found.share == pytest.approx(found.jobs / found.jobs_apart)


def test_with_gpus_the_hours_are_those_of_the_plan(suite: Suite) -> None:
    plan = make_plan(suite, EASY)
    assert plan.sharing.hours == pytest.approx(plan.total(lambda work: work.gpu_hours))
    assert plan.sharing.hours < plan.sharing.hours_apart


def test_one_method_alone_shares_nothing(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, methods={"zero-shot": {"kind": "base"}})
    assert make_plan(suite, EASY).sharing.share == 1.0


def test_the_full_testbed_stays_within_its_time_on_two_cores(full: Suite) -> None:
    plan = make_plan(full, Assumptions())
    # Six hours less half an hour for the tables and R3V's longer jobs; measured were 5.25 in all.
    assert plan.sharing.hours / 2 <= 5.5
    assert plan.sharing.hours < 0.5 * plan.sharing.hours_apart, "under half of what the methods cost apart"


def test_the_plan_prints_what_sharing_saves(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    found = CliRunner().invoke(app, ["plan", "--configfile", "config/testbed-full.yaml"])
    assert found.exit_code == 0, found.output
    plan = make_plan(load_suite(Path("config/testbed-full.yaml")), Assumptions())
    assert f"{plan.sharing.hours / 2:,.1f} hours on 2 cores" in found.output
    assert f"{plan.sharing.jobs_apart:,} jobs instead of {plan.sharing.jobs:,}" in found.output
    assert f"The suite takes {plan.sharing.share:.0%} of that" in found.output
