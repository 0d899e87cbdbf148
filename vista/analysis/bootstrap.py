"""Bootstrap intervals of accuracies: images are drawn again, with all their questions.

Pure functions for the analysis stage. How often each image is drawn is one multinomial draw for all runs
on the same images, so that an interval costs a matrix product; ``scipy.stats.bootstrap``, which draws
indices and gathers the scores for every interval, is the oracle of the tests (``benchmarks/bootstrap.py``).
The seed is fixed, so equal scores have equal intervals.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

RESAMPLES = 2000
LEVEL = 0.95


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
    cells = scores.groupby(["cluster_id", "task"])["score"].agg(["sum", "size"]).unstack(fill_value=0)
    sums, sizes = (cells[name].to_numpy(dtype=float) for name in ("sum", "size"))
    _, kind = np.unique(sizes > 0, axis=0, return_inverse=True)
    strata = [np.flatnonzero(kind == number) for number in range(kind.max() + 1)]
    if any(len(stratum) < 2 for stratum in strata):
        return float("nan"), float("nan")
    total = np.zeros((resamples, len(sums[0])))
    count = np.zeros_like(total)
    for number, images in enumerate(strata):
        drawn = times_drawn(len(images), resamples, (seed, number))
        total += drawn @ sums[images]
        count += drawn @ sizes[images]
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile((total / count).mean(axis=1), [tail, 1.0 - tail])
    return float(low), float(high)


@lru_cache(maxsize=32)
def times_drawn(images: int, resamples: int, seed: tuple[int, ...]) -> np.ndarray:
    """How often each of ``images`` is among as many drawn with replacement: ``resamples × images``."""
    random = np.random.default_rng(seed)
    drawn: np.ndarray = random.multinomial(images, np.full(images, 1.0 / images), size=resamples)
    return drawn.astype(float)
