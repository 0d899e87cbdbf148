"""What curation works on: the solutions of one query, told apart, thinned and capped.

Pure functions of the rows that the rollouts stage wrote; for ``vista curate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vista.errors import VistaError
from vista.records import Row
from vista.seeding import derive_seed

# A solution's key among those of its query: source, failed parent, index.
Key = tuple[str, int, int]
# The same where those of several policies are pooled: rounds since then, and the key.
Place = tuple[int, str, int, int]

NO_PARENT = -1


def key_of(row: Row) -> Key:
    """The key of a rollout or score row within its query; plain samples have no parent."""
    parent = row["parent"]
    return row["source"], NO_PARENT if parent is None else parent, row["sample"]


@dataclass(frozen=True)
class Solution:
    """One verified solution of a policy to a query."""

    query_id: str
    key: Key
    token_ids: list[int]  # as sampled, without the end token
    text: str
    correct: bool
    answer: str | None = None  # as extracted from the text
    age: int = 0  # rounds since its policy was the latest one; more than 0 only where they accumulate
    finished: bool = True  # ended by the policy, not by the length limit; positives always are

    @classmethod
    def of(cls, row: Row, age: int = 0) -> Solution:
        """From a row of ``records.ROLLOUT``."""
        names = ("query_id", "token_ids", "text", "correct", "answer", "finished")
        return cls(key=key_of(row), age=age, **{name: row[name] for name in names})

    @property
    def place(self) -> Place:
        """Its key among the solutions of all policies."""
        return self.age, *self.key

    @property
    def names(self) -> tuple[Any, ...]:
        """What random choices about it are keyed by: for the latest policy's, the key alone.

        So a method that accumulates rounds draws in its first round what any other method draws.
        """
        return (*self.key, self.age) if self.age else self.key

    @property
    def source(self) -> str:
        """sample, or the resampler that it is from."""
        return self.key[0]


def in_order(solutions: Sequence[Solution]) -> list[Solution]:
    """Samples first, then resamples by parent: the same whatever the order of shards and rows.

    Of several policies, those of the latest come first.
    """
    return sorted(solutions, key=lambda s: (s.age, s.source != "sample", s.key))


def positives(solutions: Sequence[Solution]) -> list[Solution]:
    """D^p: correct samples and correct resamples (paper: Sec. 3, steps 1 and 2)."""
    return [solution for solution in solutions if solution.correct]


def negatives(solutions: Sequence[Solution]) -> list[Solution]:
    """D^n: failed *samples* (paper: Sec. 3, step 1).

    A resample that fails is not a negative: it begins with a prefix that the policy did not choose
    (or was written with the answer in sight), and the paper adds only the correct ones. The same holds
    for the plain samples of a matched budget, so that they differ from prefix resampling in nothing else.
    """
    return [solution for solution in solutions if not solution.correct and solution.source == "sample"]


def normalised(text: str) -> str:
    """Text up to case and white space: what makes two rationales the same one (RFT)."""
    return " ".join(text.casefold().split())


def distinct(solutions: Sequence[Solution]) -> list[Solution]:
    """The first of every set of solutions with the same normalised text, in order."""
    first: dict[str, Solution] = {}
    for solution in solutions:
        first.setdefault(normalised(solution.text), solution)
    return list(first.values())


def stream(seed: int, round_number: int, use: str, solution: Solution) -> int:
    """The seed of a random choice made for one solution.

    It depends on the solution, not on the other solutions or the method. So what a filter drops does
    not change what is drawn for the others, and methods that share rollouts differ by their
    definition.
    """
    return derive_seed("curation", seed, round_number, use, solution.query_id, *solution.names)


def capped(solutions: Sequence[Solution], limit: int | None, seed: int, round_number: int) -> list[Solution]:
    """A random subset of at most ``limit`` solutions, in their order; all when there is no limit."""
    if limit is None or len(solutions) <= limit:
        return list(solutions)
    drawn = sorted(solutions, key=lambda s: (stream(seed, round_number, "cap", s), s.place))[:limit]
    chosen = {solution.place for solution in drawn}
    return [solution for solution in solutions if solution.place in chosen]


def latest(solutions: Sequence[Solution]) -> list[Solution]:
    """Those of the latest round that has any (R3V trains on its newest right solutions)."""
    newest = min((solution.age for solution in solutions), default=0)
    return [solution for solution in solutions if solution.age == newest]


def partner(positive: Solution, failed: Sequence[Solution], seed: int, round_number: int) -> Solution:
    """One of the query's negatives, at random, for a preference pair (paper: Sec. 3, step 4).

    The negative with the smallest draw for this pair: uniform over ``failed``.
    """
    return min(
        failed,
        key=lambda n: derive_seed(stream(seed, round_number, "negative", positive), *n.names),
    )


def asked_by(queries: Sequence[Row], solutions: Sequence[Row]) -> list[Row]:
    """Those of ``queries`` that ``solutions`` answer, in their order.

    Raises:
        VistaError: a solution answers none of them.
    """
    wanted = {row["query_id"] for row in solutions}
    found = [query for query in queries if query["query_id"] in wanted]
    missing = sorted(wanted - {query["query_id"] for query in found})
    if missing:
        raise VistaError(
            f"there is a solution to query {missing[0]!r}, which is not among the shard's queries; "
            "the queries changed after sampling: delete the policy's samples and rerun"
        )
    return found
