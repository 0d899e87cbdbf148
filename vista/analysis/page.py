"""How tables are printed: cells as text, pages as Markdown and LaTeX, and the files of a table.

For every table of the analysis stage. A page of tables is described once and written as Markdown (``.md``)
and LaTeX (``.tex``, booktabs), beside the CSV. Cells and paragraphs are text with a little Markdown in it:
``**bold**``, ``<u>underlined</u>``, `` `code` `` and an escaped ``\\*``. In LaTeX each table is an
environment that can be pasted into a paper; the other text of a page is there as comments. What is not known
is an empty cell, never a zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tabulate import tabulate

from vista.manifest import Recorder
from vista.paths import TABLE_SUFFIXES, Paths
from vista.records import write_text
from vista.shown import as_markdown, printable, spreadsheet

ALPHA = 0.05  # below it a corrected p-value is marked
P_VALUES = ("p", "p_holm")
DAGGER = "†"  # marks an error that leaves out the training seeds, in a table where others include them
NOTE_ON_DAGGER = f"""\
{DAGGER}: the error is over test queries alone, as there is no second seed. Beside the others it
looks smaller than it is, so nothing is marked."""

# Columns of names are aligned to the left, numbers to the right.
NAMES = {
    *("model", "train_set", "task", "method", "against", "differs", "status", "stage", "kind", "group"),
    *("resamples", "detector", "setting", "source"),
}

# Characters that LaTeX reads as commands, or that its fonts need a command for.
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


# --- cells ---


def number(value: float | None) -> str:
    """Two decimals, a rounded zero without a sign; nothing for ``None`` and NaN."""
    known = _known(value)
    return "" if known is None else f"{known:.2f}"


def integer(value: float | None) -> str:
    """A count, or nothing."""
    known = _known(value)
    return "" if known is None else f"{known:.0f}"


def with_error(value: float | None, error: float | None) -> str:
    """``52.21 ± 0.80``; without the error where there is none."""
    return number(value) if _known(error) is None else f"{number(value)} ± {number(error)}"


def _known(value: float | None) -> float | None:
    """The value to two decimals, without the sign of a negative zero; ``None`` if unknown."""
    return None if value is None or math.isnan(value) else round(float(value), 2) + 0.0


def interval(value: float, low: float, high: float) -> str:
    """``0.512 [0.448, 0.572]``; without the interval where there is none, nothing for NaN."""
    if pd.isna(value):
        return ""
    shown = f"{round(value, 3) + 0.0:.3f}"
    return shown if pd.isna(low) else f"{shown} [{low:.3f}, {high:.3f}]"


def signed_with_error(value: float | None, error: float | None, mark: str = "") -> str:
    """``+1.20* ± 0.50`` with a ``mark``; without the error where there is none."""
    shown = signed(value)
    return f"{shown}{mark} ± {number(error)}" if shown and number(error) else shown


def signed(value: float | None) -> str:
    """``+1.20``; nothing for ``None`` and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:+.2f}"


def at_least(value: float | None, alone: bool) -> str:
    """A smallest difference; ``≥ 1.53`` where its error is over test queries ``alone``."""
    shown = number(value)
    return f"≥ {shown}" if shown and alone else shown


def with_interval(value: str, low: str, high: str) -> str:
    """``52.21 [50.90, 53.48]`` of numbers as they are printed; without the interval where there is none."""
    return f"{value} [{low}, {high}]" if value and low else value


def of_all(found: int, missing: int) -> str:
    """``1 of 2`` runs, where one is missing; ``2`` where none is."""
    return f"{found} of {found + missing}" if missing else str(found)


def partial(found: int, missing: int) -> str:
    """`` (1 of 2 runs)`` after a mean that lacks some runs; nothing after one of all or of none."""
    return f" ({of_all(found, missing)} runs)" if found and missing else ""


def is_clear(p_holm: float | None) -> bool:
    """Whether a corrected p-value is to be marked."""
    return p_holm is not None and p_holm < ALPHA


def star(p_holm: float | None) -> str:
    """The star after a difference that is clear."""
    return "\\*" if is_clear(p_holm) else ""


def bold_if(clear: bool, text: str) -> str:
    """``text``, in bold where it is ``clear``."""
    return f"**{text}**" if clear else text


def dagger(alone: bool) -> str:
    """The dagger after a number whose error is over test queries ``alone``, unlike others of the table."""
    return DAGGER if alone else ""


def probability(value: float | None) -> str:
    """Three decimals, ``< 0.001`` below; nothing for ``None``."""
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The CSV of a table in numbers: p-values with four decimals, other fractions with two, no NaN."""
    cells = table.astype(object)
    for name in table.columns:
        digits = "{:.4f}".format if name in P_VALUES else number
        cells[name] = [
            "" if _unknown(value) else digits(value) if isinstance(value, float) else str(value)
            for value in table[name]
        ]
    return cells


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


# --- pages ---


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


def with_constants_below(caption: str, cells: pd.DataFrame, label: str) -> list[str | Table]:
    """The table without identity columns of one value, and a line that names their values."""
    constant = [
        name
        for name in ("train_set", "seed", "seeds", "status")
        if name in cells and cells[name].nunique(dropna=False) == 1 and len(cells) > 1
    ]
    parts: list[str | Table] = [Table(caption, cells.drop(columns=constant), label)]
    if constant:
        values = ", ".join(f"{name} `{cells[name].iloc[0]}`" for name in constant)
        parts.append(f"In every row: {values}.")
    return parts


def markdown(page: Page) -> str:
    """The page as Markdown; a table's caption is its heading, unless it is the page's title."""
    parts = [f"# {page.title}"]
    for part in page.parts:
        if isinstance(part, str):
            parts.append(as_markdown(part))
        else:
            parts += [f"## {part.caption}"] if part.caption != page.title else []
            parts.append(_pipes(part.cells))
    return "\n\n".join(parts) + "\n"


def latex(page: Page) -> str:
    """The tables of the page in LaTeX; needs the package booktabs."""
    lines = [f"% {page.title}", "% \\usepackage{booktabs}"]
    for part in page.parts:
        if isinstance(part, str):
            lines += ["", *(f"% {line}" for line in printable(part).splitlines())]
        else:
            lines += ["", _environment(page, part)]
    return "\n".join(lines) + "\n"


def _pipes(cells: pd.DataFrame) -> str:
    if cells.empty:
        return "None."
    rows = [[_pipe(str(value)) for value in row] for row in cells.itertuples(index=False)]
    align = ["left" if name in NAMES else "right" for name in cells.columns]
    return tabulate(rows, headers=list(cells.columns), tablefmt="pipe", colalign=align, disable_numparse=True)


def _pipe(text: str) -> str:
    """A cell in Markdown; a bar or a line break would end it."""
    return as_markdown(" ".join(text.splitlines())).replace("|", "\\|")


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
    return "".join(SYMBOLS.get(sign, sign) for sign in MINUS.sub("−", printable(text)))


def write_table(
    paths: Paths, recorder: Recorder, table: pd.DataFrame, page: Page, counts: Mapping[str, float]
) -> None:
    """Write the three files of a table, then their manifests.

    Args:
        paths: Where everything is.
        recorder: What the table is made from.
        table: Every column of the CSV, as text or as numbers with four decimals.
        page: The table to read; its name is that of the files.
        counts: What the manifests count.
    """
    texts = {
        "csv": spreadsheet(table).to_csv(index=False, lineterminator="\n", float_format="%.4f"),
        "md": markdown(page),
        "tex": latex(page),
    }
    files = {paths.table(page.name, suffix): texts[suffix] for suffix in TABLE_SUFFIXES}
    for file, text in files.items():
        write_text(file, text)
    for file in files:
        recorder.write(file, dict(counts))
