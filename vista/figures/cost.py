"""What accuracy costs in samples.

A figure of the analysis stage: ``python -m vista.figures.cost TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import by_panel, draw, label_left, missing_note, nothing, panels, unswept


def cost(main: pd.DataFrame) -> Figure:
    """Overall accuracy against the solutions sampled by then; the line joins the best method at each cost."""
    own = unswept(main[main["overall"].notna() & main["objective"].ne("select")])
    if own.empty:
        return nothing("No run of this suite has a result.")
    found = by_panel(own)
    figure, axes = panels(found, height=2.6)
    for axis, rows in zip(axes, found.values(), strict=True):
        drawn = rows["samples_drawn_total"] / 1000
        axis.plot(drawn, rows["overall"], linestyle="", marker="o", markersize=3, alpha=0.5)
        ahead = rows.assign(drawn=drawn).sort_values(["drawn", "overall"], ascending=[True, False])
        ahead = ahead[ahead["overall"] > ahead["overall"].cummax().shift(fill_value=-1.0)]
        axis.step(ahead["drawn"], ahead["overall"], where="post", color="#D55E00", linewidth=1)
        for number, row in enumerate(ahead.to_dict("records")):
            name = str(row["method"]) + (f" {row['round']}" if row["round"] else "")
            at = (row["drawn"], row["overall"])
            axis.annotate(name, at, fontsize=5.5, xytext=(2, (3, -8)[number % 2]), textcoords="offset points")
        axis.set_xlabel("solutions sampled, thousands")
    label_left(axes, "overall accuracy, %")
    missing_note(figure, main)
    return figure


if __name__ == "__main__":
    draw(cost)
