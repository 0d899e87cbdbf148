"""Stage 3b: try failed solutions again, from prefixes (VISTA), with a hint (STaR), or as a control.

Stage ``rollouts``; ``vista resample`` runs it, one job for each policy, resampler and shard. A new
resampler is a class of ``resamplers.Resampler`` and a line in ``RESAMPLERS`` (docs/adding.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vista import grid
from vista.config import Suite
from vista.grid import Run
from vista.manifest import Recorder, withdraw
from vista.paths import Paths
from vista.records import ROLLOUT, Row, write_rows
from vista.rollouts.budget import BudgetMatchedResampler
from vista.rollouts.policy import device_name, folder_of, has_weights, load_policy, sampler
from vista.rollouts.prefixes import GoldPrefixResampler, PrefixResampler, RandomPrefixResampler
from vista.rollouts.resamplers import Job, RationalizeResampler, Resampler
from vista.rollouts.shards import query_files, read_solutions, shard_queries
from vista.rollouts.solutions import tally

# By the `kind` of a method's `resample`.
RESAMPLERS: dict[str, type[Resampler[Any]]] = {
    "prefix": PrefixResampler,
    "rationalize": RationalizeResampler,
    "budget-matched": BudgetMatchedResampler,
    "random-prefix": RandomPrefixResampler,
    "gold-prefix": GoldPrefixResampler,
}


def resample_shard(suite: Suite, paths: Paths, policy: Run, name: str, shard: int) -> None:
    """Write one shard of a policy's resamples, correct or not, and its manifest.

    For prefix resampling the critical tokens are written as well, one row per failed sample.

    Args:
        suite: The resolved suite.
        paths: Where everything lies.
        policy: The run whose checkpoint is sampled.
        name: Name of the resamples folder: the samples' name and the resampler's slug.
        shard: Which shard, from 0.
    """
    work = grid.resampling_named(suite, name)
    kind = RESAMPLERS[work.settings.kind]

    def file(kind: str, name: str) -> Path:
        return paths.rollouts(policy.id, kind, name, shard, suite.shards)

    inputs = [file(*read) for read in work.inputs]
    recorder = Recorder(
        "rollouts",
        {
            "policy": policy.id,
            "resamples": name,
            "sampling": work.sampling.model_dump(),
            "resample": work.settings.model_dump(),
            "wording": {name: getattr(suite.wording, name) for name in kind.templates},
            "engine": suite.engine.kind,
            "shards": suite.shards,
        },
        [folder_of(suite, paths, policy), *query_files(suite, paths, policy), *inputs],
    )
    outputs = {aside: (file(aside, name), schema) for aside, schema in kind.asides.items()}
    outputs["resamples"] = file("resamples", name), ROLLOUT  # last: its manifest says that all is there
    if not has_weights(suite, paths, policy):
        for output, schema in outputs.values():
            withdraw(output)
            write_rows(output, [], schema)
            recorder.write(output, {**tally(0, []), **_efforts([], [])}, "no-positives")
        return
    queries = shard_queries(suite, paths, policy, shard)
    checkpoint = load_policy(suite, paths, policy, read=kind.reads_model)
    samples, *others = (read_solutions(path, queries, checkpoint) for path in inputs)
    recorder.device = device_name(checkpoint)
    engine = sampler(suite, paths, policy, checkpoint, "resample")
    matched = others[0] if others else []
    job = Job(checkpoint, engine, policy, work.sampling, suite.scoring.batch_size, matched, suite.wording)
    resampler = kind(job, work.settings)
    rows = resampler.run(queries, samples)
    counts = {**tally(len(queries), rows), **_efforts(samples, rows), **resampler.counts}
    for output_kind, (output, schema) in outputs.items():
        withdraw(output)  # asides are no outputs of the rule, so Snakemake leaves those of an earlier run
        write_rows(output, resampler.aside_rows.get(output_kind, rows), schema)
        recorder.write(output, counts)


def _efforts(samples: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
    """How many samples failed, and how many of them (or of their queries) were tried again."""
    return {
        "negatives": sum(not row["correct"] for row in samples),
        "resampled": len({(row["query_id"], row["parent"]) for row in rows}),
    }
