"""Accuracy by round of self-improvement.

A figure of the analysis stage: ``python -m vista.figures.rounds MAIN [RUNS] --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vista.figures.drawing import (
    bar_handles,
    bars,
    by_panel,
    draw,
    handle,
    label_left,
    legend,
    looks_of,
    missing,
    nothing,
    reach,
    rows_of_panels,
    unswept,
    with_seeds,
)
from vista.figures.looks import Look

SPREAD = 0.3  # rounds that the methods of a panel are spread over, so that their bars do not hide each other


def rounds(main: pd.DataFrame, runs: pd.DataFrame | None = None) -> Figure:
    """Overall accuracy by round, a row for each objective; round 0 is SFT-Seed, dotted.

    The 95 % intervals count test queries and, where there are several, training seeds (``with_seeds``). With
    ``runs``, every seed of a method with several is a thin line behind its mean.
    """
    several = main.groupby("method")["round"].transform("max") > 1
    asked = unswept(main[several & main["objective"].isin(["sft", "dpo", "grpo"])])
    sure = with_seeds(main)
    own = sure[sure.index.isin(asked.index) & sure["overall"].notna()]
    if own.empty:
        return nothing("No method of this suite with several rounds has a result.")
    seed = sure[(sure["objective"] == "seed") & sure["overall"].notna()]
    found, seeds = by_panel(own, main), by_panel(seed, main)
    seeds = {panel: rows for panel, rows in seeds.items() if panel in found}
    each = _seeds(main, runs)
    singles = by_panel(each[each["method"].isin([*own["method"], *seed["method"]])], main)
    styles, objectives = looks_of(main), list(dict.fromkeys(own["objective"]))
    figure, rows = rows_of_panels(found, len(objectives), 1.9)
    for axes, objective in zip(rows, objectives, strict=True):
        methods = list(dict.fromkeys(own.loc[own["objective"] == objective, "method"]))
        for axis, (panel, lines) in zip(axes, found.items(), strict=True):
            for method, line in seeds.get(panel, own.iloc[:0]).groupby("method", sort=False):
                axis.axhline(
                    line["overall"].item(),
                    color=styles[str(method)].color,
                    linestyle=styles[str(method)].dash,
                    linewidth=0.8,
                )
                _line(axis, line, styles[str(method)], 0.0, singles.get(panel))
            for place, method in enumerate(methods):
                shift = SPREAD * (place / (len(methods) - 1) - 0.5) if len(methods) > 1 else 0.0
                _line(axis, lines[lines["method"] == method], styles[str(method)], shift, singles.get(panel))
            axis.set_xticks(sorted({*own["round"], *([0] if seeds else [])}))
        label_left(axes, f"{objective.upper()}: accuracy, %")
    for axis in rows[-1]:
        axis.set_xlabel("round")
    drawn = dict.fromkeys([*(seed["method"] if seeds else []), *own["method"]])
    handles = [handle(method, **styles[str(method)].style) for method in drawn]
    if any(panel in singles for panel in found):
        handles.append(handle("each seed", color="#555555", linewidth=0.5, marker=".", markersize=2))
    errors = [error for part in (found, seeds) for rows_of in part.values() for error in rows_of["error"]]
    start = "Round 0 is SFT-Seed." if seeds else ""
    legend(figure, [*handles, *bar_handles(errors, "y")], start, missing(asked))
    return figure


def _seeds(main: pd.DataFrame, runs: pd.DataFrame | None) -> pd.DataFrame:
    """The runs of methods with several seeds; none without a table of them."""
    if runs is None:
        return main.iloc[:0]
    known = runs[runs["overall"].notna()]
    count = known.groupby(["model", "train_set", "method", "round"])["seed"].transform("nunique")
    return known[count > 1]


def _line(axis: Axes, line: pd.DataFrame, look: Look, shift: float, singles: pd.DataFrame | None) -> None:
    """A method of a panel: its seeds, its means, their bars."""
    if singles is not None:
        for _, run in singles[singles["method"].isin(line["method"])].groupby("seed"):
            axis.plot(
                run["round"] + shift,
                run["overall"],
                color=look.color,
                linewidth=0.5,
                alpha=0.6,
                marker=".",
                markersize=2,
                markeredgewidth=0,
            )
    bars(axis, line["round"] + shift, line["overall"], reach(line, "overall"), line["error"], look.color, "y")
    axis.plot(line["round"] + shift, line["overall"], **look.style)


if __name__ == "__main__":
    draw(rounds)
