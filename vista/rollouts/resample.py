"""Resample failed solutions: from corrected prefixes (VISTA) or with the answer as a hint (STaR).

Stage ``rollouts``; ``vista resample`` runs it, one job for each policy, resampler and shard.
"""

from __future__ import annotations

from collections.abc import Sequence

from vista import grid
from vista.config import PrefixResample, RationalizeResample, Sampling, Suite
from vista.engines.base import Engine, Request
from vista.engines.checkpoints import Checkpoint
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder
from vista.paths import Paths
from vista.records import CRITICAL, ROLLOUT, Row, read_rows, write_rows
from vista.rollouts.critical import Critical, critical_tokens
from vista.rollouts.policy import (
    device_name,
    encode_queries,
    folder_of,
    has_weights,
    load_policy,
    sampler,
)
from vista.rollouts.shards import asked_by, query_files, shard_queries
from vista.rollouts.solutions import solution_row, tally
from vista.seeding import derive_seed
from vista.wording import check_wording, hinted


def prefix_seed(policy: Run, query_id: str, parent: int, index: int) -> int:
    """The random stream of one continuation of the corrected prefix of failed sample ``parent``."""
    return derive_seed("prefix", policy.id, query_id, parent, index)


def rationalize_seed(policy: Run, query_id: str, index: int) -> int:
    """The random stream of one rationalisation."""
    return derive_seed("rationalize", policy.id, query_id, index)


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
    method = grid.method_with(suite, "resamples", name)
    samples_file = paths.rollouts(
        policy.id, "samples", grid.rollout_files(method).samples, shard, suite.shards
    )
    output, critical_file = (
        paths.rollouts(policy.id, kind, name, shard, suite.shards) for kind in ("resamples", "critical")
    )
    settings = {"sampling": method.rollouts.model_dump(), "resample": method.resample.model_dump()}
    if isinstance(method.resample, RationalizeResample):
        settings["hint"] = {"wording": suite.wording.hint}
    recorder = Recorder(
        "rollouts",
        {
            "policy": policy.id,
            "resamples": name,
            **settings,
            "engine": suite.engine.kind,
            "shards": suite.shards,
        },
        [folder_of(suite, paths, policy), *query_files(suite, paths, policy), samples_file],
    )
    if not has_weights(suite, paths, policy):
        empty = {**tally(0, []), "negatives": 0, "resampled": 0}
        if isinstance(method.resample, PrefixResample):
            write_rows(critical_file, [], CRITICAL)
            recorder.write(critical_file, empty, "no-positives")
        write_rows(output, [], ROLLOUT)
        recorder.write(output, empty, "no-positives")
        return
    queries = shard_queries(suite, paths, policy, shard)
    samples = read_rows(samples_file, ROLLOUT)
    # Critical tokens are read from the model itself, whatever engine samples.
    checkpoint = load_policy(suite, paths, policy, read=isinstance(method.resample, PrefixResample))
    recorder.device = device_name(checkpoint)
    engine = sampler(suite, paths, policy, checkpoint, "resample")
    criticals: list[Row] | None = None
    if isinstance(method.resample, PrefixResample):
        work = PrefixResampler(checkpoint, engine, policy, method.rollouts, method.resample)
        rows, criticals = work.run(queries, samples, suite.scoring.batch_size)
    elif isinstance(method.resample, RationalizeResample):
        check_wording(checkpoint.processor.tokenizer, suite.wording, ["hint"], policy.model)
        hinted_queries = [hinted(query, suite.wording) for query in queries]
        rows = rationalize(
            checkpoint, engine, hinted_queries, samples, method.rollouts, method.resample, policy
        )
    else:
        raise VistaError(f"resamples {name!r}: the method has no resampler (kind: {method.resample.kind})")
    counts = {**tally(len(queries), rows), **_efforts(samples, rows)}
    if criticals is not None:
        write_rows(critical_file, criticals, CRITICAL)
        recorder.write(critical_file, counts)
    write_rows(output, rows, ROLLOUT)
    recorder.write(output, counts)


def _efforts(samples: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
    """How many samples failed, and how many of them (or of their queries) were tried again."""
    return {
        "negatives": sum(not row["correct"] for row in samples),
        "resampled": len({(row["query_id"], row["parent"]) for row in rows}),
    }


class PrefixResampler:
    """VISTA's prefix resampling (paper: Sec. 3, step 2) with one policy and its settings."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        engine: Engine,
        policy: Run,
        sampling: Sampling,
        settings: PrefixResample,
    ) -> None:
        self.checkpoint = checkpoint
        self.engine = engine
        self.policy = policy
        self.sampling = sampling
        self.settings = settings

    def run(
        self, queries: Sequence[Row], samples: Sequence[Row], scoring_batch: int
    ) -> tuple[list[Row], list[Row]]:
        """Find the critical tokens of the failed samples and continue the corrected prefixes.

        In this order, since the engine may take the model's memory for itself.

        Returns:
            Continuations (``records.ROLLOUT``) and critical tokens (``records.CRITICAL``), both
            in the order of the samples.
        """
        failed = [row for row in samples if not row["correct"]]
        queries = asked_by(queries, failed)
        found = self._criticals(queries, failed, scoring_batch)
        cut = [
            (row, corrected_prefix(row["token_ids"], critical))
            for row, critical in zip(failed, found, strict=True)
            if critical is not None and critical.replacement not in self.checkpoint.end_ids
        ]
        rows = self._continue(queries, cut)
        return rows, [_critical_row(row, critical) for row, critical in zip(failed, found, strict=True)]

    def _criticals(
        self, queries: Sequence[Row], failed: Sequence[Row], batch_size: int
    ) -> list[Critical | None]:
        """Read every failed solution behind the paraphrased prompt."""
        longest = max((len(row["token_ids"]) for row in failed), default=0)
        prompts = encode_queries(self.checkpoint, queries, longest, self.settings.order)
        by_id = {query["query_id"]: prompt for query, prompt in zip(queries, prompts, strict=True)}
        return critical_tokens(
            self.checkpoint,
            [by_id[row["query_id"]] for row in failed],
            [row["token_ids"] for row in failed],
            self.settings.top_k,
            batch_size,
        )

    def _continue(self, queries: Sequence[Row], cut: Sequence[tuple[Row, list[int]]]) -> list[Row]:
        """Sample J continuations of every prefix behind the prompt in its original order."""
        limit = self.sampling.max_new_tokens
        prompts = encode_queries(self.checkpoint, queries, limit)
        by_id = {q["query_id"]: (q, prompt) for q, prompt in zip(queries, prompts, strict=True)}
        seeds = [
            [prefix_seed(self.policy, row["query_id"], row["sample"], j) for j in range(self.settings.j)]
            for row, _ in cut
        ]
        requests = [
            Request(by_id[row["query_id"]][1], own, prefix)
            for (row, prefix), own in zip(cut, seeds, strict=True)
        ]
        results = self.engine.sample(requests, self.sampling.temperature, limit)
        return [
            solution_row(
                self.checkpoint.processor,
                by_id[row["query_id"]][0],
                sample,
                source="prefix",
                index=index,
                seed=own[index],
                parent=row["sample"],
                prefix=prefix,
            )
            for (row, prefix), own, continuations in zip(cut, seeds, results, strict=True)
            for index, sample in enumerate(continuations)
        ]


def corrected_prefix(token_ids: Sequence[int], critical: Critical) -> list[int]:
    """The solution up to its critical token, which the Top-1 prediction replaces.

    Where that is an end token there is nothing to continue: such a solution is not resampled,
    as one without a critical token is not.
    """
    return [*token_ids[: critical.position], critical.replacement]


def _critical_row(row: Row, critical: Critical | None) -> Row:
    return {
        "query_id": row["query_id"],
        "task": row["task"],
        "sample": row["sample"],
        "critical_token": None if critical is None else critical.position,
        "replacement": None if critical is None else critical.replacement,
    }


def rationalize(
    checkpoint: Checkpoint,
    engine: Engine,
    queries: Sequence[Row],
    samples: Sequence[Row],
    sampling: Sampling,
    settings: RationalizeResample,
    policy: Run,
) -> list[Row]:
    """STaR: queries without a correct sample again; ``queries`` give the answer as a hint.

    The rows (``records.ROLLOUT``) hold the response alone, so what is trained on has no hint.
    """
    solved = {row["query_id"] for row in samples if row["correct"]}
    failed = [query for query in queries if query["query_id"] not in solved]
    prompts = encode_queries(checkpoint, failed, sampling.max_new_tokens)
    seeds = [[rationalize_seed(policy, q["query_id"], j) for j in range(settings.j)] for q in failed]
    requests = [Request(prompt, own) for prompt, own in zip(prompts, seeds, strict=True)]
    results = engine.sample(requests, settings.temperature, sampling.max_new_tokens)
    return [
        solution_row(checkpoint.processor, query, sample, source="rationalize", index=index, seed=own[index])
        for query, own, made in zip(failed, seeds, results, strict=True)
        for index, sample in enumerate(made)
    ]
