"""Measurements with 95 % intervals, clustered on the query: shares, means, AUROC, partial correlation.

Pure functions for the tables ``audit`` and ``prefix``, and how both print their numbers. Several solutions
to one query are not independent, nor are those of several policies, so residuals are summed by query before
they are squared, as ``vista.analysis.stats`` does by image.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from statsmodels.stats.proportion import proportion_confint

from vista.analysis.page import interval

ALL = "all"  # policies, tasks or sources together
Z = float(norm.ppf(0.975))
# Below this share of a column's variance, the residual of a regression is only rounding.
RESIDUE = 1e-9


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; NaN where it is not known."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0  # what the number is a share or a mean of
    clusters: int = 0  # queries that it comes from


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


# --- how well scores detect unfaithful rationales, several scores ("detectors") at a time ---
# A detector gives a *suspicion*: the higher, the more likely unfaithful.


def auroc(suspicion: np.ndarray, unfaithful: np.ndarray, queries: np.ndarray) -> list[Interval]:
    """Probability that an unfaithful rationale is more suspicious than a faithful one, ties half.

    The variance is DeLong's, with the placements summed within clusters (cf. Obuchowski 1997): V_i is
    the share of the other sort that rationale i is on the right side of, and a query has the
    influence Σ (V_i − A) / m over its rationales, m the number of that sort. The interval is
    symmetric in the logit, and empty if one of the sorts comes from a single query.

    Args:
        suspicion: [n, detectors].
        unfaithful: [n] booleans.
        queries: [n] integers ≥ 0.

    Returns:
        One interval for each detector, NaN where all rationales are of one sort.
    """
    n, detectors = suspicion.shape
    count = int(unfaithful.sum())
    if count in (0, n):
        return [NOTHING] * detectors
    ranks = rankdata(suspicion, axis=0)
    # How many of the other sort are less suspicious, ties half: ranks among all minus among one's own.
    below = ranks[unfaithful] - rankdata(suspicion[unfaithful], axis=0)
    above = count - (ranks[~unfaithful] - rankdata(suspicion[~unfaithful], axis=0))
    areas = below.mean(axis=0) / (n - count)
    influence = np.empty((n, detectors))
    influence[unfaithful] = (below / (n - count) - areas) / count
    influence[~unfaithful] = (above / count - areas) / (n - count)
    told = all(len(np.unique(queries[sort])) > 1 for sort in (unfaithful, ~unfaithful))
    return _areas(areas, cluster_variance(influence, queries), n, queries, told)


def auroc_within(
    suspicion: np.ndarray, unfaithful: np.ndarray, groups: np.ndarray, queries: np.ndarray
) -> list[Interval]:
    """AUROC over the pairs within a group only: of all such pairs, the share in the right order.

    Groups with one sort of rationale have no pairs. The interval is that of a ratio of sums over
    queries, symmetric in the logit; it is empty if a single query has pairs.

    Args:
        suspicion: [n, detectors].
        unfaithful: [n] booleans.
        groups: [n] integers ≥ 0: the solutions of one policy to one query.
        queries: [n] integers ≥ 0, the same throughout a group.

    Returns:
        One interval for each detector; ``n`` counts the rationales that are in some pair.
    """
    detectors = suspicion.shape[1]
    sizes, bad = np.bincount(groups), np.bincount(groups, unfaithful)
    paired = ((bad > 0) & (bad < sizes))[groups]
    if not paired.any():
        return [NOTHING] * detectors
    suspicion, unfaithful, queries = suspicion[paired], unfaithful[paired], queries[paired]
    groups = np.unique(groups[paired], return_inverse=True)[1]
    clusters = np.unique(queries, return_inverse=True)[1]
    sizes, bad = np.bincount(groups), np.bincount(groups, unfaithful)
    below = _ranks_within(suspicion, groups)[unfaithful]
    below -= _ranks_within(suspicion[unfaithful], groups[unfaithful])
    count = int(clusters.max()) + 1
    right = np.stack([np.bincount(clusters[unfaithful], column, count) for column in below.T], axis=1)
    # Each unfaithful rationale is in as many pairs as its group has faithful ones.
    pairs = np.bincount(clusters[unfaithful], (sizes - bad)[groups[unfaithful]], count)
    areas = right.sum(axis=0) / pairs.sum()
    influence = (right - areas * pairs[:, None]) / pairs.sum()
    variances = cluster_variance(influence, np.arange(count))
    return _areas(areas, variances, len(groups), clusters, count > 1)


def _areas(
    areas: np.ndarray, variances: np.ndarray, n: int, queries: np.ndarray, told: bool
) -> list[Interval]:
    total = len(np.unique(queries))
    found = []
    for area, variance in zip(areas.tolist(), variances.tolist(), strict=True):
        low, high = on_logit_scale(area, variance) if told else (np.nan, np.nan)
        found.append(Interval(area, low, high, n, total))
    return found


def _ranks_within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mid-ranks of each column within each group, from 1."""
    ranks = rankdata(values, axis=0) + groups[:, None] * (len(values) + 1.0)
    starts = np.concatenate([[0], np.cumsum(np.bincount(groups))])[groups]
    within: np.ndarray = rankdata(ranks, axis=0) - starts[:, None]
    return within


def partial_correlation(
    suspicion: np.ndarray, unfaithful: np.ndarray, control: np.ndarray, queries: np.ndarray, ranked: bool
) -> list[Interval]:
    """Correlation of suspicion and unfaithfulness, the control regressed out of both.

    With residuals x and y in units of their deviations, an observation has the influence
    x·y − r·(x² + y²)/2, summed within queries; the interval is symmetric on Fisher's scale.

    Args:
        suspicion: [n, detectors].
        unfaithful: [n] booleans.
        control: [n] numbers.
        queries: [n] integers ≥ 0.
        ranked: Spearman's, of the ranks; the interval takes the ranks as given. Else Pearson's.

    Returns:
        One interval for each detector, NaN where nothing is left to vary.
    """
    columns = np.column_stack([suspicion, unfaithful, control]).astype(float)
    n = len(columns)
    if n < 4:
        return [NOTHING] * suspicion.shape[1]
    if ranked:
        columns = rankdata(columns, axis=0)
    columns -= columns.mean(axis=0)
    length = columns[:, -1:]
    spread = float((length**2).sum())
    slopes = (length * columns[:, :-1]).sum(axis=0) / spread if spread > 0.0 else 0.0
    residuals = columns[:, :-1] - slopes * length
    left, whole = (residuals**2).mean(axis=0), (columns[:, :-1] ** 2).mean(axis=0)
    varies = left > RESIDUE * whole
    scaled = residuals / np.sqrt(np.where(varies, left, 1.0))
    x, y = scaled[:, :-1], scaled[:, -1:]
    values = (x * y).mean(axis=0)
    variances = cluster_variance((x * y - values * (x**2 + y**2) / 2) / n, queries)
    total = len(np.unique(queries))
    return [
        Interval(value, *on_fisher_scale(value, variance), n, total) if known and varies[-1] else NOTHING
        for value, variance, known in zip(values.tolist(), variances.tolist(), varies[:-1], strict=True)
    ]


# --- tables to read ---


def most_shared(table: pd.DataFrame, what: list[Hashable]) -> str | None:
    """The policy for which the most combinations of ``what`` are measured; the first of several.

    They are compared on it. As policies come in the grid's order, a tie goes to the initial one.
    """
    single = table[(table["policy"] != ALL) & (table["policies"] > 0)].drop_duplicates(["policy", *what])
    counts = single.groupby("policy", sort=False).size()
    return None if counts.empty else str(counts.idxmax())


def quoted(shown: pd.DataFrame, column: str, none: str = "none") -> str:
    """The distinct names in a column as code, joined by commas; ``none`` where there are none."""
    return ", ".join(f"`{name}`" for name in shown[column].unique()) or none


def pivot(table: pd.DataFrame, keys: list[str], measures: Sequence[str] | None = None) -> pd.DataFrame:
    """Cells with one row for each combination of ``keys`` and one column for each measure."""
    wanted = list(dict.fromkeys(table["measure"])) if measures is None else list(measures)
    cells = [interval(*row) for row in table[["value", "low", "high"]].itertuples(index=False, name=None)]
    wide: dict[tuple[object, ...], dict[str, str]] = {}
    for key, measure, cell in zip(
        table[keys].itertuples(index=False, name=None), table["measure"], cells, strict=True
    ):
        wide.setdefault(key, {})[measure] = cell
    rows = [[*key, *(found.get(measure, "") for measure in wanted)] for key, found in wide.items()]
    return pd.DataFrame(rows, columns=[*keys, *wanted])
