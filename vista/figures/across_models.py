"""Whether differences hold for other models: each model's, their mean, and the interval over models.

A figure of the analysis stage: ``python -m vista.figures.across_models ACROSS_MODELS ABLATION --to FILE``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vista.figures.drawing import (
    ALL_MODELS,
    ASKED,
    BAR,
    CAP,
    COLUMN,
    GUIDE,
    bar_handle,
    draw,
    ends_shown,
    handle,
    legend,
    looks_of,
    missing,
    nothing,
    reach,
    unswept,
)
from vista.figures.looks import GREY, Look

KEYS = ["kind", "method", "against", "train_set", "round"]
THESE = {**BAR, "elinewidth": 3.0}  # the interval of the ablation table, behind the one over models
PALE = "#CCCCCC"
ROW = 0.2  # inches
DOT: dict[str, Any] = {"linestyle": "", "color": GREY, "marker": "|", "markersize": 6}


def across_models(across_models: pd.DataFrame, ablation: pd.DataFrame) -> Figure:
    """Every comparison in its last round: a mark for each model, and two intervals around their mean.

    Args:
        across_models: ``across_models.csv``.
        ablation: ``ablation.csv``, which has each model's difference.
    """
    last = unswept(across_models[across_models["last"].astype(bool)])
    own = last[last["low"].notna()]
    if own.empty:
        return nothing("No comparison of this suite has a result on two models or more.")
    is_seed = own["kind"] == "seed"
    parts = {"against other methods": own[~is_seed], "against SFT-Seed": own[is_seed]}
    found = {title: rows for title, rows in parts.items() if len(rows)}
    styles = looks_of(across_models)
    single = ablation[ablation["model"] != ALL_MODELS].groupby(KEYS)["difference"]
    models = {key: each.dropna().tolist() for key, each in single}
    # Not ``panels``: those share their y axis, and these have other rows.
    height = sum(0.8 + ROW * len(rows) for rows in found.values())
    figure: Figure = plt.figure(figsize=(ASKED.get() or COLUMN, height))
    heights = [len(rows) + 1 for rows in found.values()]
    axes = figure.subplots(len(found), squeeze=False, gridspec_kw={"height_ratios": heights}).flat
    several = own["train_set"].nunique() > 1
    cut = 0
    for axis, (title, rows) in zip(axes, found.items(), strict=True):
        cut += _panel(axis, rows, models, styles)
        axis.set_title(title)
        names = [_name(row, several) for row in rows.to_dict("records")]
        axis.set_yticks(range(len(rows)), names)
    axes[-1].set_xlabel("difference, points")
    legend(
        figure,
        [
            handle("one model", **DOT),
            handle("mean over models", linestyle="", color="#000000", marker="o"),
            bar_handle("95 %, other models and test queries", "x", True),
            handle("95 %, these models alone", color=PALE, linewidth=THESE["elinewidth"]),
            handle("no difference", **GUIDE),
        ],
        "Each comparison in its last round.",
        f"{cut} of the bars go on beyond the panels." if cut else "",
        missing(last),
    )
    return figure


def _panel(
    axis: Axes, rows: pd.DataFrame, models: Mapping[Any, Sequence[float]], styles: Mapping[str, Look]
) -> int:
    """The comparisons of one panel, from above; how many of their bars go on beyond it."""
    axis.axvline(0, **GUIDE)
    places = pd.Series(range(len(rows)), rows.index)
    wide = reach(rows, "difference", "these_low", "these_high")
    axis.errorbar(rows["difference"], places, xerr=wide, ecolor=PALE, **THESE)
    for index, place in places.items():
        row = rows.loc[[index]]
        look = styles[str(row["method"].iloc[0])]
        each = models.get(tuple(row[name].iloc[0] for name in KEYS), [])
        axis.plot(each, [place] * len(each), **DOT)
        axis.errorbar(
            row["difference"], [place], xerr=reach(row, "difference"), ecolor=look.color, capsize=CAP, **BAR
        )
        axis.plot(row["difference"], [place], **look.point)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    single = [each for key in rows[KEYS].itertuples(index=False, name=None) for each in models.get(key, [])]
    left, right = ends_shown(rows, "difference")
    left, right = min([left, *single]), max([right, *single])
    edge = 0.02 * (right - left)
    axis.set_xlim(left - edge, right + edge)
    ends = rows[["low", "these_low"]].min(axis=1), rows[["high", "these_high"]].max(axis=1)
    return int(((ends[0] < left) | (ends[1] > right)).sum())


def _name(row: dict[Hashable, Any], several: bool) -> str:
    """A comparison in words; what the panel's title says is left out."""
    name = str(row["method"]) if row["kind"] == "seed" else f"{row['method']} − {row['against']}"
    return f"{name}, {row['train_set']}" if several else name


if __name__ == "__main__":
    draw(across_models)
