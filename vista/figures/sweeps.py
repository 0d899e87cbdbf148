"""Sweeps of VISTA's settings: the threshold, the layer and the others.

A figure of the analysis stage: ``python -m vista.figures.sweeps TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import ALL_MODELS, GUIDE, draw, label_left, missing_note, nothing, panels, reach


def sweeps(ablation: pd.DataFrame) -> Figure:
    """Difference to the method with its default, with 95 % intervals, a panel for each swept setting."""
    own = ablation[(ablation["kind"] == "sweep") & (ablation["model"] == ALL_MODELS)]
    own = own[(own["round"] == own.groupby("method")["round"].transform("max")) & own["difference"].notna()]
    if own.empty:
        return nothing("This suite sweeps no setting.")
    several = own["train_set"].nunique() > 1
    settings = own["differs"].str.split(" = ", n=1, expand=True)
    own = own.assign(setting=settings[0], value=settings[1])
    if several:
        own["setting"] += ", " + own["train_set"]
    names = list(dict.fromkeys(own["setting"]))
    figure, axes = panels(names, height=2.2)
    for axis, name in zip(axes, names, strict=True):
        rows = own[own["setting"] == name]
        errors = reach(rows, "difference")
        axis.errorbar(range(len(rows)), rows["difference"], yerr=errors, marker="o", linestyle="")
        axis.axhline(0, **GUIDE)
        axis.set_xticks(range(len(rows)), rows["value"], rotation=45 if len(rows) > 3 else 0)
        axis.set_xlim(-0.6, len(rows) - 0.4)
    label_left(axes, "difference to the default, points")
    missing_note(figure, own)
    return figure


if __name__ == "__main__":
    draw(sweeps)
