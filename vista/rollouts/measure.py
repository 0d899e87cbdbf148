"""A policy reads its solutions again and measures them; what ``vista score`` and ``vista gains`` share.

Part of stage ``rollouts``. A method's filter says which solutions are measured (``vista.grid``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from vista import grid
from vista.config import Suite
from vista.engines.checkpoints import Checkpoint, device_name
from vista.manifest import Recorder
from vista.paths import Paths
from vista.reads import Reads
from vista.records import Row, write_rows
from vista.rollouts.policy import (
    has_weights,
    load_policy,
    read_solutions,
    shard_queries,
)

Kind = Literal["scores", "gains"]
# From the policy, the shard's queries and the solutions in scope to a row for each solution.
Measure = Callable[[Checkpoint, Sequence[Row], Sequence[Row]], list[Row]]


def measure_shard(
    suite: Suite,
    paths: Paths,
    policy: grid.Run,
    shard: int,
    *,
    kind: Kind,
    name: str,
    schema: pa.Schema,
    settings: Mapping[str, Any],
    measure: Measure,
) -> None:
    """Write what ``measure`` gives for one shard's solutions, and a manifest.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        policy: The run whose checkpoint reads the solutions.
        shard: Which shard, from 0.
        kind: Which kind of rollout file.
        name: Name of its folder: which solutions, and in which scope.
        schema: Of the rows.
        settings: What the manifest says of the measure, which may add to it.
        measure: Makes the rows.
    """
    reads = Reads(suite, paths)
    scope = grid.measured_scope(grid.method_with(suite, kind, name))
    inputs = reads.measuring(policy, kind, name, shard)
    output = reads.shard(policy, kind, name, shard)
    recorder = Recorder(
        "rollouts",
        {"policy": policy.id, kind: name, **settings, "scope": scope}
        | {"shards": suite.shards, "threads": suite.threads}
        | suite.models[policy.model].prompts.shown,
        [reads.checkpoint(policy), *reads.queries(policy, "train"), *inputs],
    )
    if not has_weights(suite, paths, policy):
        write_rows(output, [], schema)
        recorder.write(output, {"queries": 0, "solutions": 0}, "no-positives")
        return
    queries = shard_queries(suite, paths, policy, shard)
    checkpoint = load_policy(suite, paths, policy)
    everything = [row for file in inputs for row in read_solutions(file, queries, checkpoint)]
    solutions = [row for row in everything if row["correct"] or scope == "all"]
    recorder.device = device_name(checkpoint.device)
    rows = measure(checkpoint, queries, solutions)
    recorder.settings |= settings
    write_rows(output, rows, schema)
    recorder.write(output, {"queries": len(queries), "solutions": len(rows)})


def measured_columns(solution: Row) -> Row:
    """What a row of ``records.SCORES`` or ``records.GAINS`` takes over from its solution."""
    return {name: solution[name] for name in ("query_id", "task", "sample", "source", "parent", "correct")}
