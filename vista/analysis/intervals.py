"""Shares, ratios and means with 95 % intervals, clustered on the query.

Pure functions for the tables ``audit`` and ``prefix`` of the analysis stage. Several solutions to one
query are not independent, nor are those of several policies, so residuals are summed by query before
they are squared, as ``vista.analysis.stats`` does by image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0  # what the number is a share or a mean of
    clusters: int = 0  # queries behind it


NOTHING = Interval(math.nan)


def cluster_variance(influence: np.ndarray, clusters: np.ndarray, correct: bool = True) -> np.ndarray:
    """Σ over clusters of the squared sum of influences, times C/(C−1) if ``correct``; NaN for one cluster.

    Args:
        influence: [n] or [n, columns], each observation's part in the estimate's error.
        clusters: [n] integers ≥ 0.
        correct: Apply the finite correction.
    """
    codes = np.unique(clusters, return_inverse=True)[1]
    count = int(codes.max(initial=-1)) + 1
    matrix = influence if influence.ndim == 2 else influence[:, None]
    sums = np.stack([np.bincount(codes, column, count) for column in matrix.T], axis=1)
    scale = (count / (count - 1) if correct else 1.0) if count > 1 else math.nan
    variance: np.ndarray = scale * (sums**2).sum(axis=0)
    return variance if influence.ndim == 2 else variance[0]


def share(hits: np.ndarray, clusters: np.ndarray) -> Interval:
    """The share of ``hits``, with Wilson's interval for the effective number of observations.

    That number is the one at which independent observations would have the clustered variance; one
    observation for each cluster gives Wilson's interval itself. Where all or none are hits, it is
    the number of clusters.

    Args:
        hits: [n] booleans.
        clusters: [n] integers ≥ 0.
    """
    n, count = len(hits), len(np.unique(clusters))
    if n == 0:
        return NOTHING
    value = float(np.mean(hits))
    if count < 2:
        return Interval(value, n=n, clusters=count)
    variance = float(cluster_variance((hits - value) / n, clusters, correct=False))
    effective = value * (1 - value) / variance if 0.0 < value < 1.0 and variance > 0.0 else float(count)
    low, high = proportion_confint(value * effective, effective, method="wilson")
    return Interval(value, float(low), float(high), n, count)


def ratio(numerator: np.ndarray, denominator: np.ndarray, clusters: np.ndarray) -> Interval:
    """Σ numerator / Σ denominator with a symmetric interval, not below 0 if the numerator never is.

    Args:
        numerator: [n] numbers.
        denominator: [n] numbers ≥ 0.
        clusters: [n] integers ≥ 0.
    """
    total = float(np.sum(denominator))
    if len(numerator) == 0 or total == 0.0:
        return NOTHING
    value = float(np.sum(numerator)) / total
    error = Z * math.sqrt(float(cluster_variance((numerator - value * denominator) / total, clusters)))
    floor = 0.0 if np.min(numerator) >= 0.0 else -math.inf
    low = max(floor, value - error) if error > 0.0 else math.nan
    high = value + error if error > 0.0 else math.nan
    return Interval(value, low, high, len(numerator), len(np.unique(clusters)))


def mean(values: np.ndarray, clusters: np.ndarray) -> Interval:
    """The mean with a symmetric interval; none where all values are the same."""
    return ratio(values, np.ones(len(values)), clusters)


def on_logit_scale(value: float, variance: float) -> tuple[float, float]:
    """A 95 % interval that stays between 0 and 1; NaN at the ends, where the variance says nothing."""
    if not (0.0 < value < 1.0 and variance > 0.0):
        return math.nan, math.nan
    middle = math.log(value / (1 - value))
    reach = Z * math.sqrt(variance) / (value * (1 - value))
    return 1 / (1 + math.exp(reach - middle)), 1 / (1 + math.exp(-reach - middle))


def on_fisher_scale(value: float, variance: float) -> tuple[float, float]:
    """A 95 % interval of a correlation; NaN at ±1."""
    if not (abs(value) < 1.0 and variance > 0.0):
        return math.nan, math.nan
    reach = Z * math.sqrt(variance) / (1 - value**2)
    return math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach)
