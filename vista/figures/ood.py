"""Accuracy on tasks that nothing is trained on.

A figure of the analysis stage: ``python -m vista.figures.ood TABLE --to FILE``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import draw, models_of, nothing, panels


def ood(main: pd.DataFrame) -> Figure:
    """Out-of-domain accuracy of every method in its last round, mean over models, against SFT-Seed's."""
    names = list(main.columns)
    tasks = names[names.index("seed_sd") + 1 : names.index("delta_sft_seed")]
    last = main[(main["round"] == main.groupby("method")["round"].transform("max")) & main["overall"].notna()]
    last = last[last["objective"].ne("select") & ~last["method"].str.contains("+", regex=False)]
    if not tasks or last.empty:
        return nothing("This suite evaluates no task out of domain.")
    methods = list(dict.fromkeys(last["method"]))
    figure, axes = panels(tasks, height=0.9 + 0.16 * len(methods))
    for axis, task in zip(axes, tasks, strict=True):
        table = last.pivot_table(index="method", columns="model", values=task, sort=False).loc[methods]
        places = np.arange(len(methods))
        axis.barh(places, table.mean(axis=1), height=0.7, color="#BBD7EA")
        for model in models_of(last):
            axis.plot(table[model], places, linestyle="", marker="o", markersize=3, label=model)
        if "sft-seed" in methods:
            axis.axvline(float(table.mean(axis=1)["sft-seed"]), color="#555555", linewidth=1, linestyle=":")
        axis.set_yticks(places, methods)
        axis.set_xlabel("accuracy, %")
        axis.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


if __name__ == "__main__":
    draw(ood)
