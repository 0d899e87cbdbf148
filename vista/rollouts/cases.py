"""Solutions worth a look, with the attention of every token (``records.CASE``).

Stage ``rollouts``; ``vista cases`` runs it, one job for each model and train set. Four kinds are chosen:
right solutions that VISTA's filter drops, and of the same queries some that it keeps (paper: Sec. 3, step 3);
failures that prefix resampling corrects, and others that it does not (step 2). Of each kind and task they are
the first ones, so that nobody picks them. The gallery shows them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from vista.chat import Prompt, decode, messages
from vista.config import Suite
from vista.engines.batching import BatchSize
from vista.engines.checkpoints import Checkpoint, device_name
from vista.engines.forced import Forced, read_forced
from vista.errors import VistaError
from vista.manifest import Recorder
from vista.measured import CasePool, case_pools
from vista.paths import Paths
from vista.reads import Reads
from vista.records import CASE, CRITICAL, ROLLOUT, SCORES, Row, read_rows, write_rows
from vista.rollouts.policy import (
    has_weights,
    load_policy,
    shard_queries,
)
from vista.rollouts.score import SEGMENTS, one_hot, reading, row_attention
from vista.scores import MIDDLE, TAU, layer_indices, layers_read, standardise, visual_share
from vista.segments import VISION, segments


def policy_cases(suite: Suite, paths: Paths, policy: str) -> None:
    """Write the cases of one policy and their manifest.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        policy: The run whose checkpoint reads the solutions.

    Raises:
        VistaError: no method of the suite both scores and resamples the policy's solutions.
    """
    pools = {pool.policy.id: pool for pool in case_pools(suite)}
    if policy not in pools:
        raise VistaError(f"{policy}: no method scores and resamples its solutions; known: {sorted(pools)}")
    pool = pools[policy]
    reads = Reads(suite, paths)
    output = paths.cases(policy)
    recorder = Recorder(
        "rollouts",
        {"policy": policy, "per_task": suite.cases_per_task, "tau": TAU, "threads": suite.threads},
        [
            reads.checkpoint(pool.policy),
            *reads.queries(pool.policy, "train"),
            *reads.named(pool.policy, pool.files()),
        ],
    )
    if not has_weights(suite, paths, pool.policy):
        write_rows(output, [], CASE)
        recorder.write(output, {"cases": 0}, "no-positives")
        return
    queries = [
        query for shard in range(suite.shards) for query in shard_queries(suite, paths, pool.policy, shard)
    ]
    checkpoint = load_policy(suite, paths, pool.policy)
    recorder.device = device_name(checkpoint.device)
    rows = case_rows(checkpoint, queries, _read(reads, pool), suite.cases_per_task)
    write_rows(output, rows, CASE)
    recorder.write(output, {"cases": len(rows)})


def _read(reads: Reads, pool: CasePool) -> dict[str, list[Row]]:
    """The rows of every kind of rollout file of the pool."""
    schemas = {"samples": ROLLOUT, "resamples": ROLLOUT, "critical": CRITICAL, "scores": SCORES}
    return {
        kind: [
            row for file in reads.shards(pool.policy, kind, name) for row in read_rows(file, schemas[kind])
        ]
        for kind, name in pool.files()
    }


def case_rows(
    checkpoint: Checkpoint, queries: Sequence[Row], rollouts: dict[str, list[Row]], most: int
) -> list[Row]:
    """The chosen cases, in the order of the queries, with the attention of their tokens.

    Args:
        checkpoint: The policy.
        queries: All queries that the rollouts answer.
        rollouts: Rows by kind: ``samples``, ``resamples``, ``critical`` and ``scores``.
        most: How many of each kind and task.
    """
    config = checkpoint.model.config.get_text_config()
    middle, types = _middle(config.num_hidden_layers), getattr(config, "layer_types", None)
    (layer,) = layers_read([middle], types, "nearest")
    by_id = {query["query_id"]: query for query in queries}
    order = {name: number for number, name in enumerate(by_id)}
    chosen = _first_of_each_task([*filtered(rollouts), *resampled(rollouts)], order, most)

    def written(ids: Iterable[int]) -> list[str]:
        return [decode(checkpoint.processor, [token]) for token in ids]

    return [_case_row(checkpoint, by_id[case["query_id"]], case, layer, written) for case in chosen]


def filtered(rollouts: dict[str, list[Row]]) -> list[Row]:
    """Of each query of which VISTA's filter drops a right solution: that with the lowest attention score, and
    that with the highest, which is kept.

    The filter is the paper's: the middle layer, compared among right solutions, threshold ``TAU``. A policy
    whose middle layer was not scored has no such cases.
    """
    texts = {_key(row): row for row in [*rollouts["samples"], *rollouts["resamples"]]}
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rollouts["scores"]:
        if row["correct"] and _middle(row["num_layers"]) in row["layers"]:
            groups[row["query_id"]].append(row)
    found = []
    for group in groups.values():
        scores = standardise([visual_share(row, [MIDDLE]) for row in group])
        if scores.below(TAU).any():
            for kind, at in (("dropped", int(scores.z.argmin())), ("kept", int(scores.z.argmax()))):
                found.append({**texts[_key(group[at])], "kind": kind, "vas": float(scores.z[at])})
    return found


def _middle(num_layers: int) -> int:
    """The layer whose attention the paper scores."""
    (layer,) = layer_indices([MIDDLE], num_layers)
    return layer


def resampled(rollouts: dict[str, list[Row]]) -> list[Row]:
    """Of each query without a right sample the first failure with a right continuation that was sampled.

    Where no continuation is right, the first failure that was continued, with the first continuation.
    """
    solved = {row["query_id"] for row in rollouts["samples"] if row["correct"]}
    samples = {(row["query_id"], row["sample"]): row for row in rollouts["samples"]}
    critical = {(row["query_id"], row["sample"]): row for row in rollouts["critical"]}
    found: dict[str, Row] = {}
    for row in rollouts["resamples"]:
        query = row["query_id"]
        settled = query in found and (found[query]["kind"] == "rescued" or not row["correct"])
        sampled = len(row["token_ids"]) > row["prefix_len"]
        if sampled and query not in solved and not settled:
            failed = (query, row["parent"])
            found[query] = {
                **samples[failed],
                "kind": "rescued" if row["correct"] else "failed",
                "critical_token": critical[failed]["critical_token"],
                "replacement": critical[failed]["replacement"],
                "continuation": row["token_ids"][row["prefix_len"] :],
                "continued": row["text"],
            }
    return list(found.values())


def _key(row: Row) -> tuple[Any, ...]:
    return row["query_id"], row["source"], row["parent"], row["sample"]


def _first_of_each_task(rows: list[Row], order: dict[str, int], most: int) -> list[Row]:
    """The first few of each kind and task, in the order of the queries."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda each: order[each["query_id"]]):
        group = found[row["kind"], row["task"]]
        if len(group) < most:
            group.append(row)
    return [row for group in found.values() for row in group]


def _case_row(
    checkpoint: Checkpoint,
    query: Row,
    case: Row,
    layer: int,
    written: Callable[[Iterable[int]], list[str]],
) -> Row:
    (prompt,) = checkpoint.encode([query], len(case["token_ids"]))
    kinds = segments(checkpoint.processor, messages(query), prompt)
    replacement, continuation = case.get("replacement"), case.get("continuation")
    return {
        "kind": case["kind"],
        **{name: query[name] for name in ("query_id", "task", "images", "instruction", "answer", "scene")},
        **{name: case[name] for name in ("source", "parent", "sample", "text")},
        "extracted": case["answer"],
        "tokens": written(case["token_ids"]),
        "visual": visual_shares(checkpoint, prompt, kinds, case["token_ids"], layer),
        "layer": layer,
        "vas": case.get("vas"),
        "critical_token": case.get("critical_token"),
        "replacement": None if replacement is None else written([replacement])[0],
        "continuation": None if continuation is None else written(continuation),
        "continued": case.get("continued"),
    }


def visual_shares(
    checkpoint: Checkpoint, prompt: Prompt, kinds: Sequence[int], token_ids: Sequence[int], layer: int
) -> list[float]:
    """The image's share of the attention that each response token pays to the prompt, mean over heads.

    Args:
        checkpoint: The policy.
        prompt: The prompt.
        kinds: The segment of every prompt token.
        token_ids: The response.
        layer: Index of the layer.
    """
    with torch.inference_mode(), reading(checkpoint.model, [layer], row_attention) as reader:

        def read(batch: Forced) -> list[float]:
            in_response = batch.in_response
            marks = one_hot([kinds], in_response.shape[1], in_response.device)
            attention = reader.read(batch.inputs, in_response, marks)[0, 0, in_response[0], :SEGMENTS]
            shares: list[float] = (attention[:, VISION] / attention.sum(1)).tolist()
            return shares

        one = BatchSize(1, "reading attention of solutions")
        ((_, shares),) = read_forced(checkpoint, [prompt], [token_ids], one, read)
    return shares
