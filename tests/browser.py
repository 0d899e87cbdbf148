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


def opened(page: Path, after: str = "", *flags: str, script: str = "") -> tuple[str, list[str]]:
    """The document that a page becomes once its scripts have run, and what they wrote to the console.

    Args:
        page: The file.
        after: What follows it in the address, such as ``?q=word`` or ``#case``.
        flags: More flags for the browser.
        script: What a reader does, as JavaScript; it runs last, in a copy of the page.
    """
    shown = page
    if script:
        text = page.read_text(encoding="utf-8")
        place = text.rindex("</body>")
        shown = page.with_name(f"{page.stem}.asked.html")  # beside the page, whose links hold there
        shown.write_text(f"{text[:place]}<script>{script}</script>{text[place:]}", encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        logged = ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", "--dump-dom"]
        done = subprocess.run(
            [str(CHROMIUM), *FLAGS, *flags, f"--user-data-dir={profile}", *logged, shown.as_uri() + after],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
    if script:
        shown.unlink()
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def answered(page: Path, script: str, fragment: str = "", *flags: str) -> Any:
    """What ``script``, the body of an async function, returns in a page after its own scripts have run.

    Nothing may be written to the console.
    """
    asking = (
        f"addEventListener('load', async () => {{ const answer = await (async () => {{ {script} }})();"
        " document.body.innerHTML = ''; document.body.dataset.answer = JSON.stringify(answer); })"
    )
    document, console = opened(page, f"#{fragment}" if fragment else "", *flags, script=asking)
    assert console == []
    found = re.search(r'data-answer="([^"]*)"', document)
    assert found is not None, "the script has not ended"
    return json.loads(html.unescape(found.group(1)))
