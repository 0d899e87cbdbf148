"""A real headless Chromium, for tests that open a page."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def opened(page: Path, fragment: str = "", *flags: str) -> tuple[str, list[str]]:
    """The document that a page becomes once its scripts have run, and what they wrote to the console.

    Args:
        page: The file.
        fragment: Of its address, what stands behind ``#``.
        flags: More flags for the browser.
    """
    address = f"{page.as_uri()}#{fragment}"
    with tempfile.TemporaryDirectory() as profile:
        logged = ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", "--dump-dom"]
        done = subprocess.run(
            [str(CHROMIUM), *FLAGS, *flags, f"--user-data-dir={profile}", *logged, address],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def answered(page: Path, script: str, fragment: str = "", *flags: str) -> Any:
    """What ``script``, the body of an async function, returns in a page after its own scripts have run.

    The page is copied with the script at its end. Nothing may be written to the console.
    """
    asking = (
        "<script>addEventListener('load', async () => {"
        f" const answer = await (async () => {{ {script} }})();"
        " document.body.innerHTML = ''; document.body.dataset.answer = JSON.stringify(answer); })</script>"
    )
    copy = page.with_name(f"{page.stem}.asked.html")
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", asking + "</body>"), encoding="utf-8")
    document, console = opened(copy, fragment, *flags)
    copy.unlink()
    assert console == []
    found = re.search(r'data-answer="([^"]*)"', document)
    assert found is not None, "the script has not ended"
    return json.loads(html.unescape(found.group(1)))
