"""What the figures share: how they read tables, how they look, and how they are written.

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

from vista.errors import VistaError, told
from vista.manifest import Recorder
from vista.planned import start_figure
from vista.records import atomic_path

STYLE = Path(__file__).with_name("vista.mplstyle")
COLUMN, PAGE = 3.4, 7.0  # widths in inches: a column's, and a page's
BESIDE = 3  # panels
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
    "layer",
    "detector",
    "policy",
    "solutions",
    "measure",
    "source",
]
NO_DATES = {"pdf": {"CreationDate": None, "Producer": None, "Creator": None}, "png": {"Software": None}}
ALL_MODELS = "all models"
# A line to compare with, such as zero.
GUIDE: dict[str, Any] = {"color": "#555555", "linewidth": 1, "linestyle": ":"}


def draw(figure: Callable[..., Figure]) -> None:
    """The command line of a figure's script: read its tables, draw, write PDF, PNG and manifests."""
    parser = argparse.ArgumentParser(description=figure.__doc__)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--to", type=Path, required=True, help="the files without their suffix")
    parser.add_argument("--plan", type=Path, help="what Snakemake planned it with")
    asked = parser.parse_args()
    with told():
        start_figure(asked.plan, asked.to.name)
        recorder = Recorder("analysis", {"figure": asked.to.name}, asked.tables)
        style()
        save(figure(*(read(table) for table in asked.tables)), asked.to, recorder)


def style() -> None:
    """The look of every figure, whatever the user's own settings of matplotlib are."""
    mpl.rcdefaults()
    mpl.use("Agg")
    plt.style.use(STYLE)


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
    files = {suffix: to.with_name(f"{to.name}.{suffix}") for suffix in NO_DATES}
    for suffix, file in files.items():
        with atomic_path(file) as temporary:
            figure.savefig(temporary, format=suffix, metadata=NO_DATES[suffix])
    plt.close(figure)
    for file in files.values():
        recorder.write(file, {})


def panels(names: Iterable[str], height: float = 2.1) -> tuple[Figure, list[Axes]]:
    """Titled panels, a few beside each other: as wide as a column for one, as a page for more."""
    figure, rows = rows_of_panels(names, 1, height)
    return figure, rows[0]


def rows_of_panels(names: Iterable[str], rows: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """``rows`` times a panel for each name, ``height`` inches a time.

    More panels than fit beside each other are broken into several lines. All panels of a row share their
    y axis.
    """
    titles = list(names)
    columns = min(len(titles), BESIDE)
    lines = -(-len(titles) // columns)
    size = (COLUMN if columns == 1 else PAGE, height * rows * lines)
    figure, axes = plt.subplots(rows * lines, columns, figsize=size, squeeze=False)
    found = []
    for row in range(rows):
        flat = list(axes[row * lines : (row + 1) * lines].flat)
        for axis in flat[len(titles) :]:
            axis.remove()
        own = flat[: len(titles)]
        for place, axis in enumerate(own):
            if axis is not own[0]:
                axis.sharey(own[0])
            axis.tick_params(labelleft=place % columns == 0)
            if row == 0 or lines > 1:
                axis.set_title(titles[place])
        found.append(own)
    return figure, found


def label_left(axes: Sequence[Axes], text: str) -> None:
    """Label the y axis of the first panel of each line."""
    for axis in axes[::BESIDE]:
        axis.set_ylabel(text)


def nothing(why: str) -> Figure:
    """A figure that says what is missing, where a suite has nothing to draw."""
    figure, (axis,) = panels([""], height=1.2)
    axis.axis("off")
    axis.text(0.5, 0.5, why, ha="center", va="center", wrap=True)
    return figure


def by_panel(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each model, in the table's order; of each train set apart, if there are several.

    What was trained on other tasks is tested on others, and must not be joined in one line.
    """
    own = table[table["model"] != ALL_MODELS]
    several = own["train_set"].nunique() > 1
    return {
        f"{model}, {train_set}" if several else str(model): rows
        for (model, train_set), rows in own.groupby(["model", "train_set"], sort=False)
    }


def reach(rows: pd.DataFrame, value: str, low: str = "low", high: str = "high") -> list[pd.Series[float]]:
    """How far the interval of each row reaches below and above its value, as ``errorbar`` takes it.

    Rounding in the table may put an end on the wrong side of its value: that is a reach of zero.
    """
    below, above = rows[value] - rows[low], rows[high] - rows[value]
    return [below.clip(lower=0), above.clip(lower=0)]


def unswept(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the methods that no sweep makes; a swept one has its value after a ``+`` in its name."""
    return table[~table["method"].str.contains("+", regex=False)]


def missing_note(figure: Figure, table: pd.DataFrame) -> None:
    """Note below a figure how many runs its rows lack, those without any result included."""
    missing = int(table["missing"].fillna(0).sum())
    if missing:
        figure.supxlabel(f"{missing} runs without a result are missing", fontsize=6, color="#555555")
