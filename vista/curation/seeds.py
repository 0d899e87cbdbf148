"""The seed split as training rows, from whichever source the suite names; serves ``vista curate``.

Annotated and a teacher's rationales come with the queries. The base model's own are taken here
from its rollouts on the seed queries.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vista import grid
from vista.config import SelfRationales, Suite, TeacherRationales
from vista.curation.inputs import query_files, read_solutions, read_split
from vista.curation.rows import gold_example, own_example
from vista.grid import Run
from vista.paths import Paths
from vista.records import Row
from vista.solutions import capped, in_order, positives

ANY_ROUND = 0  # a run's seed rows are the same in all of its rounds, and those of its SFT-Seed


@dataclass(frozen=True)
class SeedSplit:
    """The seed queries of a run, and the base model's solutions to them if these are trained on."""

    run: Run
    queries: list[Path]
    samples: list[Path]
    settings: SelfRationales | None
    may_lack: bool  # whether a query without a rationale is left out, rather than a mistake

    @classmethod
    def of(cls, suite: Suite, paths: Paths, run: Run) -> SeedSplit:
        """The files that ``run`` reads."""
        found = grid.seed_samples(suite, run)
        samples = []
        if found:
            folder = found.policy.id, "samples", found.name
            samples = [paths.rollouts(*folder, shard, suite.shards) for shard in range(suite.shards)]
        return cls(
            run,
            query_files(suite, paths, run, "seed"),
            samples,
            found.settings if found else None,
            isinstance(suite.seed_rationales, TeacherRationales),
        )

    @property
    def every_file(self) -> list[Path]:
        """All inputs, for the manifest."""
        return [*self.queries, *self.samples]

    def rows(self, counts: Counter[str]) -> list[Row]:
        """Training rows (``records.EXAMPLE``) in the order of the queries.

        Args:
            counts: Gets the number of queries that have no right rationale, and so no row.

        Raises:
            VistaError: a query of an annotated split has no rationale, or an input is stale.
        """
        queries = read_split(self.queries)
        if self.settings is None:
            kept = [query for query in queries.values() if query["rationale"] or not self.may_lack]
            counts["seed_without_rationale"] += len(queries) - len(kept)
            return [gold_example(query) for query in kept]
        solutions = read_solutions(self.samples, queries, "seed")
        rows: list[Row] = []
        for query_id, query in queries.items():
            right = positives(in_order(list(solutions[query_id].values())))
            counts["seed_without_rationale"] += not right
            chosen = capped(right, self.settings.max_per_query, self.run.seed, ANY_ROUND)
            rows += [own_example(query, solution) for solution in chosen]
        return rows
