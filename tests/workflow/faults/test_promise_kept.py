"""No number that its settings, code and data did not make: two runs at once, copies, edits, leftover jobs."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.checkout import EVERY_JOB, Checkout
from tests.workflow.faults.conftest import (
    Watched,
    assert_a_plain_rerun_completes,
    assert_nothing_is_half_written,
)
from tests.workflow.faults.test_signals import FORKED, ZERO_SHOT, jobs, worker
from vista.config import load_yaml

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

GRIDS = "evaluation/nano-smoke/grids"
STAR = f"{GRIDS}/star/seed0/round1/predictions.parquet"
DPO = f"{GRIDS}/vista-dpo/seed0/round1/predictions.parquet"
TRAINED_STAR = "training/nano-smoke/grids/star/seed0/round1"


def with_settings(checkout: Checkout, **settings: object) -> list[str]:
    """Options of Snakemake for a suite with other settings."""
    return ["--config", *(f"{name}={value}" for name, value in settings.items())]


def planned(checkout: Checkout, *arguments: str) -> set[str]:
    """The rules that a dry run would run."""
    done = checkout.snakemake("results/smoke/tables/main.csv", *EVERY_JOB, *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    said = done.stdout + done.stderr
    return {
        line.split()[1].rstrip(":") for line in said.splitlines() if line.startswith(("rule", "localrule"))
    }


def edit(checkout: Checkout) -> Path:
    """Have yes and no mean their opposite."""
    file = checkout.folder / "vista/answers.py"
    file.write_text(
        file.read_text().replace('"yes"', '"NO"').replace('"no"', '"yes"').replace('"NO"', '"no"')
    )
    return file


def test_two_with_targets_that_do_not_overlap_do_not_work_side_by_side(copy: Checkout) -> None:
    """Snakemake's lock lets the second in: it is of files."""
    main_csv, suite = copy.main_csv.read_bytes(), (copy.results / "suite.json").read_bytes()
    copy.remove(STAR, DPO)
    first = Watched.start(copy, f"results/smoke/{STAR}")
    assert first.wait_for(lambda: bool(jobs(first, "evaluate")))
    second = copy.snakemake(f"results/smoke/{DPO}", *with_settings(copy, eval_max_new_tokens=5))
    assert second.returncode != 0
    assert f"process {first.process.pid} on" in second.stderr
    assert "is at work in this folder" in second.stderr
    assert "Traceback" not in second.stderr
    assert (copy.results / "suite.json").read_bytes() == suite
    assert first.end() == 0, first.said[-4000:]
    assert_a_plain_rerun_completes(copy, main_csv)


def test_two_working_folders_with_one_results_folder_do_not_work_side_by_side(
    copy: Checkout, root: Path, tmp_path: Path
) -> None:
    main_csv = copy.main_csv.read_bytes()
    copy.remove(ZERO_SHOT)
    other = tmp_path / "clone"
    other.mkdir()
    clone = Checkout.make(root, other)
    (other / "results").symlink_to(copy.folder / "results")
    first = Watched.start(copy)
    assert first.wait_for(lambda: bool(jobs(first, "evaluate")))
    second = clone.snakemake("results/smoke/tables/main.csv")
    assert second.returncode != 0
    assert "is at work in this folder" in second.stderr
    assert first.end() == 0, first.said[-4000:]
    assert copy.main_csv.read_bytes() == main_csv
    assert planned(clone) == set(), "what one has made is made for the other"


@pytest.mark.parametrize("removed", [[ZERO_SHOT], FORKED], ids=["processes", "forks"])
def test_jobs_that_outlive_their_snakemake_are_named_and_not_run_twice(
    copy: Checkout, removed: list[str]
) -> None:
    main_csv = copy.main_csv.read_bytes()
    copy.remove(*removed)
    run = Watched.start(copy)
    assert run.wait_for(lambda: bool(jobs(run, "evaluate")))
    assert run.wait_for(lambda: any((copy.results / ".jobs").glob("evaluate-*")))
    left = [worker(job) for job in jobs(run, "evaluate")]
    for job in left:
        job.send_signal(signal.SIGSTOP)
    run.process.kill()
    run.process.wait()
    assert copy.snakemake("--unlock").returncode == 0
    second = copy.snakemake()
    assert second.returncode != 0
    (stop,) = re.findall(r"kill ([\d ]+)", second.stderr)
    assert set(stop.split()) <= {str(job.pid) for job in left}
    assert "vista evaluate" in second.stderr
    assert not copy.main_csv.exists()
    for job in left:
        job.send_signal(signal.SIGCONT)
    psutil.wait_procs(left, timeout=300)
    again = copy.snakemake("--rerun-incomplete")
    assert again.returncode == 0, again.stderr[-4000:]
    assert copy.main_csv.read_bytes() == main_csv
    assert_nothing_is_half_written(copy)


@pytest.mark.parametrize("snapshot", [False, True], ids=["live", "snapshot"])
def test_code_that_is_edited_during_a_run_and_put_back_makes_nothing(copy: Checkout, snapshot: bool) -> None:
    main_csv = copy.main_csv.read_bytes()
    removed = copy.remove(TRAINED_STAR)
    assert copy.results / STAR in removed
    run = Watched.start(
        copy, "results/smoke/tables/main.csv", *with_settings(copy, snapshot=str(snapshot).lower())
    )
    assert run.wait_for(lambda: bool(jobs(run, "train")))
    before = (copy.folder / "vista/answers.py").read_bytes()
    edited = edit(copy)
    assert edited.read_bytes() != before
    status = run.end()
    edited.write_bytes(before)
    if snapshot:
        assert status == 0, run.said[-4000:]
        assert copy.main_csv.read_bytes() == main_csv
    else:
        assert status != 0
        assert f"{edited}: was edited since snakemake started" in run.said
        assert "Traceback" not in run.said
        assert not (copy.results / STAR).exists()
    assert_a_plain_rerun_completes(copy, main_csv)


def test_comments_may_be_edited_during_a_run(copy: Checkout) -> None:
    main_csv = copy.main_csv.read_bytes()
    copy.remove(TRAINED_STAR)
    run = Watched.start(copy)
    assert run.wait_for(lambda: bool(jobs(run, "train")))
    with (copy.folder / "vista/answers.py").open("a") as file:
        file.write("\n# A thought.\n")
    assert run.end() == 0, run.said[-4000:]
    assert copy.main_csv.read_bytes() == main_csv


def test_results_without_snakemakes_memory_are_as_stale_as_with_it(copy: Checkout) -> None:
    edits = {"none": [], "tokens": with_settings(copy, eval_max_new_tokens=40)}
    raw = load_yaml(copy.folder / "config/smoke.yaml")
    rate = raw["training"]["sft"] | {"learning_rate": 9e-3}
    edits["rate"] = ["--config", f"training={raw['training'] | {'sft': rate}}"]
    remembered = {name: planned(copy, *options) for name, options in edits.items()}
    assert remembered["none"] == set()
    assert remembered["tokens"] == {"evaluate", "collect", "results"}
    assert {"train", "evaluate"} <= remembered["rate"]
    shutil.rmtree(copy.folder / ".snakemake")
    assert {name: planned(copy, *options) for name, options in edits.items()} == remembered
    answers = copy.folder / "vista/answers.py"
    answers.write_text(answers.read_text() + "\nNEW = 1\n")
    shutil.rmtree(copy.folder / ".snakemake", ignore_errors=True)
    assert {"sample", "evaluate"} <= planned(copy)


def test_an_output_of_another_run_is_made_again_even_with_its_manifest(copy: Checkout) -> None:
    main_csv = copy.main_csv.read_bytes()
    for name in ("predictions.parquet", "predictions.parquet.manifest.json"):
        shutil.copy2((copy.results / DPO).with_name(name), (copy.results / STAR).with_name(name))
    assert planned(copy) == {"evaluate", "collect", "results"}
    assert_a_plain_rerun_completes(copy, main_csv)


def test_a_table_that_was_changed_is_written_again(copy: Checkout) -> None:
    main_csv = copy.main_csv.read_bytes()
    copy.main_csv.write_bytes(main_csv.replace(b"55.00", b"95.00"))
    assert copy.main_csv.read_bytes() != main_csv
    assert planned(copy) == {"results"}
    assert_a_plain_rerun_completes(copy, main_csv)


def test_a_run_that_is_stopped_and_slowed_at_random_makes_the_same_bytes(copy: Checkout) -> None:
    """Nothing that a job does may depend on how long it takes."""
    main_csv = copy.main_csv.read_bytes()
    resampled = next((copy.results / "rollouts").rglob("resamples/*/*.parquet"))
    copy.remove(str(resampled.relative_to(copy.results)))
    run, moments, stops = Watched.start(copy), random.Random(20260512), 0
    while run.process.poll() is None:
        working = [
            worker(job) for name in ("resample", "score", "train", "evaluate") for job in jobs(run, name)
        ]
        for job in working:
            with contextlib.suppress(psutil.Error):
                job.nice(moments.randint(0, 19))
                job.suspend()
                time.sleep(moments.uniform(0.0, 1.0))
                job.resume()
                stops += 1
        time.sleep(moments.uniform(0.0, 0.5))
    assert run.process.returncode == 0, run.said[-4000:]
    assert stops > 10
    assert copy.main_csv.read_bytes() == main_csv
    assert_nothing_is_half_written(copy)
