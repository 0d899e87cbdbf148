"""Where vLLM finds what it compiled before: on this node's disk, whatever policy it compiled it for.

vLLM names its compiled graphs after, among others, the path of the checkpoint, and so would compile again for
every policy of a model. It is given the path of a link instead, one of a few with fixed names. Each job holds
a link of its own, by a lock that ends with the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CACHE = "VLLM_CACHE_ROOT"
MOST_LINKS = 64  # jobs at a time on a node


@dataclass
class Link:
    """A checkpoint under a path that others of its architecture had before."""

    path: Path
    lock: IO[str] | None = None  # held while the object lives


def linked(checkpoint: Path) -> Link:
    """A link to a checkpoint, and vLLM's cache beside it unless the user has chosen another place.

    Returns:
        The checkpoint's own path where there is no folder to trust.
    """
    root, config = _own_folder(), checkpoint / "config.json"
    if root is None or not config.is_file():
        return Link(checkpoint)
    os.environ.setdefault(CACHE, str(root / "cache"))
    folder = root / "models" / hashlib.sha256(config.read_bytes()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(MOST_LINKS):
        lock = (folder / f"{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        link = folder / str(number)
        link.unlink(missing_ok=True)  # nobody else reads it while the lock is held
        link.symlink_to(checkpoint.absolute())
        return Link(link, lock)
    return Link(checkpoint)


def _own_folder() -> Path | None:
    """A folder that nobody else can write: what vLLM finds in its cache, it runs."""
    root = Path(tempfile.gettempdir()) / f"vista-vllm-{os.getuid()}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        found = root.lstat()
    except OSError:
        return None
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return root if is_own else None
