"""Whether methods learn to be right, or to guess well.

A figure of the analysis stage: ``python -m vista.figures.faithfulness TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import (
    GUIDE,
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
)

DELTA = "delta_sft_seed"


def faithfulness(faithfulness: pd.DataFrame) -> Figure:
    """Change of the faithful share against accuracy: a point for each round, the last one named."""
    asked = unswept(faithfulness[(faithfulness["task"] == "overall") & (faithfulness["round"] > 0)])
    own = asked[asked[DELTA].notna()]
    if own.empty:
        return nothing("No method of this suite can be compared with SFT-Seed.")
    found, styles = by_panel(own), looks_of(faithfulness)
    figure, axes = panels(found, height=2.7, narrow=1)
    for axis, rows in zip(axes, found.values(), strict=True):
        axis.axhline(0, **GUIDE)
        for method, line in rows.groupby("method", sort=False):
            look = styles[str(method)]
            ends = reach(line, DELTA, "delta_low", "delta_high")
            bars(axis, line["accuracy"], line[DELTA], ends, line["error"], look.color, "y")
            axis.plot(line["accuracy"], line[DELTA], **look.style | {"linewidth": 0.5, "markersize": 3.5})
        axis.margins(0.08)
        axis.set_xlabel("right answers, %")
    label_left(axes, "faithful share of them, difference\nto SFT-Seed, points")
    errors = [error for rows in found.values() for error in rows["error"]]
    drawn = dict.fromkeys(own["method"])
    legend(
        figure,
        [
            *(handle(method, **styles[method].style | {"linewidth": 0.5}) for method in drawn),
            handle("SFT-Seed", **GUIDE),
            *bar_handles(errors, "y"),
        ],
        "Above the dotted line a right answer rests on a faithful rationale more often than SFT-Seed's.",
        "The rounds of a method are joined, the last one is named where a name fits."
        if (own["round"] > 1).any()
        else "",
        missing(asked),
    )
    for axis, rows in zip(axes, found.values(), strict=True):
        points = list(rows[["accuracy", DELTA, "method"]].itertuples(index=False, name=None))
        last = rows["round"] == rows.groupby("method")["round"].transform("max")
        name_points(
            figure, axis, points, [place for place in range(len(points)) if last.iloc[place]], "#555555"
        )
    return figure


if __name__ == "__main__":
    draw(faithfulness)
