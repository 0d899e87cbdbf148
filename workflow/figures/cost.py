"""What accuracy costs in samples."""

import pandas as pd
from matplotlib.figure import Figure

from vista.analysis.figures import draw, models_of, panels


def cost(main: pd.DataFrame) -> Figure:
    """Overall accuracy against the solutions that a method has sampled by then, a panel for each model."""
    own = main[main["overall"].notna() & ~main["method"].str.contains("+", regex=False)]
    figure, axes = panels(models_of(own), height=2.6)
    for axis, (_, rows) in zip(axes, own.groupby("model", sort=False), strict=True):
        axis.plot(rows["samples_drawn_total"] / 1000, rows["overall"], linestyle="", marker="o", alpha=0.8)
        for method, line in rows.groupby("method", sort=False):
            axis.plot(
                line["samples_drawn_total"] / 1000, line["overall"], color="#BBBBBB", linewidth=0.6, zorder=0
            )
            last = line.iloc[-1]
            at = (last["samples_drawn_total"] / 1000, last["overall"])
            axis.annotate(str(method), at, fontsize=4.5, xytext=(3, 1), textcoords="offset points")
        axis.set_xlabel("solutions sampled, thousands")
    axes[0].set_ylabel("overall accuracy, %")
    return figure


if __name__ == "__main__":
    draw(cost)
