"""Intervals are Wilson's, or cluster-robust, and cover the truth about as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from vista.analysis.intervals import Z, cluster_variance, mean, ratio, share
from vista.analysis.stats import overall_mean
from vista.seeding import generator


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (1, 5), (3, 7), (40, 40)])
def test_one_observation_a_query_gives_wilsons_interval(hits: int, n: int) -> None:
    found = share(np.arange(n) < hits, np.arange(n))
    assert (found.value, found.n, found.clusters) == (hits / n, n, n)
    assert (found.low, found.high) == pytest.approx(proportion_confint(hits, n, method="wilson"))


def test_copies_of_an_observation_within_its_query_add_no_certainty() -> None:
    hits = np.array([True, False, False, True, False])
    once, thrice = share(hits, np.arange(5)), share(np.repeat(hits, 3), np.repeat(np.arange(5), 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert (once.n, thrice.n) == (5, 15)


def test_a_mean_has_the_standard_error_of_the_main_table() -> None:
    rng = generator("test", "mean")
    scores, clusters = rng.random(30), rng.integers(8, size=30)
    table = pd.DataFrame({"task": "t", "cluster_id": clusters.astype(str), "score": scores})
    expected = overall_mean(table)
    found = mean(scores, clusters)
    assert found.value == pytest.approx(expected.mean)
    assert found.high - found.value == pytest.approx(Z * expected.se)


def test_a_ratio_is_of_sums() -> None:
    found = ratio(np.array([1.0, 0.0, 1.0]), np.array([2.0, 2.0, 4.0]), np.array([0, 1, 2]))
    assert found.value == 2 / 8
    residuals = np.array([0.5, -0.5, 0.0]) / 8
    assert found.high - found.value == pytest.approx(Z * math.sqrt(1.5 * (residuals**2).sum()))


def test_one_query_tells_nothing_about_spread() -> None:
    one = np.zeros(4, dtype=int)
    assert math.isnan(share(np.array([True, False, True, True]), one).low)
    assert math.isnan(ratio(np.ones(4), np.arange(1.0, 5.0), one).low)


def test_nothing_has_no_share() -> None:
    nothing = share(np.zeros(0, bool), np.zeros(0, int))
    assert math.isnan(nothing.value)
    assert nothing.n == 0


def test_the_variance_sums_within_clusters_first() -> None:
    influence = np.array([[1.0, 1.0], [2.0, -1.0], [3.0, 0.0]])
    found = cluster_variance(influence, np.array([5, 5, 9]))
    assert found.tolist() == [2.0 * (3.0**2 + 3.0**2), 0.0]


def test_a_clustered_share_is_covered_as_often_as_stated() -> None:
    rng = generator("test", "coverage of a share")
    covered = 0
    for _ in range(400):
        chances = rng.beta(1.0, 2.0, size=50)  # queries differ; the mean of their chances is 1/3
        sizes = rng.integers(1, 8, size=50)
        clusters = np.repeat(np.arange(50), sizes)
        found = share(rng.random(len(clusters)) < chances[clusters], clusters)
        covered += found.low <= 1 / 3 <= found.high
    assert 0.92 <= covered / 400 <= 0.98
