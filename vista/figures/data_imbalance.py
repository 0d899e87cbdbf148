"""How many train queries have how many right samples: the paper's data imbalance.

A figure of the analysis stage: ``python -m vista.figures.data_imbalance TABLE --to FILE``.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vista.figures.drawing import by_panel, draw, label_left, legend, nothing, panels
from vista.figures.looks import HATCHES, series


def data_imbalance(distributions: pd.DataFrame) -> Figure:
    """Share of the train queries by right samples of SFT-Seed, stacked by task, a panel for each model."""
    own = distributions[distributions["what"] == "imbalance"].assign(x=lambda rows: rows["x"].astype(int))
    if own.empty:
        return nothing("Nothing has been sampled in this suite.")
    found = by_panel(own)
    fills: dict[str, dict[str, Any]] = {
        task: {"facecolor": look.color, "hatch": HATCHES[place % len(HATCHES)], "edgecolor": "white"}
        for place, (task, look) in enumerate(series(own["group"]).items())
    }
    figure, axes = panels(found)
    for axis, rows in zip(axes, found.values(), strict=True):
        table = rows.pivot_table(
            index="x", columns="group", values="count", aggfunc="sum", sort=False
        ).fillna(0)
        table = 100 * table.sort_index() / table.to_numpy().sum()
        below = 0 * table.iloc[:, 0]
        for task in table:
            axis.bar(table.index, table[task], bottom=below, width=0.8, linewidth=0, **fills[task])
            below = below + table[task]
        axis.set_xlabel("right samples per query")
    label_left(axes, "train queries, %")
    legend(figure, [Patch(label=task, linewidth=0, **fill) for task, fill in fills.items()])
    return figure


if __name__ == "__main__":
    draw(data_imbalance)
