"""Which queries a shard of a policy's rollouts holds. Stage ``rollouts``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vista.config import Suite
from vista.errors import VistaError
from vista.grid import Run
from vista.paths import Paths
from vista.records import Row, Split, read_queries


def query_files(suite: Suite, paths: Paths, policy: Run, split: Split = "train") -> list[Path]:
    """One split of each of the policy's tasks, in the order of the train set."""
    return [paths.queries(task, split) for task in suite.train_sets[policy.train_set]]


def shard_bounds(total: int, shard: int, shards: int) -> tuple[int, int]:
    """First query of a shard and first query after it.

    The shards cover all queries, in order, and differ in size by one at most.

    Raises:
        VistaError: there is no such shard.
    """
    if not 0 <= shard < shards:
        raise VistaError(f"shard {shard} is not among shards 0 to {shards - 1}; see `shards` of the suite")
    return total * shard // shards, total * (shard + 1) // shards


def shard_queries(suite: Suite, paths: Paths, policy: Run, shard: int, split: Split = "train") -> list[Row]:
    """The queries of one shard: a contiguous slice of a split, tasks one after another.

    Raises:
        VistaError: a query id stands in two tasks.
    """
    queries: list[Row] = []
    seen: dict[str, Path] = {}
    for file in query_files(suite, paths, policy, split):
        for query in read_queries(file):
            name = query["query_id"]
            if name in seen:
                raise VistaError(
                    f"{file}: query_id {name!r} already stands in {seen[name]}; "
                    "ids must be unique over the tasks of a train set"
                )
            seen[name] = file
            queries.append(query)
    first, last = shard_bounds(len(queries), shard, suite.shards)
    return queries[first:last]


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
