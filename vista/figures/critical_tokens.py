"""How far critical tokens are from the true first errors.

A figure of the analysis stage: ``python -m vista.figures.critical_tokens TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vista.figures.drawing import by_panel, draw, label_left, legend, nothing, panels
from vista.figures.looks import BLUE, ORANGE

FARTHEST = 10  # tokens; the last bars hold what is farther, too


def critical_tokens(distributions: pd.DataFrame) -> Figure:
    """Distance in tokens from the first error of a failed sample to its critical token."""
    own = distributions[distributions["what"] == "distance"]
    if own.empty:
        return nothing("The tasks of this suite do not say what their images show.")
    found = by_panel(own)
    figure, axes = panels(found)
    for axis, rows in zip(axes, found.values(), strict=True):
        known = rows[rows["x"] != "none"].assign(x=lambda found: found["x"].astype(int))
        for at, color, hatch in ((True, BLUE, ""), (False, ORANGE, "//////")):
            here = known[(known["x"] == 0) == at]
            axis.bar(here["x"], here["share"], color=color, hatch=hatch, edgecolor="white", linewidth=0)
        none = rows.loc[rows["x"] == "none", "share"]
        axis.text(
            0.02, 0.95, f"none found:\n{none.sum():.0f} %", transform=axis.transAxes, va="top", fontsize=7
        )
        axis.set_xlim(-FARTHEST - 1, FARTHEST + 1)
        axis.set_xticks([-FARTHEST, -5, 0, 5, FARTHEST], [f"≤−{FARTHEST}", "−5", "0", "5", f"≥{FARTHEST}"])
        axis.set_xlabel("tokens after the error")
    label_left(axes, "failed samples, %")
    legend(
        figure,
        [
            Patch(facecolor=BLUE, label="at the first error"),
            Patch(facecolor=ORANGE, hatch="//////", edgecolor="white", label="before or after it"),
        ],
        f"The outermost bars hold what is {FARTHEST} or more tokens away.",
    )
    return figure


if __name__ == "__main__":
    draw(critical_tokens)
