"""What a run shows in a terminal, from its first job to what it says last."""

from __future__ import annotations

import os

import pytest

from tests.checkout import Checkout
from tests.terminal import in_terminal

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]


def test_in_a_terminal_a_run_is_one_bar_and_ends_with_what_it_made(copy: Checkout) -> None:
    copy.remove("tables/main.csv", "tables/cost.csv")
    log = copy.results / "logs/analysis/results.log"
    log.unlink()
    status, said = in_terminal(copy.command(), copy.folder, copy.environment)
    assert status == 0, said
    assert " of 2 jobs" in said
    assert not any(word in said for word in ("localrule", "Select jobs", "jobid", "Finished jobid"))
    assert log.is_file(), "what the job printed is in its log"
    assert "2 jobs in 0 min" in said
    assert "results/smoke/tables/cost.md, results/smoke/tables/main.md" in said
    assert "snakemake --cores all tables figures --configfile config/smoke.yaml" in said


def test_in_a_terminal_a_job_that_fails_is_told_with_the_end_of_its_log(copy: Checkout) -> None:
    copy.remove("long.csv")
    damaged = next(copy.results.rglob("predictions.parquet"))
    stat = damaged.stat()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    os.utime(damaged, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    status, said = in_terminal(copy.command(), copy.folder, copy.environment)
    assert status == 1
    assert "error: " in said
    assert "predictions.parquet" in said
    assert "main.md" not in said, "nothing was made"


def test_where_output_is_redirected_a_run_ends_with_what_it_made_too(copy: Checkout) -> None:
    copy.remove("tables/main.csv", "tables/cost.csv")
    done = copy.snakemake()
    assert done.returncode == 0, done.stderr
    assert "2 of 2 jobs done (100 %)" in done.stderr
    assert "where a number comes from:  vista show results/smoke/tables/main.csv" in done.stderr
