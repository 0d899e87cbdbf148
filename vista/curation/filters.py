"""Filters: which positives of a query to drop. They serve ``vista curate``.

A filter is one class with ``keep`` and ``compares_just_two``, one line in ``FILTERS``, and its
settings in the ``Filter`` union of ``vista.config``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vista.config import Filter as FilterSettings
from vista.config import NoFilter, VasFilter, layer_indices
from vista.curation.solutions import Key, Solution
from vista.errors import VistaError
from vista.records import Row

# Solutions of equal tokens can differ in the last bits of their scores, with the batch they were
# scored in. A difference this small, relative to the mean, is none.
RESOLUTION = 1e-6
# And a spread this small is no spread.
NO_SPREAD = 1e-5


@dataclass(frozen=True)
class Context:
    """What a filter may look at beside the positives it judges."""

    query_id: str
    solutions: Sequence[Solution]  # all of the query: positives, negatives, failed resamples
    scores: Mapping[Key, Row]  # rows of ``records.SCORES`` by solution; empty if none are read
    random: Callable[[], np.random.Generator]  # makes a stream of this query's own


class Filter(Protocol):
    """A rule that decides on the positives of one query at a time."""

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """For each positive, whether it stays."""
        ...

    def compares_just_two(self, context: Context) -> bool:
        """Whether just two solutions are compared here, so that the lower one falls however close."""
        ...


class KeepAll:
    """No filter."""

    def __init__(self, settings: NoFilter) -> None:
        self.settings = settings

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """Every positive stays."""
        return [True] * len(positives)

    def compares_just_two(self, context: Context) -> bool:
        """Nothing is compared."""
        return False


class VisionAwareAttention:
    """VISTA's filter: drop positives that looked little at the image (paper: Sec. 3, step 3)."""

    def __init__(self, settings: VasFilter) -> None:
        self.settings = settings

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """Whether VAS ≥ τ; all stay where there are too few to compare, or nothing to tell apart."""
        scored = self._in_scope(context)
        if len(scored) < self.settings.min_group:
            return [True] * len(positives)
        shares = np.array([visual_share(self._row(s, context), self.settings.layers) for s in scored])
        if not has_spread(shares, self.settings.ddof):
            return [True] * len(positives)
        vas = dict(zip((s.key for s in scored), z_scores(shares, self.settings.ddof), strict=True))
        lowest = self.settings.tau - tolerance(shares, self.settings.ddof)
        return [bool(vas[positive.key] >= lowest) for positive in positives]

    def compares_just_two(self, context: Context) -> bool:
        """Two in scope have z = ±1 (±0.71 with ``ddof: 1``), whatever the distance between them."""
        if len(self._in_scope(context)) != 2 or self.settings.min_group > 2:
            return False
        return -(1.0 if self.settings.ddof == 0 else math.sqrt(0.5)) < self.settings.tau

    def _in_scope(self, context: Context) -> list[Solution]:
        everything = self.settings.scope == "all"
        return [solution for solution in context.solutions if everything or solution.correct]

    def _row(self, solution: Solution, context: Context) -> Row:
        try:
            return context.scores[solution.key]
        except KeyError as error:
            raise VistaError(
                f"query {context.query_id!r}: solution {solution.key} has no attention score; "
                "delete the policy's scores files and rerun"
            ) from error


FILTERS: dict[str, Callable[[Any], Filter]] = {
    "none": KeepAll,
    "vas": VisionAwareAttention,
}


def visual_share(row: Row, fractions: Sequence[float]) -> float:
    """S = λ_vis / (λ_sys + λ_vis + λ_ins), averaged over the layers asked for.

    Args:
        row: A row of ``records.SCORES``.
        fractions: Layers, as fractions of the depth.

    Raises:
        VistaError: a layer was not scored, or its attention does not add up to a positive number.
    """
    where = f"query {row['query_id']!r}: solution {(row['source'], row['parent'], row['sample'])}"
    position = {layer: index for index, layer in enumerate(row["layers"])}
    shares: list[float] = []
    for layer in layer_indices(fractions, row["num_layers"]):
        if layer not in position:
            raise VistaError(
                f"{where}: layer {layer} was not scored, only {sorted(position)}; "
                "add its fraction to scoring.layers, delete the policy's scores files and rerun"
            )
        at = position[layer]
        total = row["s_sys"][at] + row["s_vis"][at] + row["s_ins"][at]
        if not (math.isfinite(total) and total > 0.0):
            raise VistaError(
                f"{where}: attention at layer {layer} sums to {total}, expected a positive number; "
                "delete the policy's scores files and rerun"
            )
        shares.append(row["s_vis"][at] / total)
    return sum(shares) / len(shares)


def mean_and_deviation(values: np.ndarray, ddof: int) -> tuple[float, float]:
    """Mean and standard deviation, summed exactly: the order of the values does not matter."""
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - ddof))


def has_spread(values: np.ndarray, ddof: int) -> bool:
    """Whether there is more than one value and they differ by more than rounding."""
    if len(values) <= ddof or len(values) < 2:
        return False
    mean, deviation = mean_and_deviation(values, ddof)
    return deviation > NO_SPREAD * abs(mean)


def z_scores(values: np.ndarray, ddof: int) -> np.ndarray:
    """``(values - mean) / std``; all 0 where there is no spread."""
    if not has_spread(values, ddof):
        return np.zeros(len(values))
    mean, deviation = mean_and_deviation(values, ddof)
    scores: np.ndarray = (values - mean) / deviation
    return scores


def tolerance(values: np.ndarray, ddof: int) -> float:
    """``RESOLUTION`` as a difference of z-scores.

    Four equal values and a larger one have z = −0.5, the paper's threshold: rounding must not
    decide which of the four stay. By the formula, all do.
    """
    mean, deviation = mean_and_deviation(values, ddof)
    return RESOLUTION * abs(mean) / deviation


def make_filter(settings: FilterSettings) -> Filter:
    """The filter that a method's settings describe."""
    return FILTERS[settings.kind](settings)
