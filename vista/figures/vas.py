"""Does the attention score tell faithful rationales from unfaithful ones?

A figure of the analysis stage: ``python -m vista.figures.vas TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import GUIDE, by_panel, draw, label_left, nothing, panels


def vas(distributions: pd.DataFrame) -> Figure:
    """Attention scores of right solutions at the middle layer, by faithfulness; dotted: the paper's τ."""
    own = distributions[distributions["what"] == "vas"].assign(x=lambda rows: rows["x"].astype(float))
    if own.empty:
        return nothing("The tasks of this suite do not say what their images show.")
    found = by_panel(own)
    figure, axes = panels(found)
    for axis, rows in zip(axes, found.values(), strict=True):
        for group, line in rows.groupby("group", sort=False):
            axis.step(line["x"], line["share"], where="mid", label=group)
            axis.fill_between(line["x"], line["share"], step="mid", alpha=0.15)
        axis.axvline(-0.5, **GUIDE)
        axis.set_yscale("symlog", linthresh=5)
        axis.set_xlabel("attention score (z-score within the query)")
    label_left(axes, "solutions of each group, %")
    axes[-1].legend()
    return figure


if __name__ == "__main__":
    draw(vas)
