"""How much main memory a job may take, and what to say when that is not enough.

A rule hands its name and its ``mem_mb`` to its job in ``VISTA_MEMORY``; without it, as by hand, there is no
limit.

* Without a GPU the kernel limits the private writable memory that a process maps (``RLIMIT_DATA``). What
  exceeds it fails as any allocation does, before anything is taken. The whole address space (``RLIMIT_AS``)
  says little: a smoke job of 1 GB maps 5.5 GB, most of it code and arenas that it never touches.
* With a GPU, whose driver maps memory as it pleases, a thread looks at what the process and its children
  hold, and ends them. It can be late by ``PERIOD``; a scheduler's cgroup is not.

Each process of a job has the whole job's limit. A cgroup, such as Slurm's, stays in force beside it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "VISTA_MEMORY"
# Beside what the rule asks for: in the smoke suite's jobs 1.0 to 1.3 GB are mapped and not used, most by
# pyarrow's allocator; with a GPU, its driver takes main memory.
RESERVED = 2_000_000_000
# Threads' stacks: how many pools of one thread for each core there may be, and bytes of one.
POOLS, STACK = 4, 8 << 20
PERIOD = 0.5  # seconds
INHERITED = 0  # bytes that this process had mapped when it was forked (``vista.warm``), most of them shared
# The part of a model's `resources` that a rule's memory is. Other rules have the same for all models.
PARTS = {
    **{"models": "models", "adopt": "models", "train": "training", "evaluate": "evaluation"},
    "respond": "evaluation",
    **dict.fromkeys(("check", "sample", "resample", "score", "gains", "cases"), "rollouts"),
}
PROC, DEVICES = Path("/proc"), Path("/dev")
# glibc's settings (malloc.h), and what they are set to: blocks up to 32 MiB, the most that it allows, come
# from the heap, and as much as a step's activations take stays there when it is freed.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 512 << 20}


def limit_job() -> None:
    """Limit this process to the memory that its rule asks for, if a rule started it."""
    given = _given()
    if given is None:
        return
    most = given[1] + max(RESERVED, INHERITED) + _stacks()
    if _has_gpu():
        threading.Thread(target=_watch, args=(most,), daemon=True).start()
    else:
        _lower_to(most)


def reuse_freed() -> None:
    """Have the C library keep what is freed for what is allocated next.

    By default it hands a tensor's memory back to the kernel, which gives it out again page by page, filled
    with zeros: of the time to pretrain a small model on the CPU, a fifth. No number changes.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    if setting is not None:
        for name, size in KEPT.items():
            setting(name, size)


def is_limited() -> bool:
    """Whether allocations can fail because of a limit, and not only where the machine has no more."""
    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in limits)


def told_limit() -> str:
    """This job's limit and where to raise it; empty if it has none."""
    given = _given()
    if given is None:
        return ""
    rule, most = given
    part = PARTS.get(rule)
    where = f"resources.{part}.memory_gb of the model's entry in models.yaml"
    if part is None:
        where = f"`snakemake --set-resources {rule}:mem_mb={2 * most // 1_000_000}`"
    return f"limit {most / 1e9:.1f} GB: {where}"


@contextmanager
def at_most(extra: int) -> Iterator[None]:
    """Let this process map at most ``extra`` bytes more, beside threads' stacks, within the block."""
    before = _lower_to(mapped() + extra + _stacks())
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def mapped() -> int:
    """Bytes of private writable memory that this process maps."""
    return _status(os.getpid(), "VmData")


def _lower_to(most: int) -> tuple[int, int]:
    """Limit what this process maps, unless a limit is lower (``ulimit -d``); what it was before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most if soft < 0 else min(most, soft), hard))
    return soft, hard


def _given() -> tuple[str, int] | None:
    """The rule that started this job, and its limit in bytes."""
    rule, _, megabytes = os.environ.get(VARIABLE, "").partition(":")
    return (rule, int(megabytes) * 1_000_000) if megabytes.isdecimal() else None


def _stacks() -> int:
    """Bytes that threads of libraries map, which they start when they are first needed."""
    return POOLS * STACK * (os.cpu_count() or 1)


def _has_gpu() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    return any(DEVICES.glob("nvidia[0-9]*")) or any((DEVICES / name).exists() for name in ("kfd", "dxg"))


def _watch(most: int) -> None:
    """End this process and its children once they hold more than ``most`` bytes."""
    while True:
        family = _family(os.getpid())
        # What processes share is counted once, which takes time, where it may matter.
        if sum(map(_held, family)) > most and (held := sum(map(_share_held, family))) > most:
            break
        time.sleep(PERIOD)
    said = f"vista {' '.join(sys.argv[1:])}: out of memory (it holds {held / 1e9:.1f} GB; {told_limit()})"
    os.write(2, f"error: {said}\n".encode())
    for process in family[1:]:
        with suppress(OSError):
            os.kill(process, signal.SIGKILL)
    os._exit(2)


def _family(process: int) -> list[int]:
    """A process and its descendants."""
    found = [process]
    for parent in found:  # grows
        with suppress(OSError):
            for task in (PROC / str(parent) / "task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _held(process: int) -> int:
    """Bytes that a process holds and that no file holds, too."""
    return _status(process, "RssAnon") + _status(process, "RssShmem")


def _share_held(process: int) -> int:
    """The same, of pages that several processes hold (after a fork) only its share."""
    names = ("Pss_Anon", "Pss_Shmem")
    return sum(_status(process, name, "smaps_rollup") for name in names) or _held(process)


def _status(process: int, name: str, account: str = "status") -> int:
    """Bytes of one line of the kernel's account of a process; 0 if there is none."""
    with suppress(OSError):
        for line in (PROC / str(process) / account).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    return 0
