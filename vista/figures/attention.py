"""Where the attention of a response goes, layer by layer.

A figure of the analysis stage: ``python -m vista.figures.attention TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import by_panel, draw, handle, label_left, legend, nothing, panels
from vista.figures.looks import series


def attention(distributions: pd.DataFrame) -> Figure:
    """Mean share of the attention on system, vision and instruction, by layer, a panel for each model."""
    own = distributions[distributions["what"] == "attention"].assign(x=lambda rows: rows["x"].astype(int))
    if own.empty:
        return nothing("No solution of this suite has attention scores.")
    found, styles = by_panel(own), series(own["group"])
    figure, axes = panels(found)
    for axis, rows in zip(axes, found.values(), strict=True):
        for segment, line in rows.groupby("group", sort=False):
            axis.plot(line["x"], line["share"], **styles[str(segment)].style)
        axis.set_xlabel("layer")
        axis.set_xticks(sorted(set(rows["x"])))
        axis.set_ylim(0, 100)
    label_left(axes, "share of attention, %")
    legend(figure, [handle(f"{segment} of the prompt", **look.style) for segment, look in styles.items()])
    return figure


if __name__ == "__main__":
    draw(attention)
