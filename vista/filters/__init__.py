"""Filters: which positives of a query to drop. A part of stage ``curation``; ``vista curate`` applies them.

A filter is one module here, or in your own package (docs/adding.md): its settings, a subclass of
``FilterSettings`` with a ``kind``, and the class that decides, a ``Filter`` of these settings. One that
compares values within a query is a ``ScoreFilter`` and says only what the value is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field

from vista.errors import VistaError
from vista.records import Row
from vista.scores import MIDDLE, TAU, standardise
from vista.settings import Fraction, Strict
from vista.solutions import Key, Solution

__all__ = [
    "AttentionFilterSettings",
    "Context",
    "Filter",
    "FilterSettings",
    "ScoreFilter",
    "ScoreFilterSettings",
    "Solution",
]


class FilterSettings(Strict):
    """What every filter says about itself besides its settings."""

    # The measurements of the solutions that the filter compares: attention (`vista score`) or
    # log-probabilities (`vista gains`). The DAG makes what is read, and nothing else.
    reads: ClassVar[Literal["scores", "gains"] | None] = None
    needs_scene: ClassVar[bool] = False  # only generated tasks have one
    kind: str


class ScoreFilterSettings(FilterSettings):
    """Drop positives whose score, as a z-score within the query, is low."""

    tau: float = Field(TAU, description="Positives with a z-score below this are dropped.")
    scope: Literal["positives", "all"] = Field(
        "positives", description="The set, per query, over which the z-score is taken."
    )
    ddof: Literal[0, 1] = Field(0, description="Degrees of freedom of the standard deviation.")
    min_group: int = Field(2, ge=1, description="Queries with fewer solutions in scope are exempt.")


class AttentionFilterSettings(ScoreFilterSettings):
    """Drop positives by the attention of some layers."""

    reads = "scores"
    layers: list[Fraction] = Field(
        [MIDDLE], min_length=1, description="Layers, as fractions of the depth; 0.5 is layer ⌊L/2⌋."
    )


@dataclass(frozen=True)
class Context:
    """What a filter may look at besides the positives that it judges."""

    query_id: str
    solutions: Sequence[Solution]  # all of the query: positives, negatives, failed resamples
    scores: Mapping[Key, Row]  # by solution, rows of the file that the filter reads; empty if none
    random: Callable[[], np.random.Generator]  # makes this query's own stream
    scene: str | None = None  # the query's, for filters that need it

    def measured(self, solution: Solution, what: str, files: str) -> Row:
        """The row of ``scores`` that belongs to a solution.

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


Settings = TypeVar("Settings", bound=FilterSettings)
ScoreSettings = TypeVar("ScoreSettings", bound=ScoreFilterSettings)


class Filter(ABC, Generic[Settings]):
    """A rule that decides on the positives of one query at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """For each positive, whether it stays."""

    def compares_just_two(self, context: Context) -> bool:
        """Whether exactly two solutions are compared here, so that the lower one falls however close."""
        return False


class ScoreFilter(Filter[ScoreSettings]):
    """Drop positives whose value, as a z-score among the solutions of their query, is below τ.

    A subclass says what the value is.
    """

    # The size of the numbers that values are made of, to which their rounding errors are in proportion;
    # None: the size of the values.
    magnitude: ClassVar[float | None] = None

    @abstractmethod
    def value(self, solution: Solution, context: Context) -> float:
        """What is compared; the lowest are dropped."""

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """Whether z ≥ τ; all stay if there are too few to compare, or they do not differ."""
        scored = self._in_scope(context)
        if len(scored) < self.settings.min_group:
            return [True] * len(positives)
        values = [self.value(solution, context) for solution in scored]
        below = standardise(values, self.settings.ddof, self.magnitude).below(self.settings.tau)
        falls = dict(zip((solution.key for solution in scored), below.tolist(), strict=True))
        return [not falls[positive.key] for positive in positives]

    def compares_just_two(self, context: Context) -> bool:
        """Two in scope have z = ±1 (±0.71 with ``ddof: 1``), whatever the distance between them."""
        if len(self._in_scope(context)) != 2 or self.settings.min_group > 2:
            return False
        return -(1.0 if self.settings.ddof == 0 else math.sqrt(0.5)) < self.settings.tau

    def _in_scope(self, context: Context) -> list[Solution]:
        everything = self.settings.scope == "all"
        return [solution for solution in context.solutions if everything or solution.correct]
