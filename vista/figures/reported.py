"""Reproduced accuracies against the published ones.

A figure of the analysis stage: ``python -m vista.figures.reported TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import GUIDE, draw, nothing, panels, reach


def reported(reported: pd.DataFrame) -> Figure:
    """Each reproduced number with its 95 % interval against the published one; the line is equality."""
    own = reported[reported["reproduced"].notna()]
    if own.empty:
        return nothing("No published number has been reproduced by this suite.")
    figure, (axis,) = panels([""], height=3.2)
    for method, rows in own.groupby("method", sort=False):
        errors = reach(rows, "reproduced")
        axis.errorbar(
            rows["reported"], rows["reproduced"], yerr=errors, marker="o", linestyle="", label=method
        )
    ends = [own[["reported", "reproduced"]].min().min() - 2, own[["reported", "reproduced"]].max().max() + 2]
    axis.plot(ends, ends, **GUIDE)
    axis.set_xlabel("reported accuracy, %")
    axis.set_ylabel("reproduced accuracy, %")
    axis.legend()
    return figure


if __name__ == "__main__":
    draw(reported)
