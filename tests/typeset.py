"""A real pdflatex, for tests that set a table."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

needs_pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")


def compiled(text: str, folder: Path) -> str:
    """What pdflatex says of an article with the tables of ``text``, and only the packages that it names."""
    packages = re.findall(r"% (\\usepackage\{\w+\})", text)
    lines = [r"\documentclass{article}", *packages, r"\begin{document}", text, r"\end{document}"]
    (folder / "page.tex").write_text("\n".join(lines), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    for _ in range(2):  # longtable knows its widths the second time
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def overfull(said: str) -> list[str]:
    """The complaints about what is wider or higher than the page."""
    return [line for line in said.splitlines() if line.startswith(("Overfull", "LaTeX Warning: Float too"))]
