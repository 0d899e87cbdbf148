"""What jobs ask of a machine, what is quoted of those that fail, and which were left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vista.config import Suite, load_suite
from vista.dag import Dag
from vista.dag.jobs import (
    LINES,
    LONG_AGO,
    PREFIX,
    last_lines,
    leftover_jobs,
    make_old,
    refuse_leftover_jobs,
)
from vista.errors import VistaError

RUN = "nano-smoke/grids/star/seed0/round1"


def smoke(root: Path, **model: Any) -> Dag:
    """The smoke suite on a machine with GPUs, its model's entry changed."""
    suite = load_suite(root / "config/smoke.yaml", root=root)
    changed = suite.model_dump() | {"gpus": 1, "threads": 4}
    changed["models"]["nano-smoke"] |= model
    return Dag(Suite.model_validate(changed))


def test_a_job_has_the_suites_threads_and_gpus_where_its_model_says_nothing(root: Path) -> None:
    dag = smoke(root)
    assert (dag.cpus("rollouts", RUN), dag.gpus("rollouts", RUN)) == (4, 1)
    assert (dag.cpus("models", "nano-smoke"), dag.gpus("models", "nano-smoke")) == (4, 1)


def test_training_has_them_for_each_process_and_a_node_to_itself(root: Path) -> None:
    dag = smoke(root, training={"processes": 8})
    assert (dag.cpus("training", RUN), dag.gpus("training", RUN)) == (32, 8)
    assert dag.slurm_extra(RUN) == "--nodes=1 --exclusive"
    assert dag.gpus("evaluation", RUN) == 1
    assert smoke(root).slurm_extra(RUN) == "", "one process shares its node"


def test_what_a_model_says_holds_for_the_whole_job(root: Path) -> None:
    dag = smoke(root, training={"processes": 8}, resources={"training": {"cpus": 12, "gpus": 4}})
    assert (dag.cpus("training", RUN), dag.gpus("training", RUN)) == (12, 4)


@settings(max_examples=20, deadline=None)
@given(attempt=st.integers(1, 5), memory=st.floats(0.1, 2000.0), hours=st.floats(0.05, 100.0))
def test_memory_and_time_grow_with_every_attempt(
    root: Path, attempt: int, memory: float, hours: float
) -> None:
    dag = smoke(root, resources={"rollouts": {"memory_gb": memory, "hours": hours}})
    assert dag.memory("rollouts", RUN, attempt) >= 1000 * memory * attempt
    assert dag.memory("rollouts", RUN, attempt) - 1000 * memory * attempt < 1
    assert 0 <= dag.minutes("rollouts", RUN, attempt) - 60 * hours * attempt < 1
    assert dag.light_memory(attempt + 1) > dag.light_memory(attempt)


def test_what_a_job_asks_for_makes_no_output_stale(root: Path) -> None:
    plain, other = smoke(root), smoke(root, resources={"models": {"memory_gb": 99, "hours": 99}})
    assert plain.model_settings("nano-smoke") == other.model_settings("nano-smoke")
    assert plain.training_settings(RUN) == other.training_settings(RUN)
    assert plain.evaluation_settings(RUN) == other.evaluation_settings(RUN)


def test_models_are_fetched_where_snakemake_runs_and_built_on_a_node(root: Path) -> None:
    assert not smoke(root).only_fetches()
    assert Dag(load_suite(root / "config/paper.yaml", root=root)).only_fetches()


@pytest.mark.parametrize(
    ("written", "quoted"),
    [
        (b"one\ntwo\n\n", ["one", "two"]),
        (b"bar  1%\rbar 50%\rbar 99%\nerror: no space\n", ["bar 99%", "error: no space"]),
        (b"bar 99%\r\nerror\r\n", ["bar 99%", "error"]),
        (b"caf\xe9\n", ["caf\ufffd"]),
        (b"".join(b"%d\n" % n for n in range(100_000)), [str(n) for n in range(100_000 - LINES, 100_000)]),
    ],
)
def test_the_last_lines_of_a_log_are_quoted(tmp_path: Path, written: bytes, quoted: list[str]) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(written)
    assert last_lines([log, log]).splitlines() == [f"{log}:", *(f"    {line}" for line in quoted)]


def test_a_log_that_says_nothing_is_named_all_the_same(tmp_path: Path) -> None:
    empty, missing = tmp_path / "empty.log", tmp_path / "missing.log"
    empty.write_text("\n")
    assert last_lines([empty, missing]).splitlines() == [
        f"{empty}: empty",
        f"{missing}: not written; the job did not start, or its machine failed",
    ]


def test_jobs_are_named_as_the_profile_names_them(root: Path) -> None:
    profile = yaml.safe_load((root / "profiles/slurm/config.yaml").read_text())
    assert f"{profile['slurm-jobname-prefix']}_" == PREFIX


def test_jobs_left_behind_are_those_of_this_folder_with_this_projects_names(tmp_path: Path) -> None:
    here = tmp_path.resolve()
    listed = f"1|{here}|vista_ab\n2|{here}/other|vista_ab\n3|{here}|else\n4_2|{here}|vista_a|b\n\n"
    assert leftover_jobs(listed, tmp_path) == ["1", "4_2"]


def squeue(folder: Path, script: str) -> None:
    """A ``squeue`` that says what a test wants."""
    command = folder / "squeue"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def test_nothing_starts_beside_jobs_that_were_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    squeue(tmp_path, f"echo '17|{tmp_path.resolve()}|vista_x'")
    with pytest.raises(VistaError, match="scancel 17"):
        refuse_leftover_jobs(tmp_path)
    squeue(tmp_path, "true")
    refuse_leftover_jobs(tmp_path)


def test_a_slurm_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    squeue(tmp_path, "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(VistaError, match="Unable to contact slurm controller"):
        refuse_leftover_jobs(tmp_path)


CHECKED = """
from vista.dag.jobs import make_old
include: "{root}/workflow/rules/common.smk"
onerror:
    expire_kept(workflow)
rule sample:
    input: rows="rows.txt", checked=ancient("check.json")
    output: "samples.txt"
    shell: "echo sampled >> spent.txt && cp {{input.rows}} {{output}}"
rule check:
    input: "queries.txt"
    output: update("check.json")
    params: settings=config["settings"]
    shell: "grep -q good {{input}} && [ {{params.settings}} = right ] && cp {{input}} {{output}}"
"""


def test_a_check_that_failed_fails_again_before_anything_is_spent(root: Path, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(CHECKED.format(root=root))
    said = {"queries": "good", "rows": "1", "settings": "right"}
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def run(**changes: str) -> tuple[bool, int]:
        """Whether all went well, and how often was sampled so far."""
        for name, text in changes.items():
            said[name] = text
            if name != "settings":
                (tmp_path / f"{name}.txt").write_text(text)
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "samples.txt"]
        done = subprocess.run(
            [*command, "--config", f"settings={said['settings']}"],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
        )
        time.sleep(0.02)  # inputs that change next are newer
        spent = tmp_path / "spent.txt"
        return done.returncode == 0, len(spent.read_text().splitlines()) if spent.exists() else 0

    assert run(**said) == (True, 1)
    assert run(queries="bad", rows="2") == (False, 1)
    assert (tmp_path / "check.json").read_text() == "good", "the last that passed stays"
    assert run() == (False, 1)
    assert run(queries="good again", settings="wrong") == (False, 1)
    assert run() == (False, 1)
    assert run(settings="right") == (True, 2)
    assert run(queries="good once more") == (True, 2)
    assert run(queries="good at last", rows="3") == (True, 3), "both are stale, and both are made again"


def test_what_failed_jobs_leave_is_made_old_and_what_is_gone_is_no_error(root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "check.json"
    kept.write_text("{}")
    make_old([kept, tmp_path / "gone.json"])
    assert kept.stat().st_mtime == LONG_AGO
    handler = (root / "Snakefile").read_text().partition("onerror:")[2].partition("\n\n\n")[0]
    assert "expire_kept(workflow)" in handler
