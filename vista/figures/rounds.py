"""Accuracy by round of self-improvement.

A figure of the analysis stage: ``python -m vista.figures.rounds TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import draw, missing_note, models_of, nothing, rows_of_panels


def rounds(main: pd.DataFrame) -> Figure:
    """Overall accuracy with 95 % intervals over test queries; a row for each objective, SFT-Seed dotted."""
    several = main.groupby("method")["round"].transform("max") > 1
    trained = main["objective"].isin(["sft", "dpo"]) & ~main["method"].str.contains("+", regex=False)
    own = main[several & trained & main["overall"].notna()]
    if own.empty:
        return nothing("No method of this suite has several rounds.")
    objectives, models = list(dict.fromkeys(own["objective"])), models_of(own)
    figure, rows = rows_of_panels(models, len(objectives), 0.6 + 1.9 * len(objectives))
    for axes, objective in zip(rows, objectives, strict=True):
        lines = own[own["objective"] == objective]
        methods = list(dict.fromkeys(lines["method"]))
        for axis, model in zip(axes, models, strict=True):
            seed = main[(main["model"] == model) & (main["objective"] == "seed")]
            for level in seed["overall"]:
                axis.axhline(level, color="#555555", linewidth=1, linestyle=":")
            for place, method in enumerate(methods):
                line = lines[(lines["model"] == model) & (lines["method"] == method)]
                shift = 0.2 * (place / max(1, len(methods) - 1) - 0.5)
                errors = [line["overall"] - line["low"], line["high"] - line["overall"]]
                axis.errorbar(
                    line["round"] + shift,
                    line["overall"],
                    yerr=errors,
                    marker="o",
                    elinewidth=0.6,
                    label=method,
                )
            axis.set_xticks(sorted(set(own["round"])))
        axes[0].set_ylabel(f"{objective.upper()}: accuracy, %")
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axis in rows[-1]:
        axis.set_xlabel("round")
    missing_note(figure, own)
    return figure


if __name__ == "__main__":
    draw(rounds)
