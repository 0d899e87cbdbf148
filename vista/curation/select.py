"""Which solutions of a query are trained on, and in which pairs, with a count of what fell where.

Pure; it serves ``vista curate``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vista.config import DpoObjective, SelfImprovement
from vista.curation.filters import Context, Filter, make_filter
from vista.curation.solutions import (
    Key,
    Solution,
    capped,
    distinct,
    in_order,
    negatives,
    partner,
    positives,
)
from vista.records import Row
from vista.seeding import generator

COUNTS = (
    "examples",
    "positives",
    "negatives",
    "queries",
    "queries_without_positives",
    "dropped_by_filter",
    "dropped_as_duplicates",
    "dropped_by_cap",
    "dropped_without_negative",
    "pairs_of_two",
    "seed_without_rationale",
    "from_seed",
    "from_samples",
    "from_prefix",
    "from_rationalize",
    "from_plain",
    "from_random_prefix",
    "from_gold_prefix",
)


@dataclass(frozen=True)
class Choice:
    """A positive to train on, with its negative when pairs are trained."""

    positive: Solution
    negative: Solution | None = None


@dataclass
class Selector:
    """Applies one method's rules, query by query, and keeps count."""

    method: SelfImprovement
    seed: int
    round: int
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Make the filter once; it judges every query."""
        self.filter: Filter = make_filter(self.method.filter)
        self.pairs = isinstance(self.method.objective, DpoObjective)

    def select(
        self,
        query_id: str,
        solutions: Sequence[Solution],
        scores: Mapping[Key, Row],
        scene: str | None = None,
    ) -> list[Choice]:
        """What of a query is trained on: filter, then duplicates, then the cap, then pairs."""
        ordered = in_order(solutions)
        found, failed = positives(ordered), negatives(ordered)
        self.counts.update(queries=1, positives=len(found), negatives=len(failed))
        if not found:
            self.counts["queries_without_positives"] += 1
            return []
        context = Context(query_id, ordered, scores, self._stream(query_id), scene)
        kept = self._filtered(found, context)
        if self.method.dedupe:
            kept = self._counted("dropped_as_duplicates", kept, distinct(kept))
        if self.pairs and not failed:
            self._counted("dropped_without_negative", kept, [])
            return []
        chosen = capped(kept, self.method.max_per_query, self.seed, self.round)
        chosen = self._counted("dropped_by_cap", kept, chosen)
        if not self.pairs:
            return [Choice(positive) for positive in chosen]
        return [Choice(p, partner(p, failed, self.seed, self.round)) for p in chosen]

    def _stream(self, query_id: str) -> Callable[[], np.random.Generator]:
        """Makes the random stream of a query's filter; the method has no part in it."""
        return lambda: generator("curation", self.seed, self.round, "filter", query_id)

    def _filtered(self, found: list[Solution], context: Context) -> list[Solution]:
        self.counts["pairs_of_two"] += self.filter.compares_just_two(context)
        mask = self.filter.keep(found, context)
        kept = [solution for solution, stays in zip(found, mask, strict=True) if stays]
        return self._counted("dropped_by_filter", found, kept)

    def _counted(self, name: str, before: list[Solution], after: list[Solution]) -> list[Solution]:
        self.counts[name] += len(before) - len(after)
        return after
