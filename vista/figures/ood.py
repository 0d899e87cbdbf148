"""Who gains on tasks that nothing is trained on.

A figure of the analysis stage: ``python -m vista.figures.ood TABLE --to FILE``.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import (
    GUIDE,
    bar_handles,
    bars,
    by_panel,
    draw,
    ends_shown,
    handle,
    legend,
    looks_of,
    missing,
    nothing,
    panels,
    reach,
    unswept,
)
from vista.figures.looks import GREY

MODELS = ("|", "x", "+", "1", "2", "3", "4", ".")  # the markers of models: thin, as the means stand out


def ood(ood: pd.DataFrame) -> Figure:
    """Difference to SFT-Seed out of domain, every method in its last round: means, and models in grey.

    A method that runs on some models only is a mean over these, and says so.
    """
    own = unswept(ood)
    known = own[own["delta_sft_seed"].notna()]
    if known.empty:
        return nothing("No method of this suite can be compared with SFT-Seed out of domain.")
    methods, tasks = list(dict.fromkeys(known["method"])), list(dict.fromkeys(known["task"]))
    found, styles = by_panel(known), looks_of(ood)
    figure, axes = panels(tasks, height=0.7 + 0.22 * len(methods), narrow=1)
    cut = 0
    for axis, task in zip(axes, tasks, strict=True):
        left, right = ends_shown(known[known["task"] == task], "delta_sft_seed", "delta_low", "delta_high")
        axis.set_xlim(left, right)
        for number, (marker, rows) in enumerate(zip(_markers(len(found)), found.values(), strict=True)):
            here = rows[rows["task"] == task]
            shift = 0.8 * ((number + 1) / (len(found) + 1) - 0.5) if len(found) > 1 else 0.0
            places = pd.Series([methods.index(name) + shift for name in here["method"]], here.index)
            ends = reach(here, "delta_sft_seed", "delta_low", "delta_high")
            bars(axis, here["delta_sft_seed"], places, ends, here["error"], "#BBBBBB", "x")
            cut += int(((here["delta_low"] < left) | (here["delta_high"] > right)).sum())
            if len(found) > 1:
                axis.plot(
                    here["delta_sft_seed"], places, linestyle="", color=GREY, marker=marker, markersize=4
                )
        deltas = known[known["task"] == task].groupby("method")["delta_sft_seed"].mean()
        for place, method in enumerate(methods):
            if method in deltas:
                axis.plot(deltas[method], place, **styles[method].point)
        axis.axvline(0, **GUIDE)
        counts = known[known["task"] == task].groupby("method")["model"].count()
        some = [
            f" ({counts.get(m, 0)} of {len(found)})" if counts.get(m, 0) < len(found) else "" for m in methods
        ]
        axis.set_yticks(range(len(methods)), [f"{m}{says}" for m, says in zip(methods, some, strict=True)])
        axis.set_ylim(len(methods) - 0.4, -0.6)
        axis.set_xlabel("difference to SFT-Seed, points")
        axis.grid(axis="y", visible=False)
    models = [
        handle(name, linestyle="", color=GREY, marker=marker)
        for name, marker in zip(found, _markers(len(found)), strict=True)
        if len(found) > 1
    ]
    mean = "mean over models" if models else next(iter(found))
    handles: list[Any] = [handle(mean, linestyle="", color="#000000", marker="o"), *models]
    handles += [handle("SFT-Seed", **GUIDE), *bar_handles(known["error"], "x")]
    legend(figure, handles, f"{cut} of the bars go on beyond the panels." if cut else "", missing(own))
    return figure


def _markers(count: int) -> list[str]:
    return [MODELS[number % len(MODELS)] for number in range(count)]


if __name__ == "__main__":
    draw(ood)
