"""A page of tables, described once and written as Markdown (``.md``) and LaTeX (``.tex``, booktabs).

Serves every table of the analysis stage. Cells and paragraphs are text with a little Markdown in it:
``**bold**``, ``<u>underlined</u>``, `` `code` `` and an escaped ``\\*``. In LaTeX each table is an
environment of its own, to be pasted into a paper; what a page says beside its tables are comments there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from tabulate import tabulate

# Columns of names stand to the left, numbers to the right.
NAMES = {
    *("model", "train_set", "task", "method", "against", "differs", "status", "stage", "kind", "group"),
    *("resamples", "detector", "setting", "source"),
}

# What LaTeX reads as a command, and what its fonts write with one.
SYMBOLS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "×": r"$\times$", "→": r"$\to$", "−": "$-$", "–": "--", "…": r"\dots{}"},
    **{"†": r"$\dagger$", "≤": r"$\leq$", "≥": r"$\geq$", "<": "$<$", ">": "$>$"},
    **{"Δ": r"$\Delta$", "τ": r"$\tau$", "λ": r"$\lambda$", "α": r"$\alpha$", "β": r"$\beta$"},
    **{"⌊": r"$\lfloor$", "⌋": r"$\rfloor$", "²": "$^2$", "√": r"$\surd$"},
}
MARKS = re.compile(r"\*\*(?P<bold>.+?)\*\*|<u>(?P<underline>.+?)</u>|`(?P<code>[^`]+)`|\\(?P<star>\*)")
MINUS = re.compile(r"(?<![\w.])-(?=\d)")


@dataclass(frozen=True)
class Table:
    """A table on a page.

    Attributes:
        caption: What it shows; the heading above it in Markdown, the caption in LaTeX.
        cells: Text as it is printed.
        label: Tells the tables of one page apart, in LaTeX's ``\\label``.
    """

    caption: str
    cells: pd.DataFrame
    label: str


@dataclass(frozen=True)
class Page:
    """A title, then paragraphs and tables in their order."""

    name: str
    title: str
    parts: Sequence[str | Table]


def markdown(page: Page) -> str:
    """The page as Markdown; a table's caption is its heading, unless it is the page's title."""
    parts = [f"# {page.title}"]
    for part in page.parts:
        if isinstance(part, str):
            parts.append(part)
        else:
            parts += [f"## {part.caption}"] if part.caption != page.title else []
            parts.append(_pipes(part.cells))
    return "\n\n".join(parts) + "\n"


def latex(page: Page) -> str:
    """The tables of the page in LaTeX; needs the package booktabs."""
    lines = [f"% {page.title}", "% \\usepackage{booktabs}"]
    for part in page.parts:
        if isinstance(part, str):
            lines += ["", *(f"% {line}" for line in part.splitlines())]
        else:
            lines += ["", _environment(page, part)]
    return "\n".join(lines) + "\n"


def _pipes(cells: pd.DataFrame) -> str:
    if cells.empty:
        return "None."
    rows = [[str(value) for value in row] for row in cells.itertuples(index=False)]
    align = ["left" if name in NAMES else "right" for name in cells.columns]
    return tabulate(rows, headers=list(cells.columns), tablefmt="pipe", colalign=align, disable_numparse=True)


def _environment(page: Page, table: Table) -> str:
    if table.cells.empty:
        return f"% {table.caption}: none."
    cells = table.cells.map(lambda value: _cell(str(value)))
    cells.columns = pd.Index([inline(str(name)) for name in cells.columns])
    align = "".join("l" if name in NAMES else "r" for name in table.cells.columns)
    label = f"tab:{page.name}-{table.label}" if table.label else f"tab:{page.name}"
    return str(
        cells.style.hide(axis="index").to_latex(
            column_format=align,
            hrules=True,
            position="t",
            position_float="centering",
            caption=inline(table.caption),
            label=label,
        )
    ).rstrip("\n")


def _cell(text: str) -> str:
    """A cell; a bracket that opens it would be read as an argument of the rule or line break before."""
    shown = inline(text)
    return f"{{[}}{shown[1:]}" if shown.startswith("[") else shown


def inline(text: str) -> str:
    """A cell or caption in LaTeX: its marks as commands, everything else as it reads."""
    found, end = [], 0
    for match in MARKS.finditer(text):
        found.append(_escaped(text[end : match.start()]))
        end = match.end()
        if (code := match["code"]) is not None:
            found.append(rf"\texttt{{{_escaped(code)}}}")
        elif match["star"] is not None:
            found.append("*")
        elif (bold := match["bold"]) is not None:
            found.append(rf"\textbf{{{inline(bold)}}}")
        else:
            found.append(rf"\underline{{{inline(match['underline'])}}}")
    return "".join([*found, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return "".join(SYMBOLS.get(sign, sign) for sign in MINUS.sub("−", text))
