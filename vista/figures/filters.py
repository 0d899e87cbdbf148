"""What a filter drops against what it should drop.

A figure of the analysis stage: ``python -m vista.figures.filters TABLE --to FILE``.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vista.figures.drawing import (
    BAR,
    GUIDE,
    bar_handle,
    by_panel,
    draw,
    handle,
    label_left,
    legend,
    name_points,
    nothing,
    one_pool,
    reach,
    rows_of_panels,
)
from vista.figures.looks import LOOKS, Look, looks

MEASURES = ["dropped-share", "recall", "precision-at-random"]
CUT = ["model", "train_set", "task", "detector", "layer", "setting"]
AT_RANDOM = LOOKS["random-drop"]


def filters(audit: pd.DataFrame) -> Figure:
    """Share of the unfaithful right solutions that a filter drops, against that of the faithful ones.

    A row of panels for each task. A grey line goes to what would be dropped if as many solutions of each
    query were drawn at random; above the dotted diagonal, more of the unfaithful go than of the faithful.
    """
    own = audit[audit["measure"].isin(MEASURES) & (audit["source"] == "all") & (audit["policy"] != "all")]
    own = own[own["value"].notna()].fillna({"layer": "", "setting": ""})
    why = "No filter of this suite is applied to solutions that are known to be unfaithful."
    if own.empty:
        return nothing(why)
    own = one_pool(own.assign(name=own["detector"] + own["layer"] + own["setting"]))
    cuts = pd.DataFrame(
        [_cut(dict(zip(CUT, key, strict=True)), rows) for key, rows in own.groupby(CUT, sort=False)]
    )
    cuts = cuts.dropna(subset=["faithful", "unfaithful"])
    if cuts.empty:  # all are faithful, or none is
        return nothing(why)
    # What one model alone is filtered with would shrink the other panels.
    models = cuts.groupby(CUT[3:], sort=False)["model"].transform("nunique")
    everywhere = cuts[models == cuts["model"].nunique()]
    shown = cuts if everywhere.empty else everywhere
    more = len(cuts[CUT[3:]].drop_duplicates()) - len(shown[CUT[3:]].drop_duplicates())
    found, tasks = by_panel(shown), list(dict.fromkeys(shown["task"]))
    # The attention score is VISTA's filter; the others have methods of their own name.
    styles = {
        name: LOOKS["vista-sft"] if name == "vas" else look for name, look in looks(shown["detector"]).items()
    }
    figure, lines = rows_of_panels(found, len(tasks), 1.6)
    for axes, task in zip(lines, tasks, strict=True):
        for axis, rows in zip(axes, found.values(), strict=True):
            here = rows[rows["task"] == task]
            for name, filtered in here.groupby("detector", sort=False):
                _draw(axis, filtered, styles[str(name)])
            axis.axline((0, 0), slope=1, **GUIDE)
            axis.set_xlim(0, 1.08 * shown[["faithful", "faithful_at_random"]].max().max())
        axes[0].set_ylim(
            0, 1.05 * shown.loc[shown["task"] == task, ["high", "unfaithful_at_random"]].max().max()
        )
        label_left(axes, f"{task}:\nunfaithful dropped, %")
    for axis in lines[-1]:
        axis.set_xlabel("faithful dropped, %")
    several = shown.groupby("detector")["text"].nunique().max() > 1
    legend(
        figure,
        [
            *(handle(f"filter {name}", **look.point) for name, look in styles.items()),
            handle("as many of each query at random", **AT_RANDOM.point | {"markersize": 3}),
            handle("as much of both", **GUIDE),
            bar_handle("95 %, clustered on the query", "y", False),
        ],
        f"Right solutions that {', '.join(dict.fromkeys(own['policy']))} wrote.",
        "A number is the filter's τ; lines join those of one layer." if several else "",
        f"{more} more cuts, of some models only, are in the table." if more else "",
    )
    if several:
        for axes, task in zip(lines, tasks, strict=True):
            for axis, rows in zip(axes, found.values(), strict=True):
                here = rows[rows["task"] == task]
                points = list(here[["faithful", "unfaithful", "text"]].itertuples(index=False, name=None))
                name_points(figure, axis, points, range(len(points)), "#555555")
    return figure


def _cut(names: dict[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    """What one cut drops of the faithful and of the unfaithful, in percent, and what chance would.

    ``recall`` is a share of the unfaithful; how many faithful ones go follows from the counts.
    """
    by = {row["measure"]: row for row in rows.to_dict("records")}
    drops, hits, chance = (by.get(measure) for measure in MEASURES)
    if drops is None or hits is None or drops["n"] == hits["n"]:
        return names | {"faithful": None, "unfaithful": None}
    bad, good = hits["n"], drops["n"] - hits["n"]
    dropped, right = round(drops["value"] * drops["n"]), round(hits["value"] * bad)
    expected = None if chance is None else chance["value"] * dropped
    settings = dict(part.split("=", 1) for part in str(names["setting"]).split(" ") if "=" in part)
    return names | {
        "faithful": 100 * (dropped - right) / good,
        "unfaithful": 100 * hits["value"],
        "low": 100 * hits["low"],
        "high": 100 * hits["high"],
        "faithful_at_random": None if expected is None else 100 * (dropped - expected) / good,
        "unfaithful_at_random": None if expected is None else 100 * expected / bad,
        "text": settings.get("tau", "").replace("-", "−")
        + (f", layer {names['layer']}" if names["layer"] else ""),
    }


def _draw(axis: Axes, cuts: pd.DataFrame, look: Look) -> None:
    """The cuts of one filter: by layer a line through its thresholds, each named where there are several."""
    axis.errorbar(
        cuts["faithful"], cuts["unfaithful"], yerr=reach(cuts, "unfaithful"), ecolor=look.color, **BAR
    )
    for _, line in cuts.groupby("layer", sort=False):
        line = line.sort_values("faithful")
        axis.plot(line["faithful"], line["unfaithful"], **look.style | {"linewidth": 0.6})
    for row in cuts.to_dict("records"):
        ends = zip(("faithful", "faithful_at_random"), ("unfaithful", "unfaithful_at_random"), strict=True)
        xs, ys = zip(*((row[x], row[y]) for x, y in ends), strict=True)
        axis.plot(xs, ys, color=AT_RANDOM.color, linewidth=0.5, zorder=1)
        axis.plot(xs[1:], ys[1:], **AT_RANDOM.point | {"markersize": 3, "zorder": 1})


if __name__ == "__main__":
    draw(filters)
