"""Stage 3b: try failed solutions again, from prefixes (VISTA), with a hint (STaR), or as a control.

Stage ``rollouts``; ``vista resample`` runs it, one job for each policy, resampler and shard. The resamplers
are ``vista.resamplers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vista import grid, plugins
from vista.config import Suite
from vista.engines.checkpoints import device_name
from vista.manifest import Recorder, withdraw
from vista.paths import Paths
from vista.reads import Reads
from vista.records import CRITICAL, ROLLOUT, Row, write_rows
from vista.resamplers import Job, Resampler
from vista.rollouts.policy import (
    has_weights,
    load_policy,
    read_solutions,
    sampler,
    shard_queries,
)
from vista.verdicts import tally
from vista.wording import check_wording


def resample_shard(suite: Suite, paths: Paths, policy: grid.Run, name: str, shard: int) -> None:
    """Write one shard of a policy's resamples, correct or not, and its manifest.

    For prefix resampling the critical tokens are written as well, one row per failed sample.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        policy: The run whose checkpoint is sampled.
        name: Name of the resamples folder: the samples' name and the resampler's slug.
        shard: Which shard, from 0.
    """
    work = grid.resampling_named(suite, name)
    templates = work.settings.templates

    reads = Reads(suite, paths)
    inputs = reads.resampling(policy, name, shard)
    recorder = Recorder(
        "rollouts",
        {
            "policy": policy.id,
            "resamples": name,
            "sampling": work.sampling.model_dump(),
            "resample": work.settings.model_dump(),
            "wording": {name: getattr(suite.wording, name) for name in templates},
            "engine": suite.engine.kind,
            "shards": suite.shards,
            "threads": suite.threads,
            **suite.models[policy.model].prompts.stated,
            **plugins.origins(work.settings),
        },
        [reads.checkpoint(policy), *reads.queries(policy, "train"), *inputs],
    )
    # The resamples come last: their manifest says that all is there.
    kinds = ["critical", "resamples"] if work.settings.finds_critical else ["resamples"]
    outputs = {kind: reads.shard(policy, kind, name, shard) for kind in kinds}
    schemas = {"critical": CRITICAL, "resamples": ROLLOUT}
    if not has_weights(suite, paths, policy):
        for kind, output in outputs.items():
            withdraw(output)
            write_rows(output, [], schemas[kind])
            recorder.write(output, {**tally(0, []), **_efforts([], [])}, "no-positives")
        return
    queries = shard_queries(suite, paths, policy, shard)
    checkpoint = load_policy(suite, paths, policy, read=work.settings.reads_model)
    check_wording(checkpoint.processor.tokenizer, suite.wording, templates, policy.model)
    samples, *others = (read_solutions(path, queries, checkpoint) for path in inputs)
    recorder.device = device_name(checkpoint.device)
    engine = sampler(suite, paths, policy, checkpoint, "resample")
    matched = others[0] if others else []
    job = Job(checkpoint, engine, policy, work.sampling, suite.scoring.batch_size, suite.wording, matched)
    resampler: Resampler[Any] = plugins.make(work.settings, job)
    resamples = resampler.run(queries, samples)
    rows = {"critical": resampler.critical, "resamples": resamples}
    counts = {**tally(len(queries), resamples), **_efforts(samples, resamples), **resampler.counts}
    for kind, output in outputs.items():
        # `critical` is not an output of the rule, so Snakemake leaves that of an earlier run.
        withdraw(output)
        write_rows(output, rows[kind], schemas[kind])
        recorder.write(output, counts)


def _efforts(samples: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
    """How many samples failed, and how many of them (or of their queries) were tried again."""
    return {
        "negatives": sum(not row["correct"] for row in samples),
        "resampled": len({(row["query_id"], row["parent"]) for row in rows}),
    }
