"""The seed split as training rows, from whichever source the suite names; serves ``vista curate``.

Annotated and a teacher's rationales come with the queries. The base model's own are taken here
from its rollouts on the seed queries.
"""

from __future__ import annotations

from collections import Counter

from vista.config import SelfRationales, Suite, TeacherRationales
from vista.curation.inputs import read_solutions, read_split
from vista.curation.rows import gold_example, own_example
from vista.grid import Run
from vista.reads import SeedFiles
from vista.records import Row
from vista.solutions import capped, in_order, positives

ANY_ROUND = 0  # a run's seed rows are the same in all of its rounds, and those of its SFT-Seed


def seed_rows(suite: Suite, run: Run, files: SeedFiles | None, counts: Counter[str]) -> list[Row]:
    """Training rows (``records.EXAMPLE``) in the order of the seed queries.

    Args:
        suite: The resolved suite.
        run: The run that is trained.
        files: The seed split; ``None``: it is not trained on.
        counts: Gets the number of queries that have no right rationale, and so no row.

    Raises:
        VistaError: a query of an annotated split has no rationale, or an input is stale.
    """
    if files is None:
        return []
    queries = read_split(files.queries)
    settings = suite.seed_rationales
    if not isinstance(settings, SelfRationales):
        # A teacher may not have found a right rationale; an annotated split must have one for every query.
        may_lack = isinstance(settings, TeacherRationales)
        kept = [query for query in queries.values() if query["rationale"] or not may_lack]
        counts["seed_without_rationale"] += len(queries) - len(kept)
        return [gold_example(query) for query in kept]
    solutions = read_solutions(files.samples, queries, "seed")
    rows: list[Row] = []
    for query_id, query in queries.items():
        right = positives(in_order(list(solutions[query_id].values())))
        counts["seed_without_rationale"] += not right
        chosen = capped(right, settings.max_per_query, run.seed, ANY_ROUND)
        rows += [own_example(query, solution) for solution in chosen]
    return rows
