"""Who gains on hard questions.

A figure of the analysis stage: ``python -m vista.figures.difficulty TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import ALL_MODELS, draw, nothing, panels

SHOWN = ["rest-em", "vista-sft", "vista-prefix-only", "vista-vas-only", "r3v", "oracle-filter", "gold-prefix"]


def difficulty(difficulty: pd.DataFrame) -> Figure:
    """Points over SFT-Seed by kind of question, from those it finds hardest to those it finds easiest."""
    own = difficulty[(difficulty["part"] == "test") & (difficulty["model"] == ALL_MODELS)]
    own = own[own["round"] == own.groupby("method")["round"].transform("max")]
    own = own[own["method"].isin(SHOWN) & own["delta"].notna()]
    if own.empty:
        return nothing("No method of this suite can be compared with SFT-Seed.")
    figure, (axis,) = panels([""], height=2.8)
    for method, rows in own.groupby("method", sort=False):
        line = rows.sort_values(["pass_rate", "group"])
        errors = [line["delta"] - line["delta_low"], line["delta_high"] - line["delta"]]
        axis.errorbar(line["pass_rate"], line["delta"], yerr=errors, marker="o", elinewidth=0.6, label=method)
    axis.axhline(0, color="#555555", linewidth=1, linestyle=":")
    axis.set_xlabel("SFT-Seed's pass rate on such questions, %")
    axis.set_ylabel("points over SFT-Seed")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    draw(difficulty)
