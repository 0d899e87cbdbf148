"""What a page of docs/ says, for the tests that hold it against the code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def section(root: Path, page: str, title: str) -> str:
    """The text under a heading of second order."""
    text = (root / "docs" / page).read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def code(text: str, language: str = r"\w+") -> list[str]:
    """The blocks of code in a text, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def undocumented(root: Path, names: Iterable[str]) -> list[str]:
    """The columns and measures that docs/tables.md does not explain."""
    text = (root / "docs/tables.md").read_text(encoding="utf-8")
    return [name for name in names if f"`{name}`" not in text]
