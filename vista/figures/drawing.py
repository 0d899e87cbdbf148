"""What the figures share: how they read tables, how they look, and how they are written.

Each figure is a module of this folder, run by the rule ``figure`` as ``python -m vista.figures.NAME TABLE…
--to FILE``; it has one function from its tables to a matplotlib figure. Equal tables give equal bytes: no
dates, one font. ``vista.figures.looks`` has the colours and markers.
"""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from vista.errors import VistaError, told
from vista.figures.looks import Look, looks
from vista.manifest import Recorder
from vista.planned import start_figure
from vista.records import atomic_path

STYLE = Path(__file__).with_name("vista.mplstyle")
COLUMN, PAGE = 3.4, 7.0  # widths in inches: a column's, and a page's
WIDTHS = {"column": COLUMN, "page": PAGE}
BESIDE = 3  # panels of a page
LETTERS = 21  # of a note, in an inch
# Where a name may stand beside a point, the best first: points to the right and up, and how it is aligned.
BESIDE_A_POINT = [
    (reach * x, reach * y, side, level)
    for reach in (1.0, 2.0, 3.5)
    for x, y, side, level in (
        *((4, 0, "left", "center"), (-4, 0, "right", "center"), (0, 4, "center", "bottom")),
        *((0, -4, "center", "top"), (3, 3, "left", "bottom"), (3, -3, "left", "top")),
        *((-3, 3, "right", "bottom"), (-3, -3, "right", "top")),
    )
]
POINT = 2.2  # half of a marker, in points, that no name may cover
ASKED: ContextVar[float | None] = ContextVar("asked", default=None)  # inches; None: what the panels need
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
    kinds = [each.kind for each in inspect.signature(figure).parameters.values()]
    # A figure of any number of tables says itself that there are none.
    parser.add_argument("tables", type=Path, nargs="*" if inspect.Parameter.VAR_POSITIONAL in kinds else "+")
    parser.add_argument("--to", type=Path, required=True, help="the files without their suffix")
    parser.add_argument("--plan", type=Path, help="what Snakemake planned it with")
    parser.add_argument("--width", choices=WIDTHS, help="3.4 or 7 inches; without it, what the panels need")
    asked = parser.parse_args()
    with told(), at_width(asked.width):
        start_figure(asked.plan, asked.to.name)
        recorder = Recorder("analysis", {"figure": asked.to.name}, asked.tables)
        style()
        save(figure(*(read(table) for table in asked.tables)), asked.to, recorder)


@contextmanager
def at_width(name: str | None) -> Iterator[None]:
    """Figures that are made meanwhile are as wide as a ``column`` or a ``page``."""
    token = ASKED.set(None if name is None else WIDTHS[name])
    try:
        yield
    finally:
        ASKED.reset(token)


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
    found = pd.read_csv(table, dtype={name: "str" for name in NAMES if name in header})
    if "default" in header:  # a sweep's values are text, whatever they look like: ``None`` is one, too
        values = ["value", "default"]
        found[values] = pd.read_csv(table, usecols=values, dtype="str", keep_default_na=False)[values]
    return found


def save(figure: Figure, to: Path, recorder: Recorder) -> None:
    """Write ``to.pdf`` and ``to.png``, then their manifests."""
    files = {suffix: to.with_name(f"{to.name}.{suffix}") for suffix in NO_DATES}
    for suffix, file in files.items():
        with atomic_path(file) as temporary:
            figure.savefig(temporary, format=suffix, metadata=NO_DATES[suffix])
    plt.close(figure)
    for file in files.values():
        recorder.write(file, {})


def panels(names: Iterable[str], height: float = 2.1, narrow: int = 2) -> tuple[Figure, list[Axes]]:
    """Titled panels, a few beside each other: as wide as a column for one, as a page for more."""
    figure, rows = rows_of_panels(names, 1, height, narrow)
    return figure, rows[0]


def rows_of_panels(
    names: Iterable[str], rows: int, height: float, narrow: int = 2
) -> tuple[Figure, list[list[Axes]]]:
    """``rows`` times a panel for each name, ``height`` inches a time.

    More panels than fit beside each other are broken into several lines. All panels of a row share their
    y axis.

    Args:
        names: The panels' titles.
        rows: How many rows of such panels.
        height: Of a panel, in inches.
        narrow: How many panels fit beside each other where the width of a column is asked for.
    """
    titles = list(names)
    width = ASKED.get() or (COLUMN if len(titles) == 1 else PAGE)
    columns = min(len(titles), BESIDE if width > COLUMN else narrow)
    lines = -(-len(titles) // columns)
    size = (width, height * rows * lines)
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
    for axis in axes:
        place = axis.get_subplotspec()
        if place is None or place.is_first_col():
            axis.set_ylabel(text)


def nothing(why: str) -> Figure:
    """A figure that says what is missing, where a suite has nothing to draw."""
    figure, (axis,) = panels([""], height=1.2)
    axis.axis("off")
    axis.text(0.5, 0.5, textwrap.fill(why, 50, break_on_hyphens=False), ha="center", va="center")
    return figure


def by_panel(table: pd.DataFrame, whole: pd.DataFrame | None = None) -> dict[str, pd.DataFrame]:
    """The rows of each model, in the table's order; of each train set apart, if there are several.

    What was trained on other tasks is tested on others, and must not be joined in one line.

    Args:
        table: The rows.
        whole: The table that they are from, if panels of several parts of it are to have the same names.
    """
    own, named = (each[each["model"] != ALL_MODELS] for each in (table, table if whole is None else whole))
    several = named["train_set"].nunique() > 1
    return {
        f"{model}, {train_set}" if several else str(model): rows
        for (model, train_set), rows in own.groupby(["model", "train_set"], sort=False)
    }


def one_pool(audit: pd.DataFrame) -> pd.DataFrame:
    """Of each model the solutions of one policy with the most ``name``s, the first of several such."""
    of = ["model", "train_set"]
    pools = audit.groupby([*of, "solutions", "policy"], sort=False)["name"].transform("nunique")
    most = audit[pools == pools.groupby([audit[name] for name in of]).transform("max")]
    chosen = most.groupby(of)[["solutions", "policy"]].transform("first")
    return most[(most[["solutions", "policy"]] == chosen).all(axis=1)]


# --- methods, and how sure their numbers are ---


def unswept(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the methods that no sweep makes; a swept one has its value after a ``+`` in its name."""
    return table[~table["method"].str.contains("+", regex=False)]


def looks_of(table: pd.DataFrame) -> dict[str, Look]:
    """The look of every method of a table, drawn or not."""
    return looks(table["method"])


def reach(rows: pd.DataFrame, value: str, low: str = "low", high: str = "high") -> list[pd.Series[float]]:
    """How far the interval of each row reaches below and above its value, as ``errorbar`` takes it.

    Rounding in the table may put an end on the wrong side of its value: that is a reach of zero.
    """
    below, above = rows[value] - rows[low], rows[high] - rows[value]
    return [below.clip(lower=0), above.clip(lower=0)]


WIDE = 3.0  # medians: bars that reach farther are cut off at the edge


def ends_shown(rows: pd.DataFrame, value: str, low: str = "low", high: str = "high") -> tuple[float, float]:
    """What of an axis of differences to show: every number, and every bar but those of hardly anything known.

    With two seeds, or two models, an interval may be thirty times as wide as its neighbours.

    Args:
        rows: Of one panel, at least one.
        value: The column of the differences, in points.
        low: That of the lower ends of their intervals.
        high: That of the upper ends.

    Returns:
        The ends of the axis; 0 is between them.
    """
    below, above = reach(rows, value, low, high)
    most = WIDE * pd.concat([below, above]).median()
    values = rows[value].astype(float)
    known = (below <= most) & (above <= most)
    left = min(0.0, values.min(), (values - below)[known].min())
    right = max(0.0, values.max(), (values + above)[known].max())
    return left - 0.04 * (right - left), right + 0.04 * (right - left)


def with_seeds(main: pd.DataFrame) -> pd.DataFrame:
    """Accuracies with intervals over test queries **and** training seeds, where a row has several seeds.

    With S seeds the variances over queries (``se``²) and over seeds (s²/S) are added, as for the differences
    of the tables, and the interval is that of a t distribution with Satterthwaite's degrees of freedom. A
    row's own few seeds say too little about s², so it is pooled, as for ``detectable``: over the rows of the
    same model, train set and round, here also of the same objective. Runs of one seed start from one SFT-Seed
    and share samples, so methods are taken to be correlated by ``ALIKE``: the pool rests on fewer degrees of
    freedom than their sum. The table's own interval, over queries alone, stays where a row has one seed.

    Args:
        main: All rows of ``main.csv``, in percent.

    Returns:
        The rows with new ``low`` and ``high``, and ``error``: what each accounts for.
    """
    seeds, sd = main["seeds"].astype(float), main["seed_sd"].astype(float)
    freedom = (seeds - 1).where(sd.notna(), 0.0)
    of = [main[name] for name in ("model", "train_set", "round")] + [main["objective"].fillna("")]
    pooled = (freedom * sd.fillna(0.0) ** 2).groupby(of).transform("sum")
    pooled /= freedom.groupby(of).transform("sum") * seeds
    known = freedom.groupby(of).transform(lambda each: independent(each.to_numpy()))
    several = (freedom > 0) & main["se"].notna()
    variance = main["se"].astype(float) ** 2 + pooled
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.where(pooled > 0, variance**2 * known / pooled**2, np.inf)
    wide = student.ppf(0.975, degrees) * np.sqrt(variance)
    return main.assign(
        low=main["low"].mask(several, (main["overall"] - wide).clip(lower=0)),
        high=main["high"].mask(several, (main["overall"] + wide).clip(upper=100)),
        error=np.where(several, BOTH, "queries"),
    )


ALIKE = 0.5  # correlation of two methods over the seeds of one model


def independent(freedom: NDArray[np.float64]) -> float:
    """The degrees of freedom of a variance pooled over methods that are correlated by ``ALIKE``."""
    total = freedom.sum()
    joint = ALIKE**2 * np.minimum.outer(freedom, freedom).sum() + (1 - ALIKE**2) * total
    return float(total**2 / joint) if total else 0.0


BOTH = "queries, seeds"  # what an interval accounts for, in the tables
CAP = 1.8  # points
BAR: dict[str, Any] = {"fmt": "none", "elinewidth": 0.7, "capthick": 0.7}


def bars(axis: Axes, x: Any, y: Any, errors: Any, error: pd.Series[str], color: str, along: str) -> None:
    """95 % intervals: with caps where they count training seeds, without where test queries alone.

    Args:
        axis: To draw on.
        x: [n] numbers.
        y: [n] numbers.
        errors: As of ``reach``.
        error: [n] what each interval accounts for, as the tables say it.
        color: Of the bars.
        along: The axis that they lie along, ``x`` or ``y``.
    """
    for counted in (True, False):
        chosen = (error == BOTH).to_numpy() == counted
        if chosen.any():
            here = [np.asarray(each, dtype=float)[chosen] for each in (x, y, *errors)]
            ends: dict[str, Any] = {f"{along}err": here[2:]}
            axis.errorbar(here[0], here[1], **ends, ecolor=color, capsize=CAP * counted, **BAR)


def bar_handles(errors: Iterable[str], along: str) -> list[ErrorbarContainer]:
    """What a legend says of the ``bars`` in a figure, one entry for each kind that there is."""
    kinds = {str(error) == BOTH for error in errors if pd.notna(error)}
    says = {True: "95 %, test queries and seeds", False: "95 %, test queries alone (one seed)"}
    return [bar_handle(says[counted], along, counted) for counted in (True, False) if counted in kinds]


def bar_handle(says: str, along: str, caps: bool) -> ErrorbarContainer:
    """A legend's entry for an interval that lies along ``x`` or ``y``."""
    ends: dict[str, Any] = {f"{along}err": [0.0]}
    axis = Figure().add_subplot()
    return axis.errorbar([0], [0], **ends, ecolor="#555555", capsize=CAP * caps, label=says, **BAR)


# --- what is said below a figure ---


def handle(label: str, **style: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=label, **style)


def legend(figure: Figure, handles: Sequence[Any], *sentences: str) -> None:
    """One legend below the panels, in as many columns as the width allows, under what must be said.

    The figure grows by it, so that the panels stay as they are.

    Args:
        figure: To draw on.
        handles: The entries.
        sentences: What a reader must know and cannot see; empty ones are left out.
    """
    wide = int(figure.get_figwidth() * LETTERS)
    said = textwrap.fill(" ".join(filter(None, sentences)), wide, break_on_hyphens=False)
    for columns in range(len(handles), 0, -1):
        placed = figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=columns,
            title=said or None,
            title_fontproperties={"size": 6},
        )
        placed.get_title().set(color="#444444", multialignment="center")
        box = placed.get_window_extent()
        if columns == 1 or box.width <= figure.bbox.width:
            figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)
            return
        placed.remove()


def missing(table: pd.DataFrame) -> str:
    """How many runs the rows of a table lack, those without any result included; nothing if none."""
    count = int(table["missing"].fillna(0).sum())
    some = "1 run without a result is" if count == 1 else f"{count} runs without a result are"
    return f"{some} missing." if count else ""


def name_points(
    figure: Figure, axis: Axes, points: Sequence[tuple[float, float, str]], named: Sequence[int], color: str
) -> None:
    """Names beside points, the first of ``named`` first, each where it covers no point, line or other name.

    Call it when all else is drawn. A name that fits nowhere is left out, so a legend must have it.

    Args:
        figure: That the panel is part of.
        axis: To draw on.
        points: Every point of the panel, with its name.
        named: Places in ``points`` of those to name.
        color: Of the line from a name to a point that it is not next to.
    """
    figure.draw_without_rendering()  # only then it is known where the points are
    half = POINT * figure.dpi / 72
    places = [axis.transData.transform((x, y)) for x, y, _ in points]
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in places]
    lines = [line.get_transform().transform_path(line.get_path()) for line in axis.get_lines()]
    for number in named:
        x, y, name = points[number]
        for right, up, side, level in BESIDE_A_POINT:
            line = {"arrowstyle": "-", "linewidth": 0.4, "color": color, "shrinkA": 0, "shrinkB": 1}
            text = axis.annotate(
                name,
                (x, y),
                xytext=(right, up),
                textcoords="offset points",
                ha=side,
                va=level,
                fontsize=5.5,
                arrowprops=line if abs(right) + abs(up) > 8 else None,
            )
            text.set_in_layout(False)
            text.update_positions(figure.canvas.get_renderer())  # type: ignore[attr-defined]
            box = Text.get_window_extent(text)  # of the words, without the line
            inside = axis.bbox.fully_containsx(box.x0) and axis.bbox.fully_containsx(box.x1)
            inside = inside and axis.bbox.fully_containsy(box.y0) and axis.bbox.fully_containsy(box.y1)
            crossed = any(line.intersects_bbox(box, filled=False) for line in lines)
            if inside and not crossed and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
