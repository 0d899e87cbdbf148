"""Bootstrap intervals of accuracies: images are drawn again, with all their questions.

Pure functions for the analysis stage, on ``scipy.stats.bootstrap``. The seed is fixed, so equal scores have
equal intervals.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

RESAMPLES = 2000
LEVEL = 0.95
HELD = 2**23  # numbers held at a time: 64 MB


def bootstrap_interval(
    scores: pd.DataFrame, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over tasks of the mean over queries.

    Whole images are drawn with replacement; images that the same tasks ask about form a stratum, of which as
    many are drawn as there are, so that no task is left without queries.

    Args:
        scores: One row per query, columns ``task``, ``cluster_id`` and ``score``.
        resamples: How often the images are drawn again.
        seed: Of the drawing.

    Returns:
        The ends of the interval; NaN where some stratum is a single image, which tells nothing about spread.
    """
    cells = scores.groupby(["cluster_id", "task"])["score"].agg(["sum", "size"]).unstack(fill_value=0.0)
    sums, sizes = (cells[name].to_numpy(dtype=float) for name in ("sum", "size"))
    _, kind = np.unique(sizes > 0, axis=0, return_inverse=True)
    strata = [np.flatnonzero(kind == number) for number in range(kind.max() + 1)]
    if any(len(stratum) < 2 for stratum in strata):
        return float("nan"), float("nan")

    def overall(*drawn: np.ndarray, axis: int) -> np.ndarray:
        total = sum(sums[images].sum(axis=-2) for images in drawn)
        count = sum(sizes[images].sum(axis=-2) for images in drawn)
        means: np.ndarray = np.mean(total / count, axis=-1)
        return means

    found = bootstrap(
        strata,
        overall,
        n_resamples=resamples,
        batch=max(1, HELD // sums.size),
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
