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


def opened(page: Path, script: str = "") -> tuple[str, list[str]]:
    """The document that a page becomes once its scripts have run, and what they wrote to the console.

    Args:
        page: The HTML file.
        script: What a reader does, as JavaScript; it runs last, in a copy of the page.
    """
    with tempfile.TemporaryDirectory() as profile:
        if script:
            text = page.read_text(encoding="utf-8")
            page = Path(profile) / page.name
            place = text.rindex("</body>")
            page.write_text(f"{text[:place]}<script>{script}</script>{text[place:]}", encoding="utf-8")
        logged = ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", "--dump-dom"]
        done = subprocess.run(
            [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *logged, page.as_uri()],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
