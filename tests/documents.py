"""What a page of docs/ says, for the tests that hold it against the code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

MARKDOWN = MarkdownIt("commonmark").enable("table")


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


def pages(root: Path) -> list[Path]:
    """Every page that users read."""
    return [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md"))]


def tokens(text: str) -> Iterator[Token]:
    """What a page is made of, as the forges read it, with what is in its lines."""
    for token in MARKDOWN.parse(text):
        yield token
        yield from token.children or ()


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as the forges name them; or as ``{ #name }`` after a heading does."""
    found: set[str] = set()
    blocks = MARKDOWN.parse(text)
    for before, line in pairwise(blocks):
        if before.type == "heading_open":
            words = "".join(token.content for token in line.children or ())
            given = re.search(r"\{ #(\S+) \}$", words)
            name = given[1] if given else re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
            same = (f"{name}-{number}" for number in range(1, len(blocks)))
            found.add(name if name not in found else next(each for each in same if each not in found))
    return found


def dead_links(page: Path) -> list[str]:
    """The links and pictures of a page that lead to no file, or to no heading of a page."""
    text = page.read_text(encoding="utf-8")
    dead = []
    for token in tokens(text):
        target = unquote(str(token.attrs.get("href") or token.attrs.get("src") or ""))
        name, _, anchor = target.partition("#")
        if not target or "://" in target:
            continue
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            dead.append(f"{page.name}: {target}")
    return dead
