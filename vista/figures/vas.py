"""Does the attention score tell faithful rationales from unfaithful ones?

A figure of the analysis stage: ``python -m vista.figures.vas TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import (
    GUIDE,
    by_panel,
    draw,
    handle,
    label_left,
    legend,
    nothing,
    panels,
)
from vista.figures.looks import series

THRESHOLD = -0.5  # the paper's τ


def vas(distributions: pd.DataFrame) -> Figure:
    """Attention scores of right solutions at the middle layer, by faithfulness; dotted: the paper's τ."""
    own = distributions[distributions["what"] == "vas"].assign(x=lambda rows: rows["x"].astype(float))
    if own.empty:
        return nothing("The tasks of this suite do not say what their images show.")
    found, styles = by_panel(own), series(own["group"])
    lines = {name: {"color": look.color, "linestyle": look.dash} for name, look in styles.items()}
    figure, axes = panels(found)
    for axis, rows in zip(axes, found.values(), strict=True):
        for group, line in rows.groupby("group", sort=False):
            axis.step(line["x"], line["share"], where="mid", **lines[str(group)])
            axis.fill_between(
                line["x"], line["share"], step="mid", alpha=0.15, color=styles[str(group)].color
            )
        axis.axvline(THRESHOLD, **GUIDE)
        axis.set_yscale("symlog", linthresh=5)
        axis.set_xlabel("attention score")
    label_left(axes, "solutions of each group, %")
    drops = handle(f"the paper's τ = {THRESHOLD:g}: dropped to its left".replace("-", "−"), **GUIDE)
    groups = [handle(name, **line) for name, line in lines.items()]
    ends = "The score is a z within the query; the outermost bins hold what is farther than ±3."
    legend(figure, [*groups, drops], ends, "The upright axis is linear to 5 %, then logarithmic.")
    return figure


if __name__ == "__main__":
    draw(vas)
