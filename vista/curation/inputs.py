"""What curation reads: queries, solutions and scores, from the files of the earlier stages.

It serves ``vista curate``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from vista.errors import VistaError
from vista.manifest import check_count
from vista.records import QUERY, ROLLOUT, Row, Split, read_queries, read_rows
from vista.solutions import Key, Solution, key_of

PROMPT_COLUMNS = ["query_id", "task", "images", "system", "instruction", "rationale"]


def read_split(files: Sequence[Path], scene: bool = False) -> dict[str, Row]:
    """Queries of all ``files`` by id, in order; with their scenes if asked for.

    Raises:
        VistaError: two files share a query id, so rollouts could not be told apart.
    """
    wanted = [*PROMPT_COLUMNS, *(["scene"] if scene else [])]
    found: dict[str, Row] = {}
    for path in files:
        read = read_queries(path, [name for name in QUERY.names if name in wanted])
        check_count(path, len(read), "queries", required=False)
        for row in read:
            if row["query_id"] in found:
                raise VistaError(
                    f"{path}: query_id {row['query_id']!r} also belongs to task "
                    f"{found[row['query_id']]['task']!r}; ids must be unique across a train set"
                )
            found[row["query_id"]] = row
    return found


def read_solutions(
    files: Sequence[Path], queries: Mapping[str, Row], split: Split = "train", age: int = 0
) -> dict[str, dict[Key, Solution]]:
    """Every solution by query and key.

    Args:
        files: One policy's samples and resamples.
        queries: By id.
        split: Theirs; named in errors.
        age: Rounds since the policy was the latest one.

    Raises:
        VistaError: a solution of an unknown query, or two with one key: the rollouts are stale.
    """
    found: dict[str, dict[Key, Solution]] = defaultdict(dict)
    for path in files:
        rows = read_rows(path, ROLLOUT)
        check_count(path, len(rows), "solutions")
        for index, row in enumerate(rows):
            solution = Solution.of(row, age)
            known = found[solution.query_id]
            if solution.query_id not in queries:
                raise VistaError(
                    f"{path}: row {index}: query {solution.query_id!r} is not among the {split} queries; "
                    "delete the policy's rollouts and rerun"
                )
            if solution.key in known:
                raise VistaError(
                    f"{path}: row {index}: a second solution {solution.key} of query {solution.query_id!r}; "
                    "delete the policy's rollouts and rerun"
                )
            known[solution.key] = solution
    return found


def read_scores(files: Sequence[Path], schema: pa.Schema, known: Container[str]) -> dict[str, dict[Key, Row]]:
    """Attention scores or log-probabilities, by query and key.

    Args:
        files: One policy's scores or gains.
        schema: Theirs.
        known: Ids of the queries.

    Raises:
        VistaError: they are of an unknown query, or two of one solution: the rollouts are stale.
    """
    found: dict[str, dict[Key, Row]] = defaultdict(dict)
    for path in files:
        rows = read_rows(path, schema)
        check_count(path, len(rows), "solutions")
        for index, row in enumerate(rows):
            name, key = row["query_id"], key_of(row)
            if name not in known or key in found[name]:
                what = f"a second row of solution {key} of" if name in known else "an unknown"
                raise VistaError(
                    f"{path}: row {index}: {what} query {name!r}; delete the policy's rollouts and rerun"
                )
            found[name][key] = row
    return found
