"""How tables are printed: cells as text, pages as Markdown, LaTeX and HTML, and the files of a table.

For every table of the analysis stage. A page of tables is described once and written as Markdown (``.md``),
LaTeX (``.tex``, booktabs) and HTML (``.html``, one file that asks for no other), beside the CSV. Cells and
paragraphs are text with the marks of ``vista.analysis.marks``. In LaTeX each table is an environment that can
be pasted into a paper: a float, or a ``longtable`` where it has more rows than a float holds; the other text
of a page is there as comments. In HTML the columns can be sorted. What is not known is an empty cell, never a
zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from vista.analysis.marks import in_html, in_latex, number_in, plain
from vista.config import Choice
from vista.manifest import Recorder
from vista.paths import TABLE_SUFFIXES, Paths
from vista.records import write_text
from vista.shown import as_markdown, printable, spreadsheet

ALPHA = 0.05  # below it a corrected p-value is marked
P_VALUES = ("p", "p_holm", "p_models")
DAGGER = "†"  # marks an error that leaves out the training seeds, in a table where others include them
NOTE_ON_DAGGER = f"""\
{DAGGER}: the error is over test queries alone, as there is no second seed. Beside the others it
looks smaller than it is, so nothing is marked."""

# Columns of names are aligned to the left, numbers to the right.
NAMES = {
    *("model", "train_set", "task", "method", "against", "differs", "status", "stage", "kind", "group"),
    *("resamples", "detector", "setting", "source", "why", "made with", "version"),
    *("question", "answer", "over", "from"),
}

# What says, at the left of a table, which row it is.
KEYS = NAMES | {"round", "seed", "policies", "layer"}

# In LaTeX, in pt: the room of an article in 10 pt on letter paper, which is narrower than most.
WIDTH, HEIGHT = 345.0, 550.0
MOST_ROWS = 40  # of a float
# How wide a digit is in each size; small letters are wider for their height, and most others are narrower.
SIZES = {"normalsize": 5.0, "small": 4.63, "footnotesize": 4.25, "scriptsize": 3.99, "tiny": 3.41}
GAP = 2.4  # digits between two columns
READABLE = "scriptsize"  # a table whose letters would be smaller is turned
SPARE = 1.2  # how much wider than a page a float's estimate may be: it is a tenth too wide, and is scaled
PACKAGES = {"{adjustbox}": "adjustbox", "{sidewaystable}": "rotating"}
PACKAGES |= {"{longtable}": "longtable", "{landscape}": "pdflscape"}
FITTING = f"""\
% Tables of more than {MOST_ROWS} rows are longtables, which break over pages and need a text of one column.
% Where a table is wider than {WIDTH:.0f} pt, a float is scaled to the line (adjustbox), a longtable set in a
% smaller size. Where its letters would be smaller than \\{READABLE}, it is turned (rotating, pdflscape).
% Where they would be smaller than \\tiny even so, its columns are set in several tables."""
TOO_WIDE = "% Wider than a page even so: leave out columns.\n"


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
class Listing:
    """A text that is shown line by line, as it is."""

    text: str


@dataclass(frozen=True)
class Page:
    """A title, then paragraphs, tables and listings in their order."""

    name: str
    title: str
    parts: Sequence[str | Table | Listing]


def rows_shown(table: pd.DataFrame, choice: Choice | None) -> pd.DataFrame:
    """The rows that readers see: of the chosen methods, in their order within each model and train set."""
    if choice is None or choice.methods is None:
        return table
    wanted = choice.methods
    kept = table[table["method"].isin(wanted)]
    groups = kept[["model", "train_set"]].apply(tuple, axis=1)
    firsts = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    order = sorted(
        range(len(kept)),
        key=lambda at: (firsts[groups.iloc[at]], wanted.index(kept["method"].iloc[at])),
    )
    return kept.iloc[order].reset_index(drop=True)


def columns_shown(page: Page, choice: Choice | None) -> Page:
    """The page with the chosen columns of its own table, and a line that says what was left out."""
    if choice is None or (choice.methods is None and choice.columns is None):
        return page

    def shown(part: str | Table | Listing) -> str | Table | Listing:
        if choice.columns is None or not isinstance(part, Table) or part.label:
            return part
        return replace(part, cells=part.cells[[name for name in choice.columns if name in part.cells]])

    what = " and ".join(name for name in ("methods", "columns") if getattr(choice, name) is not None)
    note = f"The suite chooses which {what} are shown here; `{page.name}.csv` has all."
    return replace(page, parts=[*map(shown, page.parts), note])


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
        elif isinstance(part, Listing):
            parts.append("\n".join(f"    {line}" for line in printable(part.text).splitlines()))
        else:
            parts += [f"## {part.caption}"] if part.caption != page.title else []
            parts.append(_pipes(part.cells))
    return "\n\n".join(parts) + "\n"


def latex(page: Page) -> str:
    """The tables of the page in LaTeX; the packages that they need are named at the top."""
    lines, tables = [], []
    for part in page.parts:
        if isinstance(part, str | Listing):
            text = part if isinstance(part, str) else part.text
            lines += ["", *(f"% {line}" for line in printable(text).splitlines())]
        else:
            for each in _parts(part):
                tables.append(_environment(page, each))
                lines += ["", tables[-1]]
    packages = [name for sign, name in PACKAGES.items() if any(sign in table for table in tables)]
    head = [f"% {printable(page.title)}", *(f"% \\usepackage{{{name}}}" for name in ["booktabs", *packages])]
    return "\n".join([*head, *([FITTING] if packages else []), *lines]) + "\n"


def html(page: Page) -> str:
    """The page as one HTML file; a click on a column's head sorts by it, numbers as numbers."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"marked": in_html, "plain": lambda text: printable(plain(text))}
    environment.filters["printable"] = printable
    parts = [_sortable(part) if isinstance(part, Table) else part for part in page.parts]
    return environment.get_template("page.html.j2").render(title=page.title, parts=parts) + "\n"


def _sortable(table: Table) -> dict[str, Any]:
    """A table as the template takes it: which columns have names, and the numbers that cells sort by."""
    columns = [{"name": str(name), "is_text": name in NAMES} for name in table.cells.columns]
    rows = [
        [
            {
                "text": text,
                "is_text": column["is_text"],
                "key": None if column["is_text"] else number_in(text),
            }
            for text, column in zip(map(str, row), columns, strict=True)
        ]
        for row in table.cells.itertuples(index=False, name=None)
    ]
    return {"caption": table.caption, "label": table.label, "columns": columns, "rows": rows}


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
    """A float, or a ``longtable``, that fits the page (``FITTING``)."""
    if table.cells.empty:
        return f"% {table.caption}: none."
    width = _width(table.cells)
    is_long, is_turned = len(table.cells) > MOST_ROWS, width * SIZES[READABLE] > WIDTH
    cells = table.cells.map(lambda value: _cell(str(value)))
    cells.columns = pd.Index([in_latex(str(name)) for name in cells.columns])
    text = str(
        cells.style.hide(axis="index").to_latex(
            environment="longtable" if is_long else "sidewaystable" if is_turned else "table",
            column_format="".join("l" if name in NAMES else "r" for name in table.cells.columns),
            hrules=True,
            position=None if is_long or is_turned else "t",
            position_float=None if is_long else "centering",
            caption=in_latex(table.caption),
            label=f"tab:{page.name}-{table.label}" if table.label else f"tab:{page.name}",
        )
    ).rstrip("\n")
    if is_long:
        return _smaller(text, width, is_turned)
    note = TOO_WIDE if width * SIZES["tiny"] > HEIGHT * SPARE else ""
    return f"{note}{_scaled(text)}" if width * SIZES["normalsize"] > WIDTH else text


def _parts(table: Table) -> list[Table]:
    """The table; where it is too wide for a turned page in the smallest letters, its columns in several.

    Each has the columns that say which row it is, and as many of the others as can be read.
    """
    widths = _widths(table.cells)
    room = HEIGHT if len(table.cells) > MOST_ROWS else HEIGHT * SPARE
    if sum(widths) * SIZES["tiny"] <= room:
        return [table]
    names = list(table.cells.columns)
    keys = max(len(list(takewhile(KEYS.__contains__, names))), 1)
    room = HEIGHT / SIZES[READABLE] - sum(widths[:keys])
    parts: list[list[int]] = [[]]
    for place in range(keys, len(names)):
        if parts[-1] and sum(widths[each] for each in (*parts[-1], place)) > room:
            parts.append([])
        parts[-1].append(place)
    if len(parts) == 1:  # no column to set apart
        return [table]
    return [
        Table(
            f"{table.caption} (part {number} of {len(parts)})",
            table.cells.iloc[:, [*range(keys), *part]],
            table.label if number == 1 else f"{table.label}-{number}".strip("-"),
        )
        for number, part in enumerate(parts, start=1)
    ]


def _width(cells: pd.DataFrame) -> float:
    """About how wide a table is, in digits."""
    return sum(_widths(cells))


def _widths(cells: pd.DataFrame) -> list[float]:
    """The same of each column, with the gap beside it."""
    rows = [tuple(cells.columns), *cells.itertuples(index=False, name=None)]
    return [GAP + max(len(plain(str(text))) for text in column) for column in zip(*rows, strict=True)]


def _scaled(text: str) -> str:
    """A float whose tabular is no wider than the line."""
    begin, end = "\\begin{tabular}", "\\end{tabular}"
    scaled = text.replace(begin, f"\\begin{{adjustbox}}{{max width=\\linewidth}}\n{begin}")
    return scaled.replace(end, f"{end}\n\\end{{adjustbox}}")


def _smaller(text: str, width: float, is_turned: bool) -> str:
    """A longtable in the largest size that fits, or else in the smallest."""
    room = HEIGHT if is_turned else WIDTH
    size = next((name for name, digit in SIZES.items() if width * digit <= room), "tiny")
    lines = [f"\\begingroup\\{size}", f"\\setlength{{\\tabcolsep}}{{{GAP / 2 * SIZES[size]:.1f}pt}}"]
    lines += [text, "\\endgroup"]
    fitting = "\n".join(["\\begin{landscape}", *lines, "\\end{landscape}"] if is_turned else lines)
    return f"{TOO_WIDE if width * SIZES[size] > room else ''}{fitting}"


def _cell(text: str) -> str:
    """A cell; a bracket that opens it would be read as an argument of the rule or line break before."""
    shown = in_latex(text)
    return f"{{[}}{shown[1:]}" if shown.startswith("[") else shown


def write_table(
    paths: Paths, recorder: Recorder, table: pd.DataFrame, page: Page, counts: Mapping[str, float]
) -> None:
    """Write the four files of a table, then their manifests.

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
        "html": html(page),
    }
    files = {paths.table(page.name, suffix): texts[suffix] for suffix in TABLE_SUFFIXES}
    for file, text in files.items():
        write_text(file, text)
    for file in files:
        recorder.write(file, dict(counts))
