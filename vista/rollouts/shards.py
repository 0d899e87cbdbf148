"""Which queries a shard of a policy's rollouts holds. Stage ``rollouts``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vista.config import Suite
from vista.engines.checkpoints import Checkpoint
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import check_count
from vista.paths import Paths
from vista.records import ROLLOUT, Row, Split, read_queries, read_rows


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
        read = read_queries(file)
        check_count(file, len(read), "queries", required=False)
        for query in read:
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


def read_solutions(file: Path, queries: Sequence[Row], checkpoint: Checkpoint | None = None) -> list[Row]:
    """One shard's solutions (``records.ROLLOUT``) to ``queries``.

    Args:
        file: A shard of samples or resamples.
        queries: The shard's queries.
        checkpoint: The policy, whose vocabulary their tokens must be of.

    Raises:
        VistaError: the file is not as its manifest says; a solution stands twice, answers no query of the
            shard, or has a token that the policy cannot say; names the row.
    """
    rows = read_rows(file, ROLLOUT)
    check_count(file, len(rows), "solutions")
    known = {query["query_id"] for query in queries}
    seen: set[tuple[str, str, int | None, int]] = set()
    for index, row in enumerate(rows):
        key = row["query_id"], row["source"], row["parent"], row["sample"]
        if row["query_id"] not in known:
            raise VistaError(
                f"{file}: row {index}: query {row['query_id']!r} is not among the shard's queries, "
                "which changed after sampling: delete the policy's rollouts and rerun"
            )
        if key in seen:
            raise VistaError(
                f"{file}: row {index}: a second solution {key[1:]} of query {row['query_id']!r}; "
                "delete the policy's rollouts and rerun"
            )
        seen.add(key)
        token = None if checkpoint is None else checkpoint.unsayable(row["token_ids"])
        if token is not None:
            raise VistaError(f"{file}: row {index}: {token}; delete the policy's rollouts and rerun")
    return rows


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
