"""What accuracy costs in sampled tokens.

A figure of the analysis stage: ``python -m vista.figures.cost TABLE --to FILE``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vista.figures.drawing import (
    bar_handles,
    bars,
    by_panel,
    draw,
    handle,
    label_left,
    legend,
    looks_of,
    missing,
    name_points,
    nothing,
    panels,
    reach,
    unswept,
    with_seeds,
)
from vista.figures.looks import Look

MILLION = 1e6
FRONT: dict[str, Any] = {"color": "#555555", "linewidth": 0.9, "linestyle": (0, (4, 2))}


def cost(main: pd.DataFrame) -> Figure:
    """Overall accuracy against the tokens sampled by then: a point for each round, the last one named.

    The 95 % intervals count test queries and, where there are several, training seeds (``with_seeds``). The
    dashed line is the Pareto front: the best accuracy at each cost.
    """
    asked = unswept(main[main["objective"].ne("select")])
    sure = with_seeds(main)
    own = sure[sure.index.isin(asked.index) & sure["overall"].notna() & sure["tokens_drawn_total"].notna()]
    own = own.assign(drawn=own["tokens_drawn_total"] / MILLION)
    if own.empty:
        return nothing("No run of this suite has a result.")
    found, styles = by_panel(own), looks_of(main)
    figure, axes = panels(found, height=2.7, narrow=1)
    for axis, rows in zip(axes, found.values(), strict=True):
        for method, line in rows.groupby("method", sort=False):
            look = styles[str(method)]
            reaches = reach(line, "overall")
            bars(axis, line["drawn"], line["overall"], reaches, line["error"], look.color, "y")
            axis.plot(line["drawn"], line["overall"], **_thin(look))
        ahead = front(rows)
        steps = [*np.repeat(ahead["drawn"], 2)[1:], rows["drawn"].max()]
        axis.plot(steps, np.repeat(ahead["overall"], 2), zorder=1, **FRONT)
        axis.margins(0.08)
        axis.set_xlabel("tokens sampled, millions")
    label_left(axes, "overall accuracy, %")
    drawn = dict.fromkeys(own["method"])
    best = handle("best at each cost (Pareto front)", **FRONT)
    errors = [error for rows in found.values() for error in rows["error"]]
    lost = [name for name in dict.fromkeys(asked["method"]) if name not in drawn]
    legend(
        figure,
        [*(handle(method, **_thin(styles[method])) for method in drawn), best, *bar_handles(errors, "y")],
        "The rounds of a method are joined, the last one is named where a name fits."
        if (own["round"] > 1).any()
        else "",
        f"Without a result or a known cost: {', '.join(lost)}." if lost else "",
        missing(asked),
    )
    for axis, rows in zip(axes, found.values(), strict=True):
        _name(figure, axis, rows)
    return figure


def front(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that none is better than at the same cost or a lower one, the cheapest first."""
    ahead = rows.sort_values(["drawn", "overall"], ascending=[True, False])
    return ahead[ahead["overall"] > ahead["overall"].cummax().shift(fill_value=-1.0)]


def _thin(look: Look) -> dict[str, Any]:
    return look.style | {"linewidth": 0.5, "markersize": 3.5}


def _name(figure: Figure, axis: Axes, rows: pd.DataFrame) -> None:
    """Names at the last rounds, those of the front first; the legend has those that do not fit."""
    points = list(rows[["drawn", "overall", "method"]].itertuples(index=False, name=None))
    last = (rows["round"] == rows.groupby("method")["round"].transform("max")).tolist()
    ahead = rows["method"].isin(front(rows)["method"]).tolist()
    named = [place for place in range(len(points)) if last[place]]
    name_points(figure, axis, points, sorted(named, key=lambda place: not ahead[place]), FRONT["color"])


if __name__ == "__main__":
    draw(cost)
