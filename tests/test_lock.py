"""Who is at work in a results folder."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vista import lock
from vista.errors import VistaError

HOLD = """
import os, sys
from pathlib import Path
from vista import lock
{what}
print("holds", flush=True)
sys.stdin.read()
"""
TAKE = "held = lock.take(Path(sys.argv[1]))"
JOIN = "lock.join(Path(sys.argv[1]), 'train-a', 'vista train a')"


@contextmanager
def other(results: Path, what: str, start: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that takes or joins ``results``, until the block ends."""
    environment = {**os.environ, lock.START: start}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(what=what), str(results)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_second_snakemake_is_told_which_process_works_there(tmp_path: Path) -> None:
    with (
        other(tmp_path, TAKE) as first,
        pytest.raises(VistaError, match=rf"snakemake \(process {first.pid} on .*is at work in this folder"),
    ):
        lock.take(tmp_path)


def test_the_folder_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "link").symlink_to("results")
    with other(tmp_path / "results", TAKE), pytest.raises(VistaError, match="is at work"):
        lock.take(tmp_path / "link")
    os.close(lock.take(tmp_path / "link"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_dead_owner_owns_nothing(tmp_path: Path, how: signal.Signals) -> None:
    with other(tmp_path, TAKE) as first:
        assert lock.is_at_work(tmp_path)
        first.send_signal(how)
        first.wait()
        assert not lock.is_at_work(tmp_path)
        os.close(lock.take(tmp_path))


def test_a_process_that_has_the_number_of_a_dead_owner_is_not_the_owner(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({"host": "", "pid": os.getppid(), "what": "snakemake"}))
    os.close(lock.take(tmp_path))


def test_a_paused_owner_owns_still(tmp_path: Path) -> None:
    with other(tmp_path, TAKE) as first:
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(VistaError, match="is at work"):
            lock.take(tmp_path)


def test_asking_takes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    assert not lock.is_at_work(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    held = lock.take(tmp_path)
    assert lock.is_at_work(tmp_path)
    os.close(held)
    assert not lock.is_at_work(tmp_path)


def test_jobs_that_outlive_their_snakemake_are_named(tmp_path: Path) -> None:
    with (
        other(tmp_path, JOIN, start="dead") as job,
        pytest.raises(VistaError, match=rf"vista train a \(process {job.pid} on .*kill {job.pid}$"),
    ):
        lock.refuse_jobs_left(tmp_path)
    lock.refuse_jobs_left(tmp_path)
    assert not list((tmp_path / ".jobs").iterdir()), "what the dead job left is removed"


def test_whoever_may_only_read_sees_another_users_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def as_another_user(file: Path, flags: int, *mode: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError
        return opened(file, flags, *mode)

    with other(tmp_path, TAKE), other(tmp_path, JOIN):
        monkeypatch.setattr(os, "open", as_another_user)
        assert lock.is_at_work(tmp_path)
        with pytest.raises(VistaError, match="still at work: vista train a"):
            lock.refuse_jobs_left(tmp_path)


def test_a_job_of_another_machine_is_not_to_be_killed_here(tmp_path: Path) -> None:
    with other(tmp_path, JOIN, start="dead"):
        file = tmp_path / ".jobs/train-a"
        file.write_text(json.dumps({"host": "node7", "pid": 1, "what": "vista train a"}))
        with pytest.raises(VistaError, match=r"process 1 on node7.*stop them there$"):
            lock.refuse_jobs_left(tmp_path)


def test_a_job_does_not_run_beside_itself(tmp_path: Path) -> None:
    with other(tmp_path, JOIN) as job, pytest.raises(VistaError, match=f"process {job.pid} on .*already"):
        lock.join(tmp_path, "train-a", "vista train a")


@pytest.mark.parametrize("start", ["", "earlier"])
def test_a_job_of_no_or_an_earlier_snakemake_does_not_run_beside_the_one_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """It may have been queued on a cluster, or have been starting, when its own was killed."""
    monkeypatch.setenv(lock.START, start)
    with other(tmp_path, TAKE, start="now"):
        with pytest.raises(VistaError, match="run this job when it has ended"):
            lock.join(tmp_path, "train-a", "vista train a")
        assert not (tmp_path / ".jobs/train-a").exists()
        with other(tmp_path, JOIN, start="now"):
            pass


def test_a_job_that_has_ended_leaves_nothing(tmp_path: Path) -> None:
    leave = lock.join(tmp_path, "train-a", "vista train a")
    leave()
    assert not list((tmp_path / ".jobs").iterdir())
    lock.join(tmp_path, "train-a", "vista train a")()


def test_a_launcher_that_takes_a_jobs_place_keeps_its_lock(tmp_path: Path) -> None:
    launch = (
        JOIN + "\nos.execv(sys.executable, [sys.executable, '-c', 'print(\"holds\", flush=True); input()'])"
    )
    with other(tmp_path, launch), pytest.raises(VistaError, match="still at work"):
        lock.refuse_jobs_left(tmp_path)


def test_a_file_system_without_locks_is_named_and_does_not_stop_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(lock.NO_LOCKS[0], "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    os.close(lock.take(tmp_path))
    assert f"{tmp_path}: its file system has no locks" in capsys.readouterr().err
    assert not lock.is_at_work(tmp_path)
