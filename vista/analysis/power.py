"""The smallest difference that a comparison finds: the power of the tables' own test, from its variances.

For the tables of the analysis stage, ``vista compare`` and ``vista plan``. The test is that of
``stats.pooled_difference``: two variances, over test queries and over training seeds, are added, and the
difference is held against a t distribution with Satterthwaite's degrees of freedom. With few seeds its power
is neither that of a normal test nor of a t test of known degrees of freedom, as these are estimated too; so
it is averaged over what the estimates may come out as. ``docs/tables.md`` has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

LEVEL = 0.95  # of intervals; the tests are two-sided at 1 − LEVEL
POWER = 0.8
MOST_SEEDS = 1000  # that are looked at for a number of seeds that suffices
TESTS, TRUTHS, DEGREES = 32, 64, 257  # points of the quadratures, and of a table of quantiles
MANY, TINY = 1e9, 1e-9  # degrees of freedom, and a share of a variance, that stand for infinity and for 0


@dataclass(frozen=True)
class Variances:
    """What the error of a mean difference is made of, in the squared unit of the scores.

    Attributes:
        queries: Of the mean over all pairs of runs, over test queries, as the test estimates it.
        seeds: Of the difference of one pair of runs between seeds; NaN where no model has a second seed.
        residual: The part of ``seeds`` that comes from single queries; the test has it in ``queries``, too.
        share: Of ``seeds`` and ``residual``, in the variance of the mean: Σ 1/S_m / M².
        freedom: Degrees of freedom of the test's own estimate of ``seeds``; 0 where it has none.
        known: Degrees of freedom that ``seeds`` rests on here: more than ``freedom`` where comparisons are
            pooled, infinite where it is given.
    """

    queries: float
    seeds: float
    residual: float
    share: float
    freedom: int
    known: float

    @property
    def fixed(self) -> float:
        """The variance over test queries of the mean of infinitely many runs."""
        return max(self.queries - self.residual * self.share, 0.0)

    def at(self, seeds: int, models: int) -> Variances:
        """The same with another number of seeds for each of ``models``."""
        share = 1.0 / (seeds * models)
        queries = self.fixed + self.residual * share
        return Variances(queries, self.seeds, self.residual, share, models * (seeds - 1), self.known)


def power(variances: Variances, difference: float) -> float:
    """How often the test finds a true difference, over test queries and seeds; its size at 0.

    The variance between seeds is known only from ``known`` degrees of freedom, so the power is averaged over
    what it may be: it is that of a repetition of the runs. Without a variance between seeds, the runs are
    taken as they are: the difference is that of these checkpoints.

    Args:
        variances: Of the comparison.
        difference: In the unit of the scores.

    Returns:
        NaN where nothing varies.
    """
    found = _Power(variances)
    return found.of(difference) if found.scale > 0.0 else math.nan


def smallest_difference(variances: Variances) -> float:
    """The true difference that the test finds with a probability of ``POWER``.

    Two-sided at 5 %, before any correction for many comparisons: the minimum detectable effect (Bloom 1995,
    Evaluation Review 19(5), 547-556; for evaluations of language models Miller 2024, arXiv 2411.00640,
    Sec. 5).
    Where no model has a second seed, it is that of these very checkpoints: between methods it is larger.

    Returns:
        NaN where the error is zero or unknown.
    """
    found = _Power(variances if variances.freedom else replace(variances, seeds=math.nan))
    if not found.scale > 0.0:
        return math.nan
    low, high = 0.0, found.scale
    while found.of(high) < POWER:
        low, high = high, 2.0 * high
    while high - low > 1e-5 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if found.of(middle) < POWER else (low, middle)
    return 0.5 * (low + high)


def seeds_needed(variances: Variances, models: int, difference: float) -> int | None:
    """The fewest seeds of each model, from two on, with which the test finds a difference with ``POWER``.

    Returns:
        ``None`` where the variance between seeds is unknown, or where no number up to ``MOST_SEEDS`` is
        enough: more test queries would be.
    """

    def enough(seeds: int) -> bool:
        return power(variances.at(seeds, models), difference) >= POWER

    if not variances.seeds >= 0.0 or not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


class _Power:
    """The power of one test, with what does not depend on the difference worked out once."""

    def __init__(self, variances: Variances) -> None:
        counted = variances.freedom > 0 and variances.seeds > 0.0
        seeds = variances.seeds * variances.share if counted else 0.0
        if not counted:
            # The test's error is that over queries. If the seeds vary all the same, its size is not 5 %.
            beyond = 0.0 if math.isnan(variances.seeds) else variances.seeds * variances.share
            true = variances.fixed + beyond if beyond else variances.queries
            critical = float(ndtri(0.5 + LEVEL / 2.0)) * math.sqrt(variances.queries)
            self._spread, self._critical = np.array(math.sqrt(true)), np.array(critical)
        else:
            truths = np.maximum(_truths(variances, seeds) - variances.fixed, TINY * seeds)[:, None]
            seen = truths * _chi_square(variances.freedom)
            estimated = variances.queries + seen
            degrees = variances.freedom * (estimated / seen) ** 2
            self._critical = _quantiles(variances.freedom, degrees) * np.sqrt(estimated)
            self._spread = np.sqrt(variances.fixed + truths)
        self.scale = math.sqrt(variances.queries + seeds)

    def of(self, difference: float) -> float:
        """The probability that the estimate lies beyond the critical value on either side."""
        with np.errstate(divide="ignore", invalid="ignore"):
            above = ndtr((difference - self._critical) / self._spread)
            below = ndtr((-difference - self._critical) / self._spread)
        return float(np.mean(above + below))


def _truths(variances: Variances, seeds: float) -> np.ndarray:
    """Equally likely values of the true variance of the mean: its estimate times ν/χ².

    The estimate is about a multiple of χ² with Satterthwaite's degrees of freedom, as the test has it; the
    part over test queries is taken as it is.
    """
    total = variances.fixed + seeds
    if math.isinf(variances.known):
        return np.array([total])
    degrees = min(variances.known * (total / seeds) ** 2, MANY)
    found: np.ndarray = total * 0.5 * degrees / gammaincinv(0.5 * degrees, _middles(TRUTHS))
    return found


@lru_cache(maxsize=64)
def _chi_square(degrees: int) -> np.ndarray:
    """Equally likely values of χ²/ν: an estimate of a variance of 1."""
    found: np.ndarray = gammaincinv(0.5 * degrees, _middles(TESTS)) / (0.5 * degrees)
    return found


def _middles(number: int) -> np.ndarray:
    """The middles of as many equal parts of 0 … 1."""
    return (np.arange(number) + 0.5) / number


@lru_cache(maxsize=256)
def _quantile_table(freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of t from ``freedom`` degrees of freedom to infinitely many, by their inverse."""
    inverse = np.linspace(0.0, 1.0 / freedom, DEGREES)
    rest = stdtrit(1.0 / inverse[1:], 0.5 + LEVEL / 2.0)
    return inverse, np.concatenate([[ndtri(0.5 + LEVEL / 2.0)], rest])


def _quantiles(freedom: int, degrees: np.ndarray) -> np.ndarray:
    """The quantile of the two-sided test for each number of degrees of freedom, ``freedom`` or more."""
    found: np.ndarray = np.interp(1.0 / degrees, *_quantile_table(freedom))
    return found


# --- what several comparisons know together ---


@dataclass(frozen=True)
class Between:
    """The variance between seeds of one comparison, and the two methods that it is between."""

    methods: tuple[str, str]
    seeds: float
    freedom: int


def pooled(comparisons: Sequence[Between]) -> tuple[float, float]:
    """The variance between seeds that comparisons have in common, and its degrees of freedom.

    A single one rests on two degrees of freedom where there are three seeds. Comparisons that share a method
    share its runs: with runs that scatter alike, differences are correlated by ½ where one method is the
    same, and by 1 where both are. So the mean rests on fewer degrees of freedom than their sum.

    Args:
        comparisons: Over the same models, with the same data; those of one seed (``freedom`` 0) do not count.

    Returns:
        NaN and 0 where none counts.
    """
    known = [each for each in comparisons if each.freedom]
    total = sum(each.freedom for each in known)
    if not total:
        return math.nan, 0.0
    mean = math.fsum(each.freedom * each.seeds for each in known) / total
    joint = math.fsum(
        _correlation(one.methods, other.methods) ** 2 * min(one.freedom, other.freedom)
        for one in known
        for other in known
    )
    return mean, total**2 / joint


def _correlation(one: tuple[str, str], other: tuple[str, str]) -> float:
    return len(set(one) & set(other)) / 2.0


def seeds_in_common(
    rows: Sequence[Mapping[str, Any]], variances: Sequence[Variances | None]
) -> list[Variances | None]:
    """The variances of each row, with that between seeds from all rows of its model, train set and round.

    What a row's own few seeds tell of it is very uncertain. A row without a second seed takes what single
    answers add from the others as well.

    Args:
        rows: ``method``, ``model``, ``train_set`` and ``round`` of each, and ``against`` where that differs.
        variances: Of each; ``None`` where it has no number.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(rows):
        if variances[index] is not None:
            groups.setdefault(tuple(row[name] for name in ("model", "train_set", "round")), []).append(index)
    found = list(variances)
    for members in groups.values():
        own = [(rows[index], each) for index in members if (each := variances[index]) is not None]
        seeds, known = pooled(
            [Between((row["method"], row.get("against", "")), each.seeds, each.freedom) for row, each in own]
        )
        residuals = [each.residual for _, each in own if each.freedom]
        for index, (_, each) in zip(members, own, strict=True):
            if residuals:
                borrowed = min(math.fsum(residuals) / len(residuals), each.queries / each.share)
                residual = each.residual if each.freedom else borrowed
                found[index] = replace(each, seeds=seeds, known=known, residual=residual)
    return found
