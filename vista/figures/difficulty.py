"""Who gains on hard questions.

A figure of the analysis stage: ``python -m vista.figures.difficulty TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import ALL_MODELS, GUIDE, draw, nothing, panels, reach, unswept

# What to show first if there are many methods, and how many of the others: as many as there are colours.
FIRST = ["rest-em", "vista-sft", "vista-prefix-only", "vista-vas-only", "r3v", "oracle-filter", "gold-prefix"]
MOST = 8


def difficulty(difficulty: pd.DataFrame) -> Figure:
    """Points over SFT-Seed by kind of question, from those it finds hardest to those it finds easiest."""
    own = difficulty[(difficulty["part"] == "test") & (difficulty["model"] == ALL_MODELS)]
    own = own[own["round"] == own.groupby("method")["round"].transform("max")]
    own = own[own["round"] > 0]  # a base model would squash the others
    own = unswept(own[own["delta"].notna()])
    if own.empty:
        return nothing("No method of this suite can be compared with SFT-Seed.")
    methods = list(dict.fromkeys(own["method"]))
    shown = methods if len(methods) <= MOST else [name for name in FIRST if name in methods] or methods[:MOST]
    sets = list(dict.fromkeys(own["train_set"]))
    figure, axes = panels(sets if len(sets) > 1 else [""], height=2.8)
    for axis, train_set in zip(axes, sets, strict=True):
        rows = own[(own["train_set"] == train_set) & own["method"].isin(shown)]
        for method, points in rows.groupby("method", sort=False):
            line = points.sort_values(["pass_rate", "group"])
            errors = reach(line, "delta", "delta_low", "delta_high")
            axis.errorbar(
                line["pass_rate"], line["delta"], yerr=errors, marker="o", elinewidth=0.6, label=method
            )
        axis.axhline(0, **GUIDE)
        axis.set_xlabel("SFT-Seed's pass rate on this kind of question, %")
    axes[0].set_ylabel("difference to SFT-Seed, points")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    if len(shown) < len(methods):
        more = f"{len(methods) - len(shown)} more methods are in the table"
        axes[-1].set_title(more, fontsize=6, loc="right")
    return figure


if __name__ == "__main__":
    draw(difficulty)
