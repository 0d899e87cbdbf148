"""What rules hand to the shell is quoted, and a failing command fails its job."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.checkout import Checkout
from vista.dag.settings import LIGHT_MEMORY
from vista.records import QUERY, read_rows

RESULTS = "my 'res\"ults; touch sprung; $(touch sprung) `touch sprung` > sprung & #x"
TARGETS = ["tables", "figures"]


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Checkout:
    """A checkout whose results folder has a name that a shell would make much of."""
    made = Checkout.make(root, tmp_path)
    suite = made.folder / "config/smoke.yaml"
    suite.write_text(
        suite.read_text().replace("results: results/smoke", f"results: '{yaml_single(RESULTS)}'")
    )
    return made


def yaml_single(text: str) -> str:
    return text.replace("'", "''")


def shell_commands(printed: str) -> list[str]:
    """The shell commands among what ``snakemake --printshellcmds`` prints."""
    return re.findall(r"^Shell command: (?!None$)(.+)$", printed, flags=re.M)


def test_every_rule_puts_each_of_its_names_and_paths_in_quotes(root: Path) -> None:
    rules = [*root.glob("workflow/rules/*.smk"), root / "Snakefile"]
    bare = [
        f"{file.name}: {line.strip()}"
        for file in rules
        for line in re.findall(r'^ {8}".*"$', file.read_text(), flags=re.M)
        if re.search(r"2>&1|\bvista |params\.vista|python -m", line)
        for field in re.findall(r"\{([^{}]*)\}", line)
        if not field.endswith(":q")
    ]
    assert bare == []


def test_in_a_folder_with_a_hostile_name_every_command_is_one_program_and_its_log(checkout: Checkout) -> None:
    done = checkout.snakemake(*TARGETS, "--dry-run", "--printshellcmds")
    assert done.returncode == 0, done.stdout + done.stderr
    commands = shell_commands(done.stdout)
    assert len(commands) > 30
    for command in commands:
        words = shlex.split(command)
        at = words.index("|")
        assert words[at - 1] == "2>&1"
        assert words[at + 1] == "tee"
        assert words[at + 2].startswith(f"{RESULTS}/logs/")
        assert len(words) == at + 3
        assert re.fullmatch(r"VISTA_MEMORY=\w+:\d+", words[0])
        assert words[1] in {"vista", "python"}
        assert any(word.startswith((f"{RESULTS}/", "nano-smoke=")) for word in words[:at])
    assert not (checkout.folder / "sprung").exists()


def test_in_such_a_folder_a_job_runs_and_writes_there(checkout: Checkout) -> None:
    target = f"{RESULTS}/tasks/grid-closed/test.parquet"
    done = checkout.snakemake(target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(read_rows(checkout.folder / target, QUERY)) == 40
    assert (checkout.folder / RESULTS / "logs/tasks/grid-closed/test.log").is_file()
    assert not (checkout.folder / "sprung").exists()


def test_a_job_is_told_its_memory_and_fails_with_its_command_although_that_goes_through_tee(
    checkout: Checkout,
) -> None:
    programs = checkout.folder / "programs"
    programs.mkdir()
    vista = programs / "vista"
    vista.write_text('#!/bin/sh\necho "this fails with $VISTA_MEMORY"\nexit 7\n')
    vista.chmod(0o755)
    environment = checkout.environment
    done = subprocess.run(
        checkout.command(f"{RESULTS}/tasks/grid-closed/test.parquet"),
        cwd=checkout.folder,
        env={**environment, "PATH": f"{programs}{os.pathsep}{environment['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    said = (checkout.folder / RESULTS / "logs/tasks/grid-closed/test.log").read_text()
    assert said == f"this fails with tasks:{LIGHT_MEMORY}\n"
