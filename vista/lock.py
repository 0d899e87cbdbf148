"""Who is at work in a results folder: one ``snakemake``, and the jobs that it started.

Each holds a lock (``flock``) on a file in the results folder that says who it is. The kernel, or the server
of a network file system, gives the lock back when its holder is gone, however that happened: so a file whose
lock is free is a dead owner's, and no clock and no process number is consulted. A paused owner keeps it.

* ``.lock``: the ``snakemake`` that makes outputs, wherever its working directory is.
* ``.jobs/NAME``: a job. It outlives a ``snakemake`` that is killed outright; the next one does not start
  beside it, since two jobs that make the same output would spoil each other's files.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vista.errors import VistaError, writing

START = "VISTA_START"  # environment variable: which start of snakemake a job belongs to
UNDER_WAY = "under way"  # a turn that has not ended
OVERTAKEN = "another snakemake was at work here while this one started; start it again"
TRIES, PAUSE = 20, 0.05  # seconds: somebody who asks whether a lock is free holds it for an instant
# What file systems without locks say.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


@dataclass(frozen=True)
class Owner:
    """Who holds, or held, a lock."""

    host: str = ""
    pid: int = 0
    what: str = ""
    start: str = ""  # of snakemake

    def __str__(self) -> str:
        return f"{self.what or 'a process'} (process {self.pid} on {self.host})"


def _lock_file(results: Path) -> Path:
    return results / ".lock"


def _jobs(results: Path) -> Path:
    return results / ".jobs"


def acquire(file: Path) -> int | None:
    """Take a file's lock; ``None`` if somebody else has it.

    Raises:
        VistaError: the file cannot be written.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    os.close(handle)
                    raise
                said = f"{file.parent}: its file system has no locks; see to it that nobody else works there"
                print(said, file=sys.stderr)
            if _is_still(file, handle):
                break
            os.close(handle)  # its owner removed it in between
    return handle


def sign(file: Path, handle: int, what: str) -> None:
    """Write down who has a lock: this process, which does ``what``.

    Raises:
        VistaError: the file cannot be written.
    """
    me = Owner(socket.gethostname(), os.getpid(), what, os.environ.get(START, ""))
    with writing(file):
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(vars(me)).encode())
        os.fsync(handle)


def _is_still(file: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def owner(file: Path) -> Owner:
    """Who wrote a lock's file last."""
    try:
        return Owner(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Owner()


def is_held(file: Path) -> bool:
    """Whether somebody holds a file's lock; this process counts."""
    try:
        # Whoever may read the file may ask; it may be another user's.
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def is_at_work(results: Path) -> bool:
    """Whether a ``snakemake`` makes outputs in ``results``, on this machine or another."""
    return is_held(_lock_file(results))


def last_turn(results: Path) -> str:
    """Whose turn in ``results`` the last one was; ``UNDER_WAY`` if it has not ended.

    A ``snakemake`` asks this before it looks at the results: they are as it found them only if nobody had a
    turn before its own.
    """
    return UNDER_WAY if is_at_work(results) else owner(_lock_file(results)).start


def take(results: Path, since: str | None = None) -> int:
    """Take the results folder for this ``snakemake``, until it ends.

    Args:
        results: The folder.
        since: What ``last_turn`` said before this ``snakemake`` looked at the results, if it did.

    Returns:
        The lock, an open file.

    Raises:
        VistaError: another one is at work there, whom it names; or was, since this one looked.
    """
    file = _lock_file(results)
    for _ in range(TRIES):
        if (handle := acquire(file)) is not None:
            break
        time.sleep(PAUSE)
    else:
        raise VistaError(
            f"{results}: {owner(file)} is at work in this folder; wait until it has ended, or choose other "
            "`results`"
        )
    if since not in (None, owner(file).start):
        os.close(handle)
        raise VistaError(f"{results}: {OVERTAKEN}")
    sign(file, handle, "snakemake")
    return handle


def refuse_jobs_left(results: Path) -> None:
    """Refuse to start beside jobs of a ``snakemake`` that has ended. The folder must be taken.

    Raises:
        VistaError: there are some; names them.
    """
    if left := _jobs_left(results):
        here = [str(job.pid) for job in left if job.host == socket.gethostname()]
        stop = f", or stop them: kill {' '.join(here)}" if here else ", or stop them there"
        raise VistaError(
            f"{results}: jobs of a snakemake that has ended are still at work: {', '.join(map(str, left))}; "
            f"wait for them{stop}"
        )


def _jobs_left(results: Path) -> list[Owner]:
    """Jobs at work; the files of those that are not are removed."""
    folder, found = _jobs(results), []
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if is_held(file):
            found.append(owner(file))
        else:
            file.unlink(missing_ok=True)
    return found


def join(results: Path, name: str, what: str) -> Callable[[], None]:
    """Say that a job is at work in ``results``, until its process ends.

    Args:
        results: The folder.
        name: Of a file: the same for jobs that make the same output.
        what: The job, in words.

    Returns:
        Says that it has ended; the end of its process says it as well.

    Raises:
        VistaError: the same job is at work already; another ``snakemake`` than the job's own is.
    """
    file = _jobs(results) / name
    handle = acquire(file)
    if handle is None:
        raise VistaError(f"{results}: {owner(file)} is at work already; wait for it, or stop it")
    sign(file, handle, what)
    # In this order: a snakemake that starts takes its lock first and then looks for jobs.
    main = owner(_lock_file(results))
    if is_at_work(results) and main.start != os.environ.get(START, ""):
        file.unlink(missing_ok=True)
        os.close(handle)
        raise VistaError(f"{results}: {main} is at work in this folder; run this job when it has ended")
    os.set_inheritable(handle, True)  # the launcher of several processes takes this one's place

    def leave() -> None:
        file.unlink(missing_ok=True)
        os.close(handle)

    return leave
