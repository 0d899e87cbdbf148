"""What the figures share: reading their tables, their look, their files.

Each figure is a module of this folder, run by the rule ``figure`` as ``python -m vista.figures.NAME TABLE
--to FILE``; it has one function from a table to a matplotlib figure. Equal tables give equal bytes: no dates,
one font.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vista.errors import VistaError
from vista.manifest import Recorder
from vista.records import atomic_path

STYLE = Path(__file__).with_name("vista.mplstyle")
COLUMN, PAGE = 3.4, 7.0  # widths in inches: a column's, and a page's
NAMES = [
    "objective",
    "model",
    "train_set",
    "method",
    "against",
    "differs",
    "task",
    "group",
    "kind",
    "what",
    "status",
    "x",
]
NO_DATES = {"pdf": {"CreationDate": None, "Producer": None, "Creator": None}, "png": {"Software": None}}
ALL_MODELS = "all models"


def draw(figure: Callable[..., Figure]) -> None:
    """The command line of a figure's script: read its tables, draw, write PDF, PNG and manifests."""
    parser = argparse.ArgumentParser(description=figure.__doc__)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--to", type=Path, required=True, help="the files without their suffix")
    asked = parser.parse_args()
    recorder = Recorder("analysis", {"figure": asked.to.name}, asked.tables)
    plt.style.use(STYLE)
    save(figure(*(read(table) for table in asked.tables)), asked.to, recorder)


def read(table: Path) -> pd.DataFrame:
    """A table's CSV; empty cells are ``NaN``, names stay text.

    Raises:
        VistaError: the file is missing.
    """
    if not table.is_file():
        raise VistaError(f"{table}: no such file; run the rule that makes the table")
    header = pd.read_csv(table, nrows=0).columns
    return pd.read_csv(table, dtype={name: "str" for name in NAMES if name in header})


def save(figure: Figure, to: Path, recorder: Recorder) -> None:
    """Write ``to.pdf`` and ``to.png``, then their manifests."""
    to.parent.mkdir(parents=True, exist_ok=True)
    files = {suffix: to.with_name(f"{to.name}.{suffix}") for suffix in NO_DATES}
    for suffix, file in files.items():
        with atomic_path(file) as temporary:
            figure.savefig(temporary, format=suffix, metadata=NO_DATES[suffix])
    plt.close(figure)
    for file in files.values():
        recorder.write(file, {})


def panels(names: Iterable[str], height: float = 2.1) -> tuple[Figure, list[Axes]]:
    """A row of panels, each titled: as wide as a column for one, as a page for more."""
    figure, rows = rows_of_panels(names, 1, height)
    return figure, rows[0]


def rows_of_panels(names: Iterable[str], rows: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Rows of panels, the first row titled; a row shares its ordinate."""
    titles = list(names)
    size = (COLUMN if len(titles) == 1 else PAGE, height)
    figure, axes = plt.subplots(rows, len(titles), figsize=size, sharey="row", squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure, [list(row) for row in axes]


def nothing(why: str) -> Figure:
    """A figure that says what is missing, where a suite has nothing to draw."""
    figure, (axis,) = panels([""], height=1.2)
    axis.axis("off")
    axis.text(0.5, 0.5, why, ha="center", va="center", wrap=True)
    return figure


def models_of(table: pd.DataFrame) -> list[str]:
    """The models of a table in its order."""
    return [name for name in dict.fromkeys(table["model"]) if name != ALL_MODELS]


def missing_note(figure: Figure, table: pd.DataFrame) -> None:
    """Say below a figure how many runs its table lacks."""
    missing = int(table["missing"].fillna(0).sum()) if "missing" in table else 0
    if missing:
        figure.supxlabel(f"{missing} runs without a result are missing", fontsize=6, color="#555555")


def bars(
    axis: Axes, labels: Sequence[str], values: Sequence[float], errors: Any = None, **options: Any
) -> None:
    """Horizontal bars, the first on top."""
    places = range(len(labels))
    axis.barh(list(places), list(values), xerr=errors, height=0.7, **options)
    axis.set_yticks(list(places), list(labels))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
