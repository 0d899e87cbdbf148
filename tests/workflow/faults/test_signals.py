"""Ctrl-C, a polite request to end, a job that dies, and a second Snakemake in the same folder."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.checkout import Checkout
from tests.workflow.faults.conftest import (
    Watched,
    assert_a_plain_rerun_completes,
    assert_nothing_is_half_written,
)
from vista import warm

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

ZERO_SHOT = "evaluation/nano-smoke/grids/zero-shot/seed0/round0/predictions.parquet"
SFT_SEED = "evaluation/nano-smoke/grids/sft-seed/seed0/round0/predictions.parquet"
STAR = "evaluation/nano-smoke/grids/star/seed0/round1/predictions.parquet"
FORKED = [ZERO_SHOT, SFT_SEED, STAR]  # enough jobs for a process that forks


def predictions(checkout: Checkout) -> set[Path]:
    return set(checkout.results.rglob("predictions.parquet"))


def jobs(run: Watched, command: str) -> list[psutil.Process]:
    """The processes of the jobs that run a command of ours."""
    children = psutil.Process(run.process.pid).children(recursive=True)
    return [child for child in children if {"vista", command} <= {Path(each).name for each in words(child)}]


def worker(job: psutil.Process) -> psutil.Process:
    """The process that does the work: the fork that a job waits for, or the job itself."""
    for fork in warm.forks([job.pid]):
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(fork)
    return job


def words(process: psutil.Process) -> list[str]:
    try:
        name = Path(process.exe()).name
        return process.cmdline() if name.startswith("python") else []
    except psutil.Error:  # it has just ended
        return []


@pytest.mark.parametrize("polite", [False, True], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_run_ends_by_itself_keeps_what_is_done_and_needs_no_unlocking(
    copy: Checkout, polite: bool
) -> None:
    main_csv = copy.main_csv.read_bytes()
    copy.remove(*FORKED)
    before = predictions(copy)
    run = Watched.start(copy)
    assert run.wait_for(lambda: any(worker(job) != job for job in jobs(run, "evaluate")))
    if polite:
        os.kill(run.process.pid, signal.SIGTERM)
    else:
        os.killpg(run.process.pid, signal.SIGINT)  # a terminal sends it to the jobs as well
    assert run.end() != 0
    assert not copy.main_csv.exists()
    assert before <= predictions(copy)
    assert_nothing_is_half_written(copy)
    assert_a_plain_rerun_completes(copy, main_csv)


@pytest.mark.parametrize("is_fork", [False, True], ids=["who waits", "who works"])
def test_a_job_that_dies_by_a_signal_is_named_with_its_log_and_the_others_go_on(
    copy: Checkout, is_fork: bool
) -> None:
    main_csv = copy.main_csv.read_bytes()
    copy.remove(*FORKED)
    run = Watched.start(copy)
    assert run.wait_for(lambda: bool(jobs(run, "evaluate")))
    victim = jobs(run, "evaluate")[0]
    (died,) = (each for each in FORKED if each.split("/")[3] in " ".join(victim.cmdline()))
    if is_fork:
        assert run.wait_for(lambda: worker(victim) != victim)
        worker(victim).kill()
    else:
        victim.kill()
    assert run.end() != 0
    assert run.said.count("Error in rule") == 1
    assert "Error in rule evaluate" in run.said
    assert f"results/smoke/logs/{Path(died).parent}.log" in run.said
    assert "Traceback" not in run.said
    left = {str(each.relative_to(copy.results)) for each in predictions(copy)}
    assert set(FORKED) - left == {died}
    assert_a_plain_rerun_completes(copy, main_csv)


def test_a_second_snakemake_in_the_same_folder_is_refused_and_harms_nothing(copy: Checkout) -> None:
    """Not even one with another config: jobs of the first go on reading the suite of the first."""
    main_csv = copy.main_csv.read_bytes()
    suite = (copy.results / "suite.json").read_bytes()
    copy.remove(ZERO_SHOT)
    first = Watched.start(copy)
    assert first.wait_for(lambda: bool(jobs(first, "evaluate")))
    second = copy.snakemake("results/smoke/tables/main.csv", "--config", "eval_batch_size=8")
    assert second.returncode != 0
    assert "cannot be locked" in second.stderr
    assert "Traceback" not in second.stderr
    assert (copy.results / "suite.json").read_bytes() == suite
    assert first.end() == 0, first.said[-4000:]
    assert copy.main_csv.read_bytes() == main_csv
    assert_nothing_is_half_written(copy)


def test_several_that_begin_at_once_leave_one_whole_suite(root: Path, tmp_path: Path) -> None:
    checkout = Checkout.make(root, tmp_path)
    logs = [tmp_path / f"said{number}.txt" for number in range(3)]
    started = [checkout.start("results/smoke/tables/main.csv", "-n", log=log) for log in logs]
    said = [(each.wait(), log.read_text()) for each, log in zip(started, logs, strict=True)]
    assert all(status == 0 for status, _ in said), said
    checkout.suite()
    assert not list(checkout.results.rglob(".*part"))
