"""Accuracy by round of self-improvement.

A figure of the analysis stage: ``python -m vista.figures.rounds TABLE --to FILE``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from vista.figures.drawing import (
    GUIDE,
    by_panel,
    draw,
    label_left,
    missing_note,
    nothing,
    reach,
    rows_of_panels,
    unswept,
)


def rounds(main: pd.DataFrame) -> Figure:
    """Overall accuracy with 95 % intervals over test queries; a row for each objective, SFT-Seed dotted."""
    several = main.groupby("method")["round"].transform("max") > 1
    asked = unswept(main[several & main["objective"].isin(["sft", "dpo"])])
    own = asked[asked["overall"].notna()]
    if own.empty:
        return nothing("No method of this suite with several rounds has a result.")
    found, seeds = by_panel(own), by_panel(main[main["objective"] == "seed"])
    objectives = list(dict.fromkeys(own["objective"]))
    figure, rows = rows_of_panels(found, len(objectives), 2.2)
    for axes, objective in zip(rows, objectives, strict=True):
        methods = list(dict.fromkeys(own.loc[own["objective"] == objective, "method"]))
        for axis, (panel, lines) in zip(axes, found.items(), strict=True):
            for level in seeds[panel]["overall"] if panel in seeds else []:
                axis.axhline(level, **GUIDE)
            for place, method in enumerate(methods):
                line = lines[lines["method"] == method]
                shift = 0.2 * (place / max(1, len(methods) - 1) - 0.5)
                errors = reach(line, "overall")
                axis.errorbar(
                    line["round"] + shift,
                    line["overall"],
                    yerr=errors,
                    marker="o",
                    elinewidth=0.6,
                    label=method,
                )
            axis.set_xticks(sorted(set(own["round"])))
        label_left(axes, f"{objective.upper()}: accuracy, %")
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axis in rows[-1]:
        axis.set_xlabel("round")
    missing_note(figure, asked)
    return figure


if __name__ == "__main__":
    draw(rounds)
