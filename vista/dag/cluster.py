"""Slurm jobs that an earlier ``snakemake`` left behind in this folder.

A ``snakemake`` that is killed outright cannot cancel its jobs. Two jobs that make the same output at the
same time would spoil each other's files, so a new one does not start beside them.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from vista.errors import VistaError

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
