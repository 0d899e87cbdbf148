"""``kill -9`` of Snakemake and all its jobs, at random moments, again and again.

``VISTA_KILLS`` says how often (5; ``make test-faults``: 100). The moments are drawn from a fixed seed,
but what is going on at them is not: it depends on the machine.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.workflow.faults.conftest import (
    KILLS,
    Watched,
    assert_a_plain_rerun_completes,
    assert_nothing_is_half_written,
)
from vista import verify
from vista.manifest import find_outputs

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

STARTING = 2.5  # seconds in which Snakemake loads, plans and starts its first jobs
JOB = 8.0  # seconds that a job takes


def wait_for_the_moment(run: Watched, moments: random.Random) -> None:
    """While Snakemake plans; in its first jobs; or when some have finished, or a little later."""
    jobs = moments.choice((None, None, 0, 1, 1, 1, 2))
    if jobs is None:
        seconds = moments.uniform(0.0, STARTING)
    else:
        run.wait_for(lambda: run.finished_jobs() >= jobs if jobs else run.running())
        seconds = moments.uniform(0.0, 2.0 if jobs else JOB)
    end = time.monotonic() + seconds
    run.wait_for(lambda: time.monotonic() >= end)


def remove_some(checkout: Checkout, moments: random.Random) -> None:
    """Some outputs, with what was made from them."""
    names = sorted(
        str(each.relative_to(checkout.results)) for each in find_outputs(checkout.results, verify.FOLDERS)
    )
    checkout.remove(*moments.sample(names, 3))


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(
    finished: Checkout, root: Path, tmp_path: Path
) -> None:
    """In a clean folder of its own: that two runs agree, and that a killed one does."""
    checkout = Checkout.make(root, tmp_path)
    moments = random.Random(20260511)
    killed = 0
    while killed < KILLS:
        run = Watched.start(checkout)
        wait_for_the_moment(run, moments)
        if run.process.poll() is None:
            run.kill()
            killed += 1
        else:
            assert run.process.returncode == 0, run.said[-8000:]
            assert checkout.main_csv.read_bytes() == finished.main_csv.read_bytes()
            remove_some(checkout, moments)
        assert_nothing_is_half_written(checkout)
        if any((checkout.folder / ".snakemake/locks").glob("*")):
            unlocked = checkout.snakemake("--unlock")
            assert unlocked.returncode == 0, unlocked.stderr
    assert_a_plain_rerun_completes(checkout, finished.main_csv.read_bytes())


def test_the_lock_that_a_killed_run_leaves_says_how_to_remove_it(copy: Checkout) -> None:
    copy.remove("long.csv")
    run = Watched.start(copy)
    assert run.wait_for(lambda: run.running("collect"))
    run.kill()
    done = copy.snakemake()
    assert done.returncode != 0
    assert "--unlock" in done.stderr
    assert "Traceback" not in done.stderr
    assert copy.snakemake("--unlock").returncode == 0
