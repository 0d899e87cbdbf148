"""How well do scores detect unfaithful rationales? AUROC, within queries too, and partial correlation.

Pure functions of arrays for ``vista audit`` (``tables/audit.csv``), several detectors at a time. A
detector gives a *suspicion*: the higher, the more likely unfaithful. Intervals are clustered on the query.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from vista.analysis.intervals import (
    NOTHING,
    Interval,
    cluster_variance,
    on_fisher_scale,
    on_logit_scale,
)

# Below this share of a column's variance, what a regression leaves of it is rounding.
RESIDUE = 1e-9


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
