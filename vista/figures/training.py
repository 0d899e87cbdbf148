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
    label_left,
    missing_note,
    nothing,
    rows_of_panels,
    unswept,
)

BINS = 40  # parts of a training; each is a point, the mean over its steps and over seeds
RANKED = "rewards/accuracies"
# Each row: its label, whose curves it shows, and of which column, times what.
ROWS = (
    ("SFT: loss per token", ("seed", "sft"), "loss", 1.0),
    ("DPO: loss", ("dpo",), "loss", 1.0),
    ("DPO: pairs ranked right, %", ("dpo",), RANKED, 100.0),
)
STYLES = ["-", "--", "-.", ":", (0, (6, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)), (0, (6, 2, 1, 2, 1, 2))]


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
    styles = dict(zip(dict.fromkeys(own["method"]), _styles(), strict=False))
    figure, axes_of = rows_of_panels(found, len(rows), 2.0)
    for axes, (label, objectives, column, scale) in zip(axes_of, rows, strict=True):
        for axis, lines in zip(axes, found.values(), strict=True):
            for method, line in lines[lines["objective"].isin(objectives)].groupby("method", sort=False):
                curve = scale * line.groupby("done")[column].mean()
                axis.plot(curve.index, curve, label=method, **styles[method])
        label_left(axes, label)
        widest = max(axes, key=lambda axis: len(axis.get_lines()))
        axes[-1].legend(
            *widest.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3
        )
    for axis in axes_of[-1]:
        axis.set_xlabel("training done, %")
    lost = asked["status"] != "complete"
    missing_note(figure, asked.assign(missing=lost.astype(int)))
    return figure


def _styles() -> list[dict[str, object]]:
    """Colours with line styles, so that lines differ in black and white, too."""
    return [{"color": f"C{n % 8}", "linestyle": STYLES[(n + n // 8) % len(STYLES)]} for n in range(64)]


if __name__ == "__main__":
    draw(training)
