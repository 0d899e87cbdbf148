"""How far critical tokens are from the true first errors.

A figure of the analysis stage: ``python -m vista.figures.critical_tokens TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import by_panel, draw, label_left, nothing, panels


def critical_tokens(distributions: pd.DataFrame) -> Figure:
    """Distance in tokens from the first error of a failed sample to its critical token."""
    own = distributions[distributions["what"] == "distance"]
    if own.empty:
        return nothing("The tasks of this suite do not say what their images show.")
    found = by_panel(own)
    figure, axes = panels(found)
    for axis, rows in zip(axes, found.values(), strict=True):
        known = rows[rows["x"] != "none"].assign(x=lambda found: found["x"].astype(int))
        colors = ["#D55E00" if x == 0 else "#0072B2" for x in known["x"]]
        axis.bar(known["x"], known["share"], color=colors)
        none = rows.loc[rows["x"] == "none", "share"]
        axis.text(
            0.02, 0.95, f"none found: {none.sum():.0f} %", transform=axis.transAxes, va="top", fontsize=7
        )
        axis.set_xlabel("tokens after the first error")
    label_left(axes, "failed samples, %")
    return figure


if __name__ == "__main__":
    draw(critical_tokens)
