"""Which score detects unfaithful rationales?

A figure of the analysis stage: ``python -m vista.figures.detectors TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import GUIDE, by_panel, draw, nothing, panels, reach

ALL, WITHIN = "auroc", "auroc-within-query"


def detectors(audit: pd.DataFrame) -> Figure:
    """AUROC with 95 % intervals by detector and task, over all solutions and (hollow) within queries."""
    own = audit[audit["measure"].isin([ALL, WITHIN]) & (audit["source"] == "all") & audit["value"].notna()]
    # The share is the attention score before its z within the query; `all` adds up the policies.
    own = own[(own["detector"] != "visual-share") & (own["policy"] != "all")]
    if own.empty:
        return nothing("No solutions of this suite are both scored and known to be unfaithful.")
    own = own.assign(name=[_name(*pair) for pair in zip(own["detector"], own["layer"], strict=True)])
    # Of each model the solutions of one policy with the most detectors, the first of several such.
    of = ["model", "train_set"]
    pools = own.groupby([*of, "solutions", "policy"], sort=False)["name"].transform("nunique")
    own = own[pools == pools.groupby([own[name] for name in of]).transform("max")]
    chosen = own.groupby(of)[["solutions", "policy"]].transform("first")
    own = own[(own[["solutions", "policy"]] == chosen).all(axis=1)]
    names, tasks = list(dict.fromkeys(own["name"])), list(dict.fromkeys(own["task"]))
    found = by_panel(own)
    figure, axes = panels(found, height=0.8 + 0.26 * len(names))
    for axis, rows in zip(axes, found.values(), strict=True):
        for number, task in enumerate(tasks):
            for measure, fill in ((ALL, "full"), (WITHIN, "none")):
                line = rows[(rows["task"] == task) & (rows["measure"] == measure)]
                shift = (number - (len(tasks) - 1) / 2) * 0.24 + (0.08 if measure == WITHIN else 0)
                axis.errorbar(
                    line["value"],
                    [names.index(name) + shift for name in line["name"]],
                    xerr=reach(line, "value"),
                    color=f"C{number}",
                    marker="o",
                    markersize=3,
                    fillstyle=fill,
                    linestyle="",
                    elinewidth=0.6,
                    capsize=0,
                    label=task if measure == ALL else None,
                )
        axis.axvline(0.5, **GUIDE)
        axis.set_xlim(0, 1)
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("AUROC")
        axis.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _name(detector: str, layer: str | float) -> str:
    """The detector, with its layer (several are joined by +) if it has one."""
    return detector if pd.isna(layer) else f"{detector}, layer {layer}"


if __name__ == "__main__":
    draw(detectors)
