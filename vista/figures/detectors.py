"""Which score detects unfaithful rationales?

A figure of the analysis stage: ``python -m vista.figures.detectors TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import (
    BAR,
    GUIDE,
    bar_handle,
    by_panel,
    draw,
    handle,
    legend,
    nothing,
    one_pool,
    panels,
    reach,
)
from vista.figures.looks import series

ALL, WITHIN = "auroc", "auroc-within-query"


def detectors(audit: pd.DataFrame) -> Figure:
    """AUROC with 95 % intervals by detector and task, over all solutions and (hollow) within queries."""
    own = audit[audit["measure"].isin([ALL, WITHIN]) & (audit["source"] == "all") & audit["value"].notna()]
    # The share is the attention score before its z within the query; `all` adds up the policies.
    own = own[(own["detector"] != "visual-share") & (own["policy"] != "all")]
    if own.empty:
        return nothing("No solutions of this suite are both scored and known to be unfaithful.")
    own = own.assign(name=[_name(*pair) for pair in zip(own["detector"], own["layer"], strict=True)])
    own = one_pool(own)
    names, styles = list(dict.fromkeys(own["name"])), series(own["task"])
    found = by_panel(own)
    lines = 2 * len(styles)
    figure, axes = panels(found, height=0.6 + 0.05 * lines * len(names))
    for axis, rows in zip(axes, found.values(), strict=True):
        for number, (task, look) in enumerate(styles.items()):
            for measure in (ALL, WITHIN):
                line = rows[(rows["task"] == task) & (rows["measure"] == measure)]
                shift = 0.8 * ((2 * number + (measure == WITHIN) + 0.5) / lines - 0.5)
                places = [names.index(name) + shift for name in line["name"]]
                axis.errorbar(line["value"], places, xerr=reach(line, "value"), ecolor=look.color, **BAR)
                hollow = {"markerfacecolor": "white"} if measure == WITHIN else {}
                axis.plot(line["value"], places, **look.point | hollow | {"markersize": 3})
        for place in range(0, len(names), 2):
            axis.axhspan(place - 0.5, place + 0.5, color="#F4F4F4", zorder=0)
        axis.axvline(0.5, **GUIDE)
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xlabel("AUROC")
        axis.grid(axis="y", visible=False)
    grey = {"linestyle": "", "color": "#555555", "marker": "o", "markersize": 3}
    legend(
        figure,
        [
            *(handle(task, **look.point | {"markersize": 3}) for task, look in styles.items()),
            handle("filled: over all solutions", **grey),
            handle("hollow: within queries", **grey, markerfacecolor="white"),
            handle("chance", **GUIDE),
            bar_handle("95 %, clustered on the query", "x", False),
        ],
        f"Right solutions that {', '.join(dict.fromkeys(own['policy']))} wrote.",
    )
    return figure


def _name(detector: str, layer: str | float) -> str:
    """The detector, with its layer (several are joined by +) if it has one."""
    return detector if pd.isna(layer) else f"{detector}, layer {layer}"


if __name__ == "__main__":
    draw(detectors)
