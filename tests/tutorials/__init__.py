"""Does what a page of docs/tutorials says, literally, in an empty folder beside a checkout.

How a page is read:

- A line that is only a file name in backticks and a colon: the block after it is written to that file.
- A ``bash`` block is run in the tutorial's own folder; ``../vista-bench`` is the checkout.
- A ``text`` block after one shows what it prints: its lines, in this order; ``…`` stands for anything.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.checkout import Checkout

BLOCK = re.compile(r"(?:^`(?P<file>[^`\n]+)`:\n\n?)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
CHECKOUT = "vista-bench"


class Tutorial:
    """A page, and the folder in which it is followed."""

    def __init__(self, root: Path, page: str, folder: Path, finished: Checkout | None = None) -> None:
        self.page = page
        if finished is None:
            (folder / CHECKOUT).mkdir()
            self.checkout = Checkout.make(root, folder / CHECKOUT)
        else:
            self.checkout = finished.copy(folder, CHECKOUT)
        self.folder = folder / "study"
        self.folder.mkdir()

    @classmethod
    def named(cls, root: Path, name: str, folder: Path, finished: Checkout | None = None) -> Tutorial:
        """A page of docs/tutorials; where it runs the smoke suite, beside a checkout that has."""
        page = (root / "docs/tutorials" / f"{name}.md").read_text(encoding="utf-8")
        return cls(root, page, folder, finished)

    def follow(self) -> None:
        """Do what the page says, from the first block to the last."""
        printed = ""
        found = list(BLOCK.finditer(self.page))
        assert len(found) == self.page.count("\n```") // 2, "a block is not closed, or has no language"
        for block in found:
            file, language, text = block["file"], block["language"], block["text"]
            if file:
                path = self.folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            elif language == "bash":
                printed = self.run(text)
            elif language == "text":
                assert_shown(text, printed)

    def run(self, script: str) -> str:
        """Run a script in the tutorial's folder, and return what it printed.

        Raises:
            AssertionError: its status is not 0.
        """
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.checkout.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
        return done.stdout + done.stderr


def assert_shown(text: str, printed: str) -> None:
    """Every line of ``text`` is in what was printed, one after the other."""
    start = 0
    for line in text.splitlines():
        words = [r"\s+".join(map(re.escape, part.split())) for part in line.split("…")]
        found = re.compile(".*?".join(words)).search(printed, start)
        assert found, f"not printed: {line}\n{printed[-5000:]}"
        start = found.end()
