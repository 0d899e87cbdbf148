"""What every job of stage ``rollouts`` starts with: the policy, its engine, and a shard of the queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from vista.chat import check_prompts, prompted
from vista.config import Suite
from vista.engines.base import Engine, choose_engine
from vista.engines.checkpoints import Checkpoint, load_checkpoint, load_outline, require_gpu
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import check_count, read_manifest
from vista.paths import Paths
from vista.reads import Reads
from vista.records import ROLLOUT, Row, Split, read_queries, read_rows


def has_weights(suite: Suite, paths: Paths, policy: Run) -> bool:
    """Whether the policy was trained; one that had no positives to train on was not.

    Its rollouts are then empty files with the same status, and so on down to the table.
    """
    return read_manifest(Reads(suite, paths).checkpoint(policy)).status == "complete"


def load_policy(suite: Suite, paths: Paths, policy: Run, read: bool = True) -> Checkpoint:
    """Load the policy, with the suite's number of threads.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        policy: The run whose checkpoint it is.
        read: Whether the job itself reads from the model. If it only samples, an engine that
            loads the weights on its own needs none here.

    Raises:
        VistaError: the checkpoint cannot be loaded, or asked with its ``prompts``, or the job should have a
            GPU and there is none.
    """
    require_gpu(suite, policy.model, "rollouts")
    torch.set_num_threads(suite.threads)
    folder, trusted = Reads(suite, paths).checkpoint(policy), _trusted(suite, policy)
    if read or suite.engine.kind == "hf":
        checkpoint = load_checkpoint(folder, trust_remote_code=trusted, padding=suite.padding)
    else:
        checkpoint = load_outline(folder, trust_remote_code=trusted)
    check_prompts(checkpoint.processor, suite.models[policy.model].prompts, policy.model)
    return checkpoint


def _trusted(suite: Suite, policy: Run) -> bool:
    return getattr(suite.models[policy.model], "trust_remote_code", False)


def sampler(suite: Suite, paths: Paths, policy: Run, checkpoint: Checkpoint, progress: str) -> Engine:
    """The suite's engine on the policy.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        policy: The run whose checkpoint is sampled.
        checkpoint: The same, loaded.
        progress: What the progress bar counts.
    """
    return choose_engine(
        suite.engine,
        checkpoint,
        Reads(suite, paths).checkpoint(policy),
        trust_remote_code=_trusted(suite, policy),
        progress=progress,
    )


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

    With the system text and the suffix that the policy's model is asked with.

    Raises:
        VistaError: two tasks have a query of the same id.
    """
    queries: list[Row] = []
    seen: dict[str, Path] = {}
    for file in Reads(suite, paths).queries(policy, split):
        read = read_queries(file)
        check_count(file, len(read), "queries", required=False)
        for query in read:
            name = query["query_id"]
            if name in seen:
                raise VistaError(
                    f"{file}: query_id {name!r} is already in {seen[name]}; "
                    "ids must be unique over the tasks of a train set"
                )
            seen[name] = file
            queries.append(query)
    first, last = shard_bounds(len(queries), shard, suite.shards)
    return [prompted(query, suite.models[policy.model].prompts) for query in queries[first:last]]


def read_solutions(file: Path, queries: Sequence[Row], checkpoint: Checkpoint | None = None) -> list[Row]:
    """One shard's solutions (``records.ROLLOUT``) to ``queries``.

    Args:
        file: A shard of samples or resamples.
        queries: The shard's queries.
        checkpoint: The policy, whose vocabulary their tokens must be of.

    Raises:
        VistaError: the file differs from its manifest; or a solution is there twice, answers no query of
            the shard, or has a token that the policy cannot say; names the row.
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
