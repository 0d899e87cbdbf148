"""Who gains on hard questions.

A figure of the analysis stage: ``python -m vista.figures.difficulty TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import (
    ALL_MODELS,
    GUIDE,
    bar_handles,
    bars,
    draw,
    handle,
    legend,
    looks_of,
    missing,
    nothing,
    reach,
    rows_of_panels,
    unswept,
)

# What to show first if there are many methods, and how many of the others: as many as there is room for.
FIRST = ["rest-em", "vista-sft", "vista-prefix-only", "vista-vas-only", "r3v", "oracle-filter", "gold-prefix"]
MOST = 8


def difficulty(difficulty: pd.DataFrame) -> Figure:
    """Difference to SFT-Seed by kind of question, the hardest for it on top."""
    asked = difficulty[(difficulty["part"] == "test") & (difficulty["model"] == ALL_MODELS)]
    asked = asked[asked["round"] == asked.groupby("method")["round"].transform("max")]
    asked = unswept(asked[asked["round"] > 0])  # a base model would squash the others
    own = asked[asked["delta"].notna()]
    if own.empty:
        return nothing("No method of this suite can be compared with SFT-Seed.")
    methods, styles = list(dict.fromkeys(own["method"])), looks_of(difficulty)
    shown = methods if len(methods) <= MOST else [name for name in FIRST if name in methods] or methods[:MOST]
    own = own[own["method"].isin(shown)]
    sets = list(dict.fromkeys(own["train_set"]))
    kinds = {name: _kinds(own[own["train_set"] == name]) for name in sets}
    apart = 0.8 / len(shown)
    height = 0.6 + max(map(len, kinds.values())) * max(0.2, 0.075 * len(shown))
    figure, lines = rows_of_panels(
        [""], len(sets), height
    )  # of other kinds of questions, so below each other
    for (axis,), train_set in zip(lines, sets, strict=True):
        rows, places = own[own["train_set"] == train_set], list(kinds[train_set])
        for number, method in enumerate(shown):
            line = rows[rows["method"] == method]
            at = pd.Series([places.index(group) for group in line["group"]], line.index, dtype=float)
            at += apart * (number - (len(shown) - 1) / 2)
            ends = reach(line, "delta", "delta_low", "delta_high")
            bars(axis, line["delta"], at, ends, line["error"], styles[method].color, "x")
            axis.plot(line["delta"], at, **styles[method].point)
        axis.axvline(0, **GUIDE)
        for place in range(0, len(places), 2):
            axis.axhspan(place - 0.5, place + 0.5, color="#F4F4F4", zorder=0)
        axis.set_yticks(
            range(len(places)), [f"{kind} ({rate:.0f} %)" for kind, rate in kinds[train_set].items()]
        )
        if len(sets) > 1:
            axis.set_title(train_set)
        axis.set_ylim(len(places) - 0.5, -0.5)
        axis.set_xlabel("difference to SFT-Seed, points")
        axis.grid(axis="y", visible=False)
    handles = [handle(method, **styles[method].point) for method in shown]
    more = len(methods) - len(shown)
    legend(
        figure,
        [*handles, handle("SFT-Seed", **GUIDE), *bar_handles(own["error"], "x")],
        "In brackets, how often SFT-Seed is right on train queries of the kind.",
        f"{more} more methods are in the table." if more else "",
        missing(asked.drop_duplicates(["train_set", "method"])),
    )
    return figure


def _kinds(rows: pd.DataFrame) -> dict[str, float]:
    """SFT-Seed's pass rate by kind of question, the lowest first: of each that over the most runs."""
    most = rows.sort_values("runs", ascending=False, kind="stable").drop_duplicates("group")
    ordered = most.sort_values(["pass_rate", "group"])
    return dict(zip(ordered["group"], ordered["pass_rate"], strict=True))


if __name__ == "__main__":
    draw(difficulty)
