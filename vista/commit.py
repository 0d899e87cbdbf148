"""Which code this is: the commit of the checkout that holds this package."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that holds this package; ``None`` outside one."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", "-C", str(here), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def git_state() -> dict[str, Any]:
    """The commit of the checkout that holds this package, and whether it has uncommitted changes."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {"commit": commit or "unknown", "dirty": None if changes is None else bool(changes)}
