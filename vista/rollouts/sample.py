"""Sample K solutions per query from a policy and verify them (paper: Sec. 3, step 1).

Stage ``rollouts``; ``vista sample`` runs it, one job for each policy, sampling settings and shard.
"""

from __future__ import annotations

from collections.abc import Sequence

from vista import grid
from vista.config import Sampling, Suite
from vista.engines.base import Engine, Request
from vista.engines.checkpoints import Checkpoint, device_name
from vista.manifest import Recorder
from vista.paths import Paths
from vista.reads import Reads
from vista.records import ROLLOUT, Row, write_rows
from vista.rollouts.policy import (
    has_weights,
    load_policy,
    sampler,
    shard_queries,
)
from vista.seeding import derive_seed
from vista.verdicts import solution_row, tally


def sample_seed(policy: grid.Run, query_id: str, index: int) -> int:
    """The random stream of one sample, keyed by the policy (its seed and round too), query and index.

    Not by K or the temperature: the first samples of a larger K are those of a smaller one, and
    methods that differ in temperature differ in nothing else.
    """
    return derive_seed("sample", policy.id, query_id, index)


def sample_shard(suite: Suite, paths: Paths, policy: grid.Run, name: str, shard: int) -> None:
    """Write one shard of a policy's samples, with verdicts, and its manifest.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        policy: The run whose checkpoint is sampled.
        name: Name of the samples folder: the slug of the sampling settings, and whether the seed
            queries are sampled on, not the train queries.
        shard: Which shard, from 0.
    """
    reads = Reads(suite, paths)
    settings, split = grid.sampling_named(suite, name), grid.sampled_split(name)
    recorder = Recorder(
        "rollouts",
        {
            "policy": policy.id,
            "samples": name,
            "sampling": settings.model_dump(),
            "engine": suite.engine.kind,
            "shards": suite.shards,
            "threads": suite.threads,
            **suite.models[policy.model].prompts.stated,
        },
        [reads.checkpoint(policy), *reads.queries(policy, split)],
    )
    output = reads.shard(policy, "samples", name, shard)
    if not has_weights(suite, paths, policy):
        write_rows(output, [], ROLLOUT)
        recorder.write(output, tally(0, []), "no-positives")
        return
    queries = shard_queries(suite, paths, policy, shard, split)
    checkpoint = load_policy(suite, paths, policy, read=False)
    recorder.device = device_name(checkpoint.device)
    engine = sampler(suite, paths, policy, checkpoint, "sample")
    rows = sample_rows(checkpoint, engine, queries, settings, policy)
    write_rows(output, rows, ROLLOUT)
    recorder.write(output, tally(len(queries), rows))


def sample_rows(
    checkpoint: Checkpoint, engine: Engine, queries: Sequence[Row], settings: Sampling, policy: grid.Run
) -> list[Row]:
    """K verified solutions (``records.ROLLOUT``) to each query, in the order of the queries."""
    prompts = checkpoint.encode(queries, settings.max_new_tokens)
    seeds = [[sample_seed(policy, q["query_id"], index) for index in range(settings.k)] for q in queries]
    requests = [Request(prompt, own) for prompt, own in zip(prompts, seeds, strict=True)]
    results = engine.sample(requests, settings.temperature, settings.max_new_tokens)
    return [
        solution_row(checkpoint.processor, query, sample, source="sample", index=index, seed=own[index])
        for query, own, samples in zip(queries, seeds, results, strict=True)
        for index, sample in enumerate(samples)
    ]
