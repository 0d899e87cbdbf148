"""Accuracy by round of self-improvement."""

import pandas as pd
from matplotlib.figure import Figure

from vista.analysis.figures import draw, missing_note, models_of, nothing, panels


def rounds(main: pd.DataFrame) -> Figure:
    """Overall accuracy of the methods with several rounds, with 95 % intervals over test queries."""
    several = main.groupby("method")["round"].transform("max") > 1
    own = main[several & main["overall"].notna()]
    if own.empty:
        return nothing("No method of this suite has several rounds.")
    figure, axes = panels(models_of(own), height=2.6)
    methods = list(dict.fromkeys(own["method"]))
    for axis, (model, rows) in zip(axes, own.groupby("model", sort=False), strict=True):
        seed = main[(main["model"] == model) & (main["method"] == "sft-seed")]
        if len(seed):
            axis.axhline(seed["overall"].iloc[0], color="#999999", linewidth=1, linestyle=":")
        for place, method in enumerate(methods):
            line = rows[rows["method"] == method]
            shift = 0.12 * (place / max(1, len(methods) - 1) - 0.5)
            errors = [line["overall"] - line["low"], line["high"] - line["overall"]]
            axis.errorbar(line["round"] + shift, line["overall"], yerr=errors, marker="o", label=method)
        axis.set_xlabel("round")
        axis.set_xticks(sorted(set(own["round"])))
    axes[0].set_ylabel("overall accuracy, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    missing_note(figure, own)
    return figure


if __name__ == "__main__":
    draw(rounds)
