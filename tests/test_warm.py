"""A job in a fork of a process that has imported the libraries is as good as one in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from vista import memory, warm
from vista.config import load_suite
from vista.dag import Dag
from vista.stages import STAGE_COMMANDS

# Stands in for the command line: a job does what it is told.
SERVER = """
import json, os, signal, sys, time
from pathlib import Path
from vista import warm

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored below `nohup`, by jobs as well
warm.serve(int(sys.argv[1]), 1, ["json"])
what, *rest = sys.argv[2:]
if what == "tell":
    mask = os.umask(0)
    told = {"folder": os.getcwd(), "mask": mask, "argv": sys.argv, "memory": os.environ.get("VISTA_MEMORY")}
    told |= {"said": sys.stdin.read(), "group": os.getpgrp(), "pid": os.getpid()}
    told |= {"interrupts": signal.getsignal(signal.SIGINT) is signal.default_int_handler}
    told |= {"files": sorted(int(name) for name in os.listdir("/proc/self/fd"))}
    print(json.dumps(told))
    print("a mistake", file=sys.stderr)
elif what == "exit":
    sys.exit(int(rest[0]))
elif what == "die":
    os.kill(os.getpid(), int(rest[0]))
elif what == "work":
    Path(rest[0]).write_text(str(os.getpid()))
    time.sleep(600)
"""
ASKER = """
import sys
from vista import warm

warm.run_there(sys.argv[1:])
print("by itself")
"""
NAME = "vista-test-{pid}-{count}"


class Forking:
    """A process that forks, and those who ask it."""

    count = 0

    def __init__(self, log: Path) -> None:
        Forking.count += 1
        self.log = log
        self.name = NAME.format(pid=os.getpid(), count=Forking.count)
        self.environment = {**os.environ, warm.VARIABLE: self.name}
        with log.open("wb") as said, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{self.name}")
            listener.listen()
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(listener.fileno())],
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=said,
                env=self.environment,
            )

    def ask(self, *what: str, **options: object) -> subprocess.Popen[str]:
        given = {"env": self.environment, "stdin": subprocess.PIPE, "text": True} | options
        command = [sys.executable, "-c", ASKER, "sample", *what]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, **pipes, **given)  # type: ignore[call-overload, no-any-return]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def forking(tmp_path: Path) -> Iterator[Forking]:
    started = Forking(tmp_path / "warm.log")
    yield started
    started.close()
    started.process.kill()
    started.process.wait()


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def at_work(forking: Forking, file: Path, **options: object) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Somebody whose job works, and the fork that does it."""
    asker = forking.ask("work", str(file), **options)
    wait_until(lambda: file.is_file() and file.read_text())
    return asker, psutil.Process(int(file.read_text()))


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_fork_is_what_its_asker_was_to_be(forking: Forking, tmp_path: Path) -> None:
    environment = {**forking.environment, "VISTA_MEMORY": "sample:4000"}
    asker = forking.ask("tell", "me", cwd=tmp_path, umask=0o027, env=environment, process_group=0)
    said, mistakes = asker.communicate("from a pipe")
    told = json.loads(said)
    assert asker.returncode == 0
    assert (told["folder"], told["mask"], told["memory"]) == (str(tmp_path), 0o027, "sample:4000")
    assert told["argv"] == ["vista", "sample", "tell", "me"]
    assert (told["said"], mistakes) == ("from a pipe", "a mistake\n")
    assert told["group"] == asker.pid != told["pid"]
    assert told["interrupts"]
    assert told["files"] == [0, 1, 2, 3]  # the last is the folder that is listed


@pytest.mark.parametrize("status", [0, 2, 77])
def test_its_status_is_the_askers(forking: Forking, status: int) -> None:
    assert forking.ask("exit", str(status)).wait() == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGABRT])
def test_the_signal_that_ends_it_ends_its_asker(forking: Forking, number: int) -> None:
    assert forking.ask("die", str(int(number))).wait() == -number


def test_many_ask_at_once_and_each_has_an_answer(forking: Forking) -> None:
    asked = [forking.ask("exit", str(number)) for number in range(20)]
    assert [asker.wait() for asker in asked] == list(range(20))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_asker_reaches_the_fork(forking: Forking, tmp_path: Path, number: int) -> None:
    asker, fork = at_work(forking, tmp_path / "fork")
    wait_until(lambda: list(warm.forks([asker.pid])) == [fork.pid])
    asker.send_signal(number)
    assert asker.wait() == -number
    assert is_gone(fork)


def test_ctrl_c_reaches_asker_and_fork_and_leaves_the_one_who_forks(forking: Forking, tmp_path: Path) -> None:
    asker, fork = at_work(forking, tmp_path / "fork", process_group=0)
    wait_until(lambda: list(warm.forks([asker.pid])) == [fork.pid])
    os.killpg(asker.pid, signal.SIGINT)
    assert asker.wait() == -signal.SIGINT
    assert is_gone(fork)
    assert forking.ask("exit", "5").wait() == 5


def test_a_fork_does_not_outlive_its_asker(forking: Forking, tmp_path: Path) -> None:
    asker, fork = at_work(forking, tmp_path / "fork")
    asker.kill()
    wait_until(lambda: is_gone(fork))
    assert forking.ask("exit", "5").wait() == 5


def test_a_fork_does_not_outlive_the_one_who_forks_and_its_asker_says_so(
    forking: Forking, tmp_path: Path
) -> None:
    asker, fork = at_work(forking, tmp_path / "fork")
    forking.process.kill()
    said, mistakes = asker.communicate()
    assert (asker.returncode, said, mistakes) == (1, "", f"{warm.DIED}\n")
    wait_until(lambda: is_gone(fork))


def test_the_one_who_forks_ends_with_its_snakemake_after_the_last_fork(
    forking: Forking, tmp_path: Path
) -> None:
    asker, fork = at_work(forking, tmp_path / "fork")
    forking.close()
    wait_until(lambda: forking.ask("exit", "5").communicate()[0] == "by itself\n")
    assert forking.process.poll() is None
    fork.terminate()
    assert asker.wait() == -signal.SIGTERM
    assert forking.process.wait() == 0


@pytest.mark.parametrize(
    "other",
    [
        {"HF_HUB_OFFLINE": "neither"},
        {"MALLOC_ARENA_MAX": "two"},
        {"PYTHONPATH": f"{Path(warm.__file__).parents[1]}:/nowhere"},
        {warm.VARIABLE: "off"},
        {warm.VARIABLE: "vista-nobody"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_who_asks_in_other_circumstances_does_it_himself_and_the_log_says_why(
    forking: Forking, other: dict[str, str]
) -> None:
    asker = forking.ask("exit", "5", env={**forking.environment, **other})
    assert asker.communicate() == ("by itself\n", "")
    said = forking.log.read_text()
    if warm.VARIABLE not in other:
        (name, value), *_ = other.items()
        assert f"not forked: vista sample exit 5; other circumstances: {name}\n" in said
        assert value not in said


@pytest.mark.parametrize("free", [{"OMP_NUM_THREADS": "7"}, {"TMPDIR": "elsewhere"}, {"SHLVL": "9"}])
def test_what_differs_between_jobs_anyway_is_no_other_circumstance(
    forking: Forking, free: dict[str, str]
) -> None:
    assert forking.ask("exit", "5", env={**forking.environment, **free}).wait() == 5


def test_only_commands_that_import_much_and_read_no_hub_are_forked(forking: Forking) -> None:
    for command in ("tasks", "models", "--version", ""):
        asked = subprocess.run(
            [sys.executable, "-c", ASKER, *filter(None, [command])],
            env=forking.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert asked.stdout == "by itself\n"


def test_nothing_is_started_for_few_jobs_or_where_it_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "warm.log"
    monkeypatch.delenv(warm.VARIABLE, raising=False)
    assert warm.start(log, 1, ["train", "evaluate", "tables", "gallery", *["tasks"] * 9]) is None
    monkeypatch.setenv(warm.VARIABLE, "of another snakemake")
    assert warm.start(log, 1, []) is None
    assert warm.VARIABLE not in os.environ
    monkeypatch.setenv(warm.VARIABLE, "off")
    assert warm.start(log, 1, ["train"] * 9) is None
    assert not log.exists()


def test_jobs_that_come_before_everything_is_imported_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a real one, which takes seconds: a mistaken command is enough to see that it ran."""
    log = tmp_path / "logs/warm.log"
    monkeypatch.delenv(warm.VARIABLE, raising=False)
    keeps = warm.start(log, 1, ["evaluate"] * warm.WORTHWHILE)
    assert keeps is not None
    asked = [sys.executable, "-m", "vista", "evaluate", "nothing.json", "no/run"]
    told = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert told.returncode == 2
    assert "nothing.json: no such file" in told.stderr
    assert log.read_text().endswith(": vista evaluate nothing.json no/run\n")
    keeps.close()


@pytest.mark.parametrize(
    ("jobs", "imported"),
    [
        (["train", "evaluate", "results", "figure", "gallery"], {"tables"}),
        (["train", "evaluate", "score", "curate"], {"models"}),
        (["train", "evaluate", "score", "curate", "training", "cost"], {"models", "tables"}),
    ],
)
def test_only_what_several_jobs_need_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[str], imported: set[str]
) -> None:
    asked: list[list[str]] = []

    def started(command: list[str], **_: Any) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(stdin=None)

    monkeypatch.delenv(warm.VARIABLE, raising=False)
    monkeypatch.setattr(warm.subprocess, "Popen", started)
    warm.start(tmp_path / "warm.log", 1, jobs)
    (command,) = asked
    assert {"models", "tables"} & set(command) == imported


def test_every_command_that_is_forked_and_every_rule_that_runs_one_exists(root: Path) -> None:
    assert set(warm.COMMANDS) <= {name for names in STAGE_COMMANDS.values() for name in names}
    tables = Dag(load_suite(root / "config/smoke.yaml", root=root)).table_commands()
    rules = (root / "workflow/rules/analysis.smk").read_text()
    for rule, command in warm.RULES.items():
        assert tables.get(rule) == command or f"rule {rule}:\n" in rules
        assert command in warm.TABLES
    assert {warm.RULES.get(rule, rule) for rule in tables} <= set(warm.TABLES)


def test_what_was_mapped_before_the_fork_is_not_taken_from_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(memory, "_has_gpu", lambda: False)
    monkeypatch.setattr(memory, "_lower_to", limits.append)
    monkeypatch.setenv(memory.VARIABLE, "train:4000")
    for inherited in (0, memory.RESERVED, memory.RESERVED + 5):
        monkeypatch.setattr(memory, "INHERITED", inherited)
        memory.limit_job()
    assert limits[0] == limits[1] == limits[2] - 5
