"""What a run shows in a terminal: a bar, the jobs at work, warnings, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal import in_terminal
from vista.dag import board

RUN = """
import logging, subprocess, sys
from pathlib import Path
from vista.dag.board import Board, is_wanted
from vista.dag.told import Progress

assert is_wanted(True, False) and not is_wanted(True, True) and not is_wanted(False, False)
logger = logging.getLogger("run")
logger.setLevel(logging.INFO)
handler = logging.StreamHandler(sys.stderr)
logger.addHandler(handler)
progress = Progress()
progress.planned({"train": 9, "total": 9})
for job in range(9):
    progress.described(job, "train", {"run": f"run-{job}"})
progress.started(range(8))
progress.finished(0)
shown = Board(progress, Path("logs/terminal.log"), handler)
shown.start()
logger.info("said in passing")
logger.info("Terminating processes on user request, this might take some time.")
logger.warning("said in earnest")
logger.error("\\x1b[31m" + "a/long/path" * 40 + "\\x1b[0m")
subprocess.run(["sh", "-c", "echo noise of a job; echo noise of a job >&2"])
shown.live.refresh()
sys.stderr.write("a line without an end")
{end}
subprocess.run(["echo", "printed afterwards"])
logger.info("logged afterwards")
"""


def run(end: str, tmp_path: Path) -> tuple[int, str]:
    script = tmp_path / "run.py"
    script.write_text(RUN.replace("{end}", end))
    environment = {**os.environ, "PYTHONPATH": str(Path(board.__file__).parents[2])}
    return in_terminal([sys.executable, str(script)], tmp_path, environment)


def test_the_board_shows_how_far_a_run_is_and_warnings_and_nothing_that_jobs_print(tmp_path: Path) -> None:
    status, said = run("shown.stop()", tmp_path)
    assert status == 0, said
    assert "1 of 9 jobs" in said
    assert "train run-1" in said
    assert f"and {7 - board.SHOWN} more" in said
    assert "said in earnest" in said
    assert "a/long/path" * 40 in said, "it is not broken into lines"
    assert "noise of a job" not in said
    assert (tmp_path / "logs/terminal.log").read_text() == "noise of a job\n" * 2
    assert "said in passing" not in said
    assert "Terminating processes on user request" in said, "a reader sees that Ctrl-C was heard"
    assert "a line without an end" in said


def test_after_the_board_everything_prints_as_before(tmp_path: Path) -> None:
    _, said = run("shown.stop(); shown.stop()", tmp_path)
    assert said.rstrip().endswith("printed afterwards\nlogged afterwards")


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise RuntimeError('it broke')"])
def test_a_run_that_ends_early_leaves_the_terminal_with_a_cursor(end: str, tmp_path: Path) -> None:
    status, said = run(end, tmp_path)
    assert status == (3 if "exit" in end else 1)
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l"), "the cursor is shown again"
    assert ("it broke" in said) == ("it broke" in end)


WANTED = "from vista.dag.board import is_wanted; print(is_wanted(True, False))"


def test_there_is_no_board_where_output_is_redirected() -> None:
    done = subprocess.run([sys.executable, "-c", WANTED], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(("terminal", "wanted"), [("xterm", "True\n"), ("dumb", "False\n")])
def test_there_is_no_board_in_a_terminal_that_draws_nothing_anew(
    terminal: str, wanted: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(board.__file__).parents[2])}
    command = ["env", f"TERM={terminal}", sys.executable, "-c", WANTED]
    assert in_terminal(command, tmp_path, environment) == (0, wanted)


def test_lines_fit_the_terminal_whatever_standard_input_is(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN.replace("{end}", "print('columns', shown.live.console.width); shown.stop()"))
    command = ["sh", "-c", f"stty columns 57; {sys.executable} {script} < /dev/null"]
    environment = {**os.environ, "PYTHONPATH": str(Path(board.__file__).parents[2])}
    status, said = in_terminal(command, tmp_path, environment)
    assert status == 0, said
    assert "columns 57" in said
