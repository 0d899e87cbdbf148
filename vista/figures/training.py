"""Training curves: the loss over a training, and of pairs, how many are ranked right.

A figure of the analysis stage: ``python -m vista.figures.training TABLE --to FILE``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import (
    by_panel,
    draw,
    handle,
    label_left,
    legend,
    looks_of,
    missing,
    nothing,
    rows_of_panels,
    unswept,
)

MARK = 12  # a marker at every so many points of a curve
BINS = 40  # parts of a training; each is a point, the mean over its steps and over seeds
RANKED = "rewards/accuracies"
# Each row: its label, whose curves it shows, and of which column, times what.
ROWS = (
    ("SFT: loss per token", ("seed", "sft"), "loss", 1.0),
    ("DPO: loss", ("dpo",), "loss", 1.0),
    ("DPO: pairs\nranked right, %", ("dpo",), RANKED, 100.0),
)


def training(table: pd.DataFrame) -> Figure:
    """A line for each method in its last round, over the share of the training that is done."""
    last = table.groupby(["model", "train_set", "method"])["round"].transform("max")
    asked = unswept(table[table["round"] == last])
    own = asked[asked["loss"].notna()]
    if own.empty:
        return nothing("No run of this suite has been trained.")
    steps = own.groupby(["model", "train_set", "method", "seed"])["step"].transform("max")
    own = own.assign(done=100 * np.ceil(BINS * own["step"] / steps) / BINS)
    rows = [
        row for row in ROWS if row[2] in own and own.loc[own["objective"].isin(row[1]), row[2]].notna().any()
    ]
    if not rows:  # objectives from elsewhere
        return nothing("No curve of this suite is one of SFT or DPO.")
    found = by_panel(own)
    styles = looks_of(table)
    figure, axes_of = rows_of_panels(found, len(rows), 1.7)
    for axes, (label, objectives, column, scale) in zip(axes_of, rows, strict=True):
        for axis, lines in zip(axes, found.values(), strict=True):
            drawn = lines[lines["objective"].isin(objectives)].groupby("method", sort=False)
            for place, (method, line) in enumerate(drawn):
                curve = scale * line.groupby("done")[column].mean()
                at = (place * MARK // max(1, len(drawn)), MARK)
                axis.plot(curve.index, curve, linewidth=1, markevery=at, **styles[str(method)].style)
        label_left(axes, label)
    for axis in axes_of[-1]:
        axis.set_xlabel("training done, %")
    seen = dict.fromkeys(own["method"])
    lost = missing(asked.assign(missing=(asked["status"] != "complete").astype(int)))
    legend(figure, [handle(method, **styles[method].style) for method in seen], lost)
    return figure


if __name__ == "__main__":
    draw(training)
