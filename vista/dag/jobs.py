"""Jobs that an earlier ``snakemake`` left running on Slurm, and what failed jobs said last and leave.

A ``snakemake`` that is killed outright cannot cancel its jobs. Two jobs that make the same output at the
same time would spoil each other's files, so a new one does not start beside them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vista.errors import VistaError
from vista.shown import printable

PREFIX = "vista_"  # of the jobs' names: slurm-jobname-prefix in profiles/slurm
SECONDS = 60


def refuse_leftover_jobs(folder: Path) -> None:
    """Refuse to start while jobs of an earlier start are queued or running.

    Args:
        folder: Where Snakemake works: a job's is the same.

    Raises:
        VistaError: names the jobs and how to cancel them; or Slurm does not answer.
    """
    squeue = shutil.which("squeue")
    if squeue is None:
        return  # another executor's cluster
    command = [squeue, "--me", "--noheader", "--format=%i|%Z|%j"]
    try:
        done = subprocess.run(  # noqa: S603 - nothing in it is from outside
            command, capture_output=True, text=True, check=True, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        raise VistaError(f"squeue: Slurm does not answer ({said}); try again when it does") from error
    jobs = leftover_jobs(done.stdout, folder)
    if jobs:
        raise VistaError(
            f"{folder}: jobs of an earlier snakemake are still queued or running here ({', '.join(jobs)}); "
            f"wait for them, or cancel them: scancel {' '.join(jobs)}"
        )


def leftover_jobs(listed: str, folder: Path) -> list[str]:
    """Ids of this project's jobs in ``folder``, from lines of ``id|folder|name``."""
    found = [line.split("|", 2) for line in listed.splitlines() if line.count("|") >= 2]
    return [
        number for number, where, name in found if name.startswith(PREFIX) and Path(where) == folder.resolve()
    ]


def make_old(files: Iterable[str | Path]) -> None:
    """Give files a time before that of any input, so that the next ``snakemake`` makes them again.

    Snakemake puts back what a failed job was to update, with the time at which it does so. It would take a
    check that has just failed for one that passed, and start what waits for it.
    """
    for file in files:
        with suppress(FileNotFoundError):
            os.utime(file, (LONG_AGO, LONG_AGO))


LONG_AGO = 1  # seconds since 1970; of 0 some file systems make no time at all
LINES = 12
BYTES = 20_000  # more than the last lines of any log take


def last_lines(logs: Iterable[str | Path]) -> str:
    """The last lines of each log, under its name; an empty or missing log is reported as such."""
    return "\n".join(_quoted(Path(log)) for log in dict.fromkeys(map(str, logs)))


def _quoted(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - BYTES))
            said = file.read().decode(errors="replace")
    except FileNotFoundError:
        return f"{log}: not written; the job did not start, or its machine failed"
    # A progress bar overwrites itself; its last state is enough.
    lines = [line.rstrip().rsplit("\r", 1)[-1] for line in said.rstrip().split("\n")][-LINES:]
    if not any(lines):
        return f"{log}: empty"
    return "\n".join([f"{log}:", *(f"    {printable(line)}" for line in lines)])
