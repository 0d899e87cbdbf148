"""Assemble the folder that mkdocs makes the documentation from: ``make docs``.

Pages keep their places in the repository, so their links to each other hold. A picture that they show is
copied; a link to any other file becomes its text. The pages of ``reference/`` are written: the keys of the
config files, from their schemas (``keys.py``), and plug-ins, which mkdocstrings fills in from the sources.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from keys import pages_of

ROOT = Path(__file__).parents[2]
SOURCES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
# What is left alone: blocks of code and code in a line. What is changed: links, and lists in lists.
MARKUP = re.compile(
    r"(?ms)^ *```.*?^ *```|`[^`]*`"
    r"|(?P<image>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s]+)\)"
    r"|^(?P<indent> {2,3})(?=[-*] )"
)
SCHEMAS = ("models", "methods", "suite")  # what the last shares with the others is on their pages
# By page: title, the modules with what is derived from or called, and the folder of the kinds that there are.
PLUGINS = {
    "filters": ("Filters", ["vista.filters"]),
    "resamplers": ("Resamplers", ["vista.resamplers", "vista.resamplers.prefix", "vista.engines.base"]),
    "objectives": ("Objectives", ["vista.objectives"]),
    "rewards": ("Rewards", ["vista.rewards"]),
    "task_kinds": ("Kinds of tasks", ["vista.task_kinds", "vista.task_kinds.benchmarks"]),
}


def assemble(root: Path, folder: Path) -> None:
    """Write the folder anew.

    Args:
        root: The repository.
        folder: What to write; what was there is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pages = sorted({path.relative_to(root) for pattern in SOURCES for path in root.glob(pattern)})
    for page in pages:
        text, pictures = linked((root / page).read_text(encoding="utf-8"), page, pages)
        write(folder / page, text)
        for picture in pictures:
            (folder / picture).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / picture, folder / picture)
    schemas = {
        name: json.loads((root / f"workflow/schemas/{name}.schema.json").read_text(encoding="utf-8"))
        for name in SCHEMAS
    }
    for name, text in pages_of(schemas).items():
        write(folder / f"reference/{name}.md", text)
    for name in PLUGINS:
        write(folder / f"reference/{name}.md", plugins(root, name))
    shutil.copytree(root / "docs/site/assets", folder / "assets/site")


def linked(text: str, page: Path, pages: list[Path]) -> tuple[str, list[Path]]:
    """A page as mkdocs reads it, its links to pages of the site alone, and the pictures that it shows.

    Args:
        text: Of the page.
        page: Its place in the repository, which links are relative to.
        pages: Those of the site.
    """
    pictures = []

    def replaced(match: re.Match[str]) -> str:
        target = match["target"]
        if match["indent"]:
            return "    "  # Python-Markdown takes less for the outer list
        if target is None or "://" in target or target.startswith("#"):
            return match[0]
        parts: list[str] = []
        for part in (page.parent / target.partition("#")[0]).parts:
            parts = parts[:-1] if part == ".." else [*parts, part]
        path = Path(*parts)
        if match["image"]:
            pictures.append(path)
        return match[0] if match["image"] or path in pages else match["text"]

    return MARKUP.sub(replaced, text), pictures


def plugins(root: Path, family: str) -> str:
    """The page of a family of plug-ins: what they derive from, then the kinds that there are."""
    title, bases = PLUGINS[family]
    lines = [f"# {title}", "", "How to write one: [Adding your own](../docs/adding.md#plug-ins).", ""]
    for module in bases:
        lines += [f"## `{module}`", "", f"::: {module}", ""]
    for kind, module in kinds(root, family):
        lines += [f"## `kind: {kind}`", "", f"::: {module}", ""]
    return "\n".join(lines)


def kinds(root: Path, family: str) -> Iterator[tuple[str, str]]:
    """The kinds of a family, each with its module: those whose settings have a ``kind: Literal[…]``."""
    for path in sorted((root / "vista" / family).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.AnnAssign(
                    target=ast.Name(id="kind"),
                    annotation=ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Constant(value=kind)),
                ):
                    yield str(kind), f"vista.{family}.{path.stem}"


def write(path: Path, text: str) -> None:
    """Write a page; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    assemble(ROOT, Path(sys.argv[1]))
