"""Who gains on tasks that nothing is trained on.

A figure of the analysis stage: ``python -m vista.figures.ood TABLE --to FILE``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import GUIDE, by_panel, draw, missing_note, nothing, panels, unswept


def ood(ood: pd.DataFrame) -> Figure:
    """Points over SFT-Seed out of domain, every method in its last round: means as bars, models as points.

    A method that runs on some models only is a mean over these, and says so.
    """
    own = unswept(ood)
    known = own[own["delta_sft_seed"].notna()]
    if known.empty:
        return nothing("No method of this suite can be compared with SFT-Seed out of domain.")
    methods, tasks = list(dict.fromkeys(known["method"])), list(dict.fromkeys(known["task"]))
    found = by_panel(known)
    figure, axes = panels(tasks, height=0.9 + 0.16 * len(methods))
    places = np.arange(len(methods))
    for axis, task in zip(axes, tasks, strict=True):
        deltas = pd.DataFrame(
            {
                name: rows[rows["task"] == task].set_index("method")["delta_sft_seed"].reindex(methods)
                for name, rows in found.items()
            }
        )
        axis.barh(places, deltas.mean(axis=1), height=0.7, color="#BBD7EA")
        for name in deltas:
            axis.plot(deltas[name], places, linestyle="", marker="o", markersize=3, label=name)
        axis.axvline(0, **GUIDE)
        counts = deltas.notna().sum(axis=1)
        some = [f" ({count} of {len(found)})" if count < len(found) else "" for count in counts]
        axis.set_yticks(places, [f"{method}{note}" for method, note in zip(methods, some, strict=True)])
        axis.set_xlabel("difference to SFT-Seed, points")
        axis.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    missing_note(figure, own)
    return figure


if __name__ == "__main__":
    draw(ood)
