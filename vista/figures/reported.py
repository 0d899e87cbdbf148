"""Reproduced accuracies against the published ones.

A figure of the analysis stage: ``python -m vista.figures.reported TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import (
    BAR,
    GUIDE,
    bar_handle,
    draw,
    handle,
    legend,
    looks_of,
    nothing,
    panels,
    reach,
)


def reported(reported: pd.DataFrame) -> Figure:
    """Each reproduced number with its 95 % interval against the published one; the line is equality."""
    own = reported[reported["reproduced"].notna()]
    if own.empty:
        return nothing("No published number has been reproduced by this suite.")
    styles = looks_of(own)
    figure, (axis,) = panels([""], height=2.8)
    for method, rows in own.groupby("method", sort=False):
        errors, look = reach(rows, "reproduced"), styles[str(method)]
        axis.errorbar(rows["reported"], rows["reproduced"], yerr=errors, ecolor=look.color, **BAR)
        axis.plot(rows["reported"], rows["reproduced"], **look.point)
    ends = [own[["reported", "reproduced"]].min().min() - 2, own[["reported", "reproduced"]].max().max() + 2]
    axis.plot(ends, ends, **GUIDE)
    axis.set_xlabel("reported accuracy, %")
    axis.set_ylabel("reproduced accuracy, %")
    methods = [handle(method, **look.point) for method, look in styles.items()]
    legend(
        figure,
        [*methods, handle("reported = reproduced", **GUIDE), bar_handle("95 %, test queries", "y", False)],
    )
    return figure


if __name__ == "__main__":
    draw(reported)
