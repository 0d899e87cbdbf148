"""Filters: which positives of a query to drop. They serve ``vista curate``.

A filter is one class with ``keep`` and ``compares_just_two``, and one line in ``FILTERS``; one that
compares values within a query is a ``ZScores`` with its own ``value``. Its settings are one of the
``Filter`` union of ``vista.config``, and say what it reads. docs/adding.md adds one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vista.config import Filter as FilterSettings
from vista.config import NoFilter, OracleFilter, RandomDropFilter, ScoreFilter, VasFilter, layer_indices
from vista.curation.solutions import Key, Solution
from vista.errors import VistaError
from vista.records import Row
from vista.testbed.audit import audit_query

# Solutions of equal tokens can differ in the last bits of their scores, with the batch they were
# scored in. A difference this small, relative to the numbers they are made of, is none.
RESOLUTION = 1e-6
# And a spread this small is no spread.
NO_SPREAD = 1e-5
# The size of the numbers that log-probabilities are made of.
TYPICAL_LOGIT = 10.0


@dataclass(frozen=True)
class Context:
    """What a filter may look at beside the positives it judges."""

    query_id: str
    solutions: Sequence[Solution]  # all of the query: positives, negatives, failed resamples
    scores: Mapping[Key, Row]  # by solution, rows of the file that the filter reads; empty if none
    random: Callable[[], np.random.Generator]  # makes a stream of this query's own
    scene: str | None = None  # the query's, for filters that need it

    def measured(self, solution: Solution, what: str, files: str) -> Row:
        """The row of ``scores`` that is a solution's.

        Args:
            solution: One of ``solutions``.
            what: What the row holds, in words.
            files: Which kind of rollout files it comes from.

        Raises:
            VistaError: there is no such row.
        """
        try:
            return self.scores[solution.key]
        except KeyError as error:
            raise VistaError(
                f"query {self.query_id!r}: solution {solution.key} has no {what}; "
                f"delete the policy's {files} files and rerun"
            ) from error


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


class ZScores(ABC):
    """Drop positives whose value, as a z-score among the solutions of their query, is below τ.

    What the value is, a subclass says.
    """

    def __init__(self, settings: ScoreFilter) -> None:
        self.settings = settings

    @abstractmethod
    def value(self, solution: Solution, context: Context) -> float:
        """What is compared; the lowest fall."""

    def magnitude(self, values: np.ndarray) -> float:
        """The size of the numbers that values are made of: rounding errors are in proportion to it."""
        return abs(math.fsum(values) / len(values))

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """Whether z ≥ τ; all stay where there are too few to compare, or nothing to tell apart."""
        scored, ddof = self._in_scope(context), self.settings.ddof
        if len(scored) < self.settings.min_group:
            return [True] * len(positives)
        values = np.array([self.value(solution, context) for solution in scored])
        size = self.magnitude(values)
        if not has_spread(values, ddof, size):
            return [True] * len(positives)
        scores = dict(zip((s.key for s in scored), z_scores(values, ddof, size), strict=True))
        lowest = self.settings.tau - tolerance(values, ddof, size)
        return [bool(scores[positive.key] >= lowest) for positive in positives]

    def compares_just_two(self, context: Context) -> bool:
        """Two in scope have z = ±1 (±0.71 with ``ddof: 1``), whatever the distance between them."""
        if len(self._in_scope(context)) != 2 or self.settings.min_group > 2:
            return False
        return -(1.0 if self.settings.ddof == 0 else math.sqrt(0.5)) < self.settings.tau

    def _in_scope(self, context: Context) -> list[Solution]:
        everything = self.settings.scope == "all"
        return [solution for solution in context.solutions if everything or solution.correct]


class VisionAwareAttention(ZScores):
    """VISTA's filter: drop positives that looked little at the image (paper: Sec. 3, step 3)."""

    def __init__(self, settings: VasFilter | RandomDropFilter) -> None:
        super().__init__(settings)
        self.layers = settings.layers

    def value(self, solution: Solution, context: Context) -> float:
        """The image's share of the attention."""
        return visual_share(context.measured(solution, "attention score", "scores"), self.layers)


class RandomDrop:
    """Control: as many positives of a query fall as by the attention score, but at random."""

    def __init__(self, settings: RandomDropFilter) -> None:
        self.matched = VisionAwareAttention(settings)

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """All but a random subset, of the size of what the attention score drops."""
        dropped = self.matched.keep(positives, context).count(False)
        fallen = set(context.random().choice(len(positives), dropped, replace=False).tolist())
        return [index not in fallen for index in range(len(positives))]

    def compares_just_two(self, context: Context) -> bool:
        """As for the attention score: of two, one falls here as well."""
        return self.matched.compares_just_two(context)


class LogProbability(ZScores):
    """Control: drop positives that the policy thinks unlikely, per token."""

    def value(self, solution: Solution, context: Context) -> float:
        """log p(r | image), the mean over tokens."""
        return float(context.measured(solution, "log-probability", "gains")["logprob"])

    def magnitude(self, values: np.ndarray) -> float:
        """That of the logits: their rounding errors stay as they are where log p is near 0."""
        return TYPICAL_LOGIT


class VisualInformationGain(LogProbability):
    """Control: drop positives that the image makes little more likely, per token."""

    def value(self, solution: Solution, context: Context) -> float:
        """log p(r | image) − log p(r | no image), the mean over tokens."""
        row = context.measured(solution, "log-probability", "gains")
        return float(row["logprob"] - row["logprob_without"])


class Oracle:
    """Control: drop positives that are unfaithful to the scene. No filter can know more."""

    def __init__(self, settings: OracleFilter) -> None:
        self.settings = settings

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """Whether the audit finds a solution faithful."""
        if context.scene is None:
            raise VistaError(
                f"query {context.query_id!r} has no scene, which filter {self.settings.kind!r} looks at; "
                "make the task's queries again, or take another filter"
            )
        return [audit_query(context.scene, positive.text).faithful for positive in positives]

    def compares_just_two(self, context: Context) -> bool:
        """Solutions are compared with the scene, not with each other."""
        return False


FILTERS: dict[str, Callable[[Any], Filter]] = {
    "none": KeepAll,
    "vas": VisionAwareAttention,
    "random-drop": RandomDrop,
    "vig": VisualInformationGain,
    "logprob": LogProbability,
    "oracle": Oracle,
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


def has_spread(values: np.ndarray, ddof: int, size: float) -> bool:
    """Whether there is more than one value and they differ by more than rounding of numbers of ``size``."""
    if len(values) <= ddof or len(values) < 2:
        return False
    return mean_and_deviation(values, ddof)[1] > NO_SPREAD * size


def z_scores(values: np.ndarray, ddof: int, size: float) -> np.ndarray:
    """``(values - mean) / std``; all 0 where there is no spread."""
    if not has_spread(values, ddof, size):
        return np.zeros(len(values))
    mean, deviation = mean_and_deviation(values, ddof)
    scores: np.ndarray = (values - mean) / deviation
    return scores


def tolerance(values: np.ndarray, ddof: int, size: float) -> float:
    """``RESOLUTION`` as a difference of z-scores.

    Four equal values and a larger one have z = −0.5, the paper's threshold: rounding must not
    decide which of the four stay. By the formula, all do.
    """
    return RESOLUTION * size / mean_and_deviation(values, ddof)[1]


def make_filter(settings: FilterSettings) -> Filter:
    """The filter that a method's settings describe."""
    return FILTERS[settings.kind](settings)
