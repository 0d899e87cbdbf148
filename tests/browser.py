"""A real headless Chromium, for tests that open a page."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def opened(page: Path, query: str = "") -> tuple[str, list[str]]:
    """The document that a page becomes once its scripts have run, and what they wrote to the console.

    Args:
        page: The file.
        query: What follows it in the address, such as ``?q=word``.
    """
    with tempfile.TemporaryDirectory() as profile:
        logged = ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", "--dump-dom"]
        done = subprocess.run(
            [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *logged, page.as_uri() + query],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
