"""Intervals by multinomial weights drawn once, beside ``scipy.stats.bootstrap`` for every run.

``python benchmarks/bootstrap.py`` prints CPU milliseconds of an interval, both in one process, and their
ratio. Four tasks of 320 images with one question each, 2,000 draws, as a run of the testbed has about.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from vista.analysis.stats import RESAMPLES, bootstrap_interval

TASKS, IMAGES, RUNS = 4, 320, 10


def scores(seed: int) -> pd.DataFrame:
    """A run's scores, right or wrong at random: ``task``, ``cluster_id``, ``score``."""
    names = [(f"task{task}", f"{task}-{image}") for task in range(TASKS) for image in range(IMAGES)]
    rows = pd.DataFrame(names, columns=["task", "cluster_id"])
    return rows.assign(score=np.random.default_rng(seed).integers(0, 2, len(rows)).astype(float))


def by_scipy(rows: pd.DataFrame) -> tuple[float, float]:
    """The same interval from scipy, which hands over indices of images, of each task by themselves.

    As ``bootstrap_interval`` it takes images with any number of questions, about several tasks.
    """
    cells = rows.groupby(["cluster_id", "task"])["score"].agg(["sum", "size"]).unstack(fill_value=0)
    sums, sizes = (cells[name].to_numpy(dtype=float) for name in ("sum", "size"))
    _, kind = np.unique(sizes > 0, axis=0, return_inverse=True)
    strata = [np.flatnonzero(kind == number) for number in range(kind.max() + 1)]

    def overall(*drawn: np.ndarray, axis: int) -> Any:
        total = sum(sums[images].sum(axis=-2) for images in drawn)
        count = sum(sizes[images].sum(axis=-2) for images in drawn)
        return np.mean(total / count, axis=-1)

    found = bootstrap(
        strata, overall, n_resamples=RESAMPLES, batch=1000, method="percentile", rng=0, vectorized=True
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def milliseconds(interval: Callable[[pd.DataFrame], tuple[float, float]]) -> float:
    """CPU milliseconds of an interval, mean over the runs."""
    runs = [scores(seed) for seed in range(RUNS)]
    start = time.process_time()
    for rows in runs:
        interval(rows)
    return 1000 * (time.process_time() - start) / RUNS


if __name__ == "__main__":
    own, theirs = milliseconds(bootstrap_interval), milliseconds(by_scipy)
    print(f"weights drawn once {own:.0f} ms, scipy {theirs:.0f} ms: {theirs / own:.1f} times")
