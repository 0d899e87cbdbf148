"""A program in a terminal of its own, for tests of what it shows there."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def in_terminal(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit status of a command, and all that reached its terminal."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        words, cwd=folder, env={**environment, "TERM": "xterm"}, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    said = b""
    while part := _read(ours):
        said += part
    os.close(ours)
    return process.wait(), said.decode(errors="replace").replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # its last process has ended
        return b""
