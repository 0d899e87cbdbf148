"""Errors caused by the user, the data or the machine, not by the code.

Commands print their message without a traceback and exit with status 2. A full disk and a
lack of memory are recognised by what Python and the libraries say.
(accelerate has a list of out-of-memory messages too. It lacks Python's own error, C++'s and cuBLAS's, and
takes an operation that cuDNN does not support for a lack of memory.)
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vista.memory import is_limited, limit_job, told_limit
from vista.shown import printable, without_secrets

# What a disk may refuse, and what to do about it.
REFUSALS = {
    errno.ENOSPC: "make room, then run the same command again: what is finished stays",
    errno.EDQUOT: "make room or raise the quota, then run the same command again: what is finished stays",
    errno.EIO: "have the disk looked at, then run the same command again",
    errno.EROFS: "mount it writable, or choose another folder; then run the same command again",
    errno.EACCES: "have its permissions changed, or choose another folder; then run the same command again",
    errno.EPERM: "have its permissions changed, or choose another folder; then run the same command again",
    errno.ENAMETOOLONG: "choose a folder with a shorter name; then run the same command again",
    errno.ENOTDIR: "a part of this path is a file: choose another folder; then run the same command again",
}
# Variables that say where libraries keep what they may make again, the narrowest first.
CACHES = (
    *(
        "TORCHINDUCTOR_CACHE_DIR",
        "TRITON_CACHE_DIR",
        "MPLCONFIGDIR",
        "HF_DATASETS_CACHE",
        "HF_HUB_CACHE",
        "HF_HOME",
    ),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR", "HOME"),
)
# Libraries in other languages pass on the words and not the number.
WORDS = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)}
# torch.save says neither, but that its file is shorter than what it wrote.
TORCH_SAVE = (
    "PytorchStreamWriter failed writing file",
    "inline_container.cc",
    "basic_ios::clear: iostream error",
)
FULL = (errno.ENOSPC, errno.EDQUOT)

# What libraries say when an allocation has failed.
OUT_OF_MEMORY = (
    " out of memory",  # CUDA, HIP, XPU, MPS
    "DefaultCPUAllocator: can't allocate memory",  # torch on processors
    "DefaultCPUAllocator: not enough memory",  # the same on Windows
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",  # newer cuDNN
    "HOST_ALLOCATION_FAILED",
    "std::bad_alloc",
    os.strerror(errno.ENOMEM),  # torch, of files that it maps
)
# What oneDNN says then, seldom for another reason; it counts only where memory is limited.
ONEDNN = ("could not create a primitive", "could not create a memory", "could not execute a primitive")
THREADS = "can't start new thread"  # Python's; its stack does not fit
MORE_MEMORY = "give the job more memory"


class VistaError(Exception):
    """Something a user can fix; the message names the file, the field or row, and the remedy.

    What it quotes may be a stranger's: it controls no terminal, and holds no password of an address.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(printable(message)))


def fail_if(problems: list[str], heading: str) -> None:
    """Raise one ``VistaError`` that lists every problem at once, or return when there is none."""
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise VistaError(f"{heading}\n{listed}")


def refusal(error: BaseException, path: Path | None = None) -> VistaError | None:
    """What to tell the user if the disk could not be written; ``None`` for any other error.

    Args:
        error: From Python, or from a library that passed the system's words on.
        path: What was being written, if that is known better than the error knows it.
    """
    if cache := _unusable_cache(error):
        return cache
    found = _number(error)
    if found is None:
        return None
    number, named = found
    if path is None or (named is not None and not named.is_relative_to(path.parent)):
        path = named  # something else than what was to be written
    room = ""
    if number in FULL:
        disks = {_disk(folder) for folder in ([path] if path else [Path.cwd(), Path(tempfile.gettempdir())])}
        room = f" ({'; '.join(sorted(map(_room, disks)))})"
    return VistaError(f"{path or 'a file'}: {os.strerror(number)}{room}; {REFUSALS[number]}")


def _unusable_cache(error: BaseException) -> VistaError | None:
    """What to tell if the file is in a cache that a variable names, and that cannot be written."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return None
    for name in CACHES:
        folder = os.environ.get(name)
        if (
            folder
            and Path(error.filename).is_relative_to(folder)
            and not os.access(folder, os.W_OK | os.X_OK)
        ):
            return VistaError(
                f"{error.filename}: {error.strerror}; the environment variable {name} names this folder: "
                "set it to one that can be written"
            )
    return None


def _number(error: BaseException | None) -> tuple[int, Path | None] | None:
    """The system's error number in an error or its causes, with the file that it names."""
    while error is not None and not isinstance(error, VistaError):
        if isinstance(error, OSError) and error.errno in REFUSALS:
            named = error.filename2 or error.filename
            return error.errno, Path(os.fsdecode(named)) if isinstance(named, str | bytes) else None
        for words, number in WORDS.items():
            if words in str(error):
                return number, None
        if isinstance(error, RuntimeError) and any(words in str(error) for words in TORCH_SAVE):
            return errno.ENOSPC, None
        error = error.__cause__
    return None


def _disk(path: Path) -> Path:
    """Mount point of the disk that ``path`` is on, or would be on."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_mount())


def _room(disk: Path) -> str:
    """How much is free on it."""
    usage, files = shutil.disk_usage(disk), os.statvfs(disk)
    if files.f_files and not files.f_favail:
        return f"all {files.f_files} inodes of the disk at {disk} are taken"
    return f"{usage.free / 1e6:,.1f} MB of {usage.total / 1e6:,.0f} MB free on the disk at {disk}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on a GPU or in the machine."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    messages = (*OUT_OF_MEMORY, *ONEDNN, THREADS) if is_limited() else OUT_OF_MEMORY
    return isinstance(error, RuntimeError) and any(text in str(error) for text in messages)


def said(error: BaseException) -> str:
    """What an error says, in one line of bounded length."""
    lines = str(error).strip().splitlines()
    return (lines[0][:200] if lines else "") or type(error).__name__


def lack(error: BaseException) -> str:
    """What an error that ``is_out_of_memory`` says, and the limit of this job, if it has one."""
    return "; ".join(filter(None, (said(error), told_limit() if is_limited() else "")))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a disk error within the block into a ``VistaError`` that names ``path``."""
    try:
        yield
    except Exception as error:
        found = refusal(error, path)
        if found is None:
            raise
        raise found from error


@contextmanager
def told() -> Iterator[None]:
    """The edge of every command: it keeps to its memory, and a mistake is one message and exit status 2."""
    limit_job()
    try:
        yield
    except Exception as error:
        found = error if isinstance(error, VistaError) else refusal(error)
        if found is None and is_out_of_memory(error):
            command = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
            found = VistaError(f"{command}: out of memory ({lack(error)}); {MORE_MEMORY}")
        if found is None:
            raise
        print(f"error: {found}", file=sys.stderr)
        sys.exit(2)
