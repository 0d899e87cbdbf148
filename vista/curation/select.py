"""Which solutions of a query are trained on, and in which pairs, with counts of what was dropped where.

Last come R3V's examples of reflection: correcting a wrong solution, and choosing among several. Pure
functions for ``vista curate``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from vista import plugins
from vista.config import SelfImprovement
from vista.filters import Context, Filter
from vista.records import Row
from vista.seeding import generator
from vista.solutions import (
    Key,
    Solution,
    capped,
    distinct,
    in_order,
    latest,
    negatives,
    partner,
    positives,
)

COUNTS = (
    "examples",
    "positives",
    "negatives",
    "queries",
    "queries_without_positives",
    "dropped_by_filter",
    "dropped_as_older",
    "dropped_as_duplicates",
    "dropped_by_cap",
    "dropped_without_negative",
    "pairs_of_two",
    "unfinished_negatives",
    "seed_without_rationale",
    "from_seed",
    "from_samples",
    "from_prefix",
    "from_rationalize",
    "from_plain",
    "from_random_prefix",
    "from_gold_prefix",
    "from_refine",
    "from_select",
)

# What one policy gave for a query: its solutions, and their scores by key.
Rollouts = tuple[Sequence[Solution], Mapping[Key, Row]]


@dataclass(frozen=True)
class Choice:
    """A positive to train on, with its negative when pairs are trained."""

    positive: Solution
    negative: Solution | None = None


@dataclass(frozen=True)
class Selected:
    """What is trained on of a query."""

    choices: list[Choice]
    reflections: list[Reflection]


@dataclass
class Selector:
    """Applies one method's rules, query by query, and keeps count."""

    method: SelfImprovement
    seed: int
    round: int
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Make the filter once; it judges every query."""
        self.filter: Filter[Any] = plugins.make(self.method.filter)
        self.pairs = self.method.objective.pairs

    def select(
        self,
        query_id: str,
        solutions: Sequence[Solution],
        scores: Mapping[Key, Row],
        scene: str | None = None,
        older: Sequence[Rollouts] = (),
    ) -> Selected:
        """What is trained on of a query: filter, latest round, duplicates, then the cap, then pairs.

        Args:
            query_id: The query.
            solutions: Those of the policy.
            scores: Theirs, by key.
            scene: The query's, for a filter that needs it.
            older: Where rounds accumulate, the solutions and scores of each earlier policy, the
                latest first. The filter compares solutions of one policy; positives are those of
                the latest round that has any left, negatives those of all.
        """
        policies = [(in_order(own), own_scores) for own, own_scores in [(solutions, scores), *older]]
        pool = [solution for own, _ in policies for solution in own]
        found, failed = positives(pool), negatives(pool)
        self.counts.update(queries=1, positives=len(found), negatives=len(failed))
        if not found:
            self.counts["queries_without_positives"] += 1
            return Selected([], [])
        left: list[Solution] = []
        for age, (own, own_scores) in enumerate(policies):
            # Of the latest policy, the stream is that of a method which does not accumulate.
            stream = partial(self._stream, "filter", query_id, *([age] if age else []))
            left += self._filtered(positives(own), Context(query_id, own, own_scores, stream, scene))
        kept = self._counted("dropped_as_older", left, latest(left))
        if self.method.dedupe:
            kept = self._counted("dropped_as_duplicates", kept, distinct(kept))
        return Selected(self._choices(kept, failed), self._reflections(query_id, left, kept, failed))

    def _choices(self, kept: list[Solution], failed: list[Solution]) -> list[Choice]:
        """The positives to train on, each with a negative if pairs are trained."""
        if self.pairs and not failed:
            self._counted("dropped_without_negative", kept, [])
            return []
        chosen = capped(kept, self.method.max_per_query, self.seed, self.round)
        chosen = self._counted("dropped_by_cap", kept, chosen)
        if not self.pairs:
            return [Choice(positive) for positive in chosen]
        return [Choice(p, partner(p, failed, self.seed, self.round)) for p in chosen]

    def _reflections(
        self, query_id: str, left: list[Solution], kept: list[Solution], failed: list[Solution]
    ) -> list[Reflection]:
        """One example of each kind that the method asks for, where the solutions suffice.

        Args:
            query_id: The query.
            left: Positives of all rounds that the filter left.
            kept: Those of them that may be trained on.
            failed: Negatives of all rounds.
        """
        made = []
        if "refine" in self.method.reflect:
            made.append(refine(kept, failed, self._stream("refine", query_id)))
        if "select" in self.method.reflect:
            right = distinct(left) if self.method.dedupe else left
            made.append(select(right, failed, self._stream("select", query_id)))
        return [reflection for reflection in made if reflection is not None]

    def _stream(self, use: str, *names: str | int) -> np.random.Generator:
        """The random stream of one use of one query, whatever the method."""
        return generator("curation", self.seed, self.round, use, *names)

    def _filtered(self, found: list[Solution], context: Context) -> list[Solution]:
        """The positives of one policy that its filter leaves."""
        if not found:
            return []
        self.counts["pairs_of_two"] += self.filter.compares_just_two(context)
        mask = self.filter.keep(found, context)
        kept = [solution for solution, stays in zip(found, mask, strict=True) if stays]
        return self._counted("dropped_by_filter", found, kept)

    def _counted(self, name: str, before: list[Solution], after: list[Solution]) -> list[Solution]:
        self.counts[name] += len(before) - len(after)
        return after


Kind = Literal["refine", "select"]

CANDIDATES = 3  # shown in an example of `select`; one or two of them are right


@dataclass(frozen=True)
class Reflection:
    """Solutions to show beside the query, and the right one that the response is made from."""

    kind: Kind
    shown: tuple[Solution, ...]
    right: Solution


def refine(
    right: Sequence[Solution], wrong: Sequence[Solution], random: np.random.Generator
) -> Reflection | None:
    """A wrong solution to show and a right one to answer with, both at random; ``None`` without either.

    Args:
        right: Right solutions of the latest round that has any: what is trained on is new.
        wrong: Wrong ones of all rounds.
        random: A stream of this query's own.
    """
    if not right or not wrong:
        return None
    return Reflection("refine", (_one(wrong, random),), _one(right, random))


def select(
    right: Sequence[Solution], wrong: Sequence[Solution], random: np.random.Generator
) -> Reflection | None:
    """Three candidates at random, in random order, of which one or two are right.

    Where solutions suffice for either, one right or two are equally likely. ``None`` where they
    suffice for neither. Both lists are those of all rounds.
    """
    possible = [count for count in (1, 2) if len(right) >= count and len(wrong) >= CANDIDATES - count]
    if not possible:
        return None
    count = possible[random.integers(len(possible))]
    drawn = [right[index] for index in random.choice(len(right), count, replace=False)]
    candidates = drawn + [
        wrong[index] for index in random.choice(len(wrong), CANDIDATES - count, replace=False)
    ]
    order = random.permutation(CANDIDATES)
    return Reflection("select", tuple(candidates[index] for index in order), drawn[0])


def _one(solutions: Sequence[Solution], random: np.random.Generator) -> Solution:
    return solutions[int(random.integers(len(solutions)))]
