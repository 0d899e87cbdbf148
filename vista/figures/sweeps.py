"""Sweeps of VISTA's settings: the threshold, the layer and the others.

A figure of the analysis stage: ``python -m vista.figures.sweeps SWEEP… --to FILE``.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vista.figures.drawing import (
    ALL_MODELS,
    GUIDE,
    bar_handles,
    bars,
    draw,
    handle,
    label_left,
    legend,
    missing,
    nothing,
    panels,
    reach,
)
from vista.figures.looks import Look, looks

AS_IT_IS = 7  # points, the marker of the default


def sweeps(*tables: pd.DataFrame) -> Figure:
    """Difference to the method with its default, over all models, a panel for each setting that is swept.

    Args:
        tables: ``sweep_<name>.csv`` of each sweep. A sweep with one value is told below the panels, unless
            all sweeps are such.
    """
    if not tables:
        return nothing("This suite sweeps no setting.")
    table = pd.concat(tables, ignore_index=True)
    asked = table[table["model"] == ALL_MODELS]
    asked = asked[asked["round"] == asked.groupby("method")["round"].transform("max")]
    own = asked[asked["difference"].notna()]
    if own.empty:
        return nothing("No sweep of this suite has a result.")
    several = [name for name in ("against", "train_set") if own[name].nunique() > 1]
    by = own.groupby(["setting", "against", "train_set"], sort=False)
    found = {
        ", ".join([str(rows["setting"].iloc[0]), *(str(rows[name].iloc[0]) for name in several)]): rows
        for _, rows in by
    }
    alone = {name: rows for name, rows in found.items() if len(rows) == 1}
    if len(alone) < len(found):
        found = {name: rows for name, rows in found.items() if name not in alone}
    else:
        alone = {}
    styles = looks(own["against"])
    figure, axes = panels(found, height=1.8)
    for axis, rows in zip(axes, found.values(), strict=True):
        _panel(axis, rows, styles[rows["against"].iloc[0]])
    label_left(axes, "difference, points")
    drawn = pd.concat(found.values())
    handles: list[Any] = []
    for method in dict.fromkeys(drawn["against"]):
        handles += [
            handle(f"{method} as it is (default)", **styles[method].point, markersize=AS_IT_IS),
            handle(f"{method} with the value", **styles[method].point),
        ]
    handles += [handle("no difference", **GUIDE), *bar_handles(drawn["error"], "y")]
    told = [_told(name, rows) for name, rows in alone.items()]
    legend(figure, handles, "One value alone:" if told else "", *told, missing(asked))
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, look: Look) -> None:
    """The values of one setting in order, the default among them."""
    default, swept = str(rows["default"].iloc[0]), [str(value) for value in rows["value"]]
    values = _ordered([default, *swept])
    places = pd.Series([values.index(value) for value in swept], rows.index, dtype=float)
    bars(axis, places, rows["difference"], reach(rows, "difference"), rows["error"], look.color, "y")
    axis.plot(places, rows["difference"], **look.point)
    axis.plot(values.index(default), 0.0, **look.point, markersize=AS_IT_IS)
    axis.axhline(0, **GUIDE)
    axis.set_xticks(
        range(len(values)),
        [f"{_shown(value)}\n(default)" if value == default else _shown(value) for value in values],
    )
    axis.set_xlim(-0.6, len(values) - 0.4)


def _ordered(values: list[str]) -> list[str]:
    """Numbers by their size, ``[0.5]`` too; other values as they come, the default first."""
    try:
        return sorted(dict.fromkeys(values), key=lambda value: float(value.strip("[]")))
    except ValueError:
        return list(dict.fromkeys(values))


def _shown(value: str) -> str:
    """A value as it is printed: one in a list without its brackets."""
    alone = value[1:-1] if value.startswith("[") and "," not in value else value
    return alone.replace("-", "−") if alone.startswith("-") else alone


def _told(name: str, rows: pd.DataFrame) -> str:
    """A sweep of one value in words."""
    row = rows.iloc[0]
    value, low, high = (f"{row[end]:+.2f}".replace("-", "−") for end in ("difference", "low", "high"))
    said = f"{name} = {_shown(row['value'])} instead of {_shown(row['default'])}: {value}"
    return f"{said} [{low}, {high}] ({row['error']})." if pd.notna(row["low"]) else f"{said}."


if __name__ == "__main__":
    draw(sweeps)
