"""Entry point of stage 4: from a policy's rollouts, or from the seed split, to a run's training set.

Command: ``vista curate <results>/suite.json MODEL/TRAIN_SET/METHOD/seedS/roundR``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from vista import plugins
from vista.config import (
    Improving,
    OnlineMethod,
    Prompts,
    SeedMethod,
    SelfImprovement,
    Suite,
    Wording,
    training_section,
)
from vista.curation import stand_ins
from vista.curation.rows import (
    asked,
    example,
    pair,
    read_scores,
    read_solutions,
    read_split,
    reflection_example,
    seed_rows,
)
from vista.curation.select import COUNTS, Selector
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder, Status, read_manifest
from vista.paths import Paths
from vista.reads import CurationFiles, Reads, RolloutFiles
from vista.records import ASKED, EXAMPLE, GAINS, PAIR, SCORES, Row, write_rows

# By section of a suite's training settings, what a row of a training set is.
SCHEMAS = {"seed": EXAMPLE, "sft": EXAMPLE, "dpo": PAIR, "grpo": ASKED}
# Fields of a method that a training set depends on; of the objective, the file shows whether it has pairs.
DECIDING = {"kind", "rollouts", "resample", "filter", "dedupe", "max_per_query", "reflect"}


def count_of(source: str) -> str:
    """The name under which rows of a source are counted: ``from_samples``, ``from_random_prefix`` …"""
    return "from_samples" if source == "sample" else f"from_{source.replace('-', '_')}"


def curate(suite: Suite, paths: Paths, run: Run) -> None:
    """Write the training set of ``run`` and its manifest.

    If a self-improvement method has no positive (or no pair) at all, the file is empty and the
    manifest says ``no-positives``, even if there are seed rows: training on the seed split alone
    would report SFT-Seed under another name. The same holds for SFT-Seed if no seed query has a
    rationale. In a pilot, which has to try the training all the same, others stand in. The training set of a
    method that samples as it trains is the queries themselves.

    Raises:
        VistaError: an input is missing or inconsistent, or the method trains nothing.
    """
    method = suite.methods[run.method]
    if not isinstance(method, SeedMethod | Improving):
        raise VistaError(f"{run.id}: method {run.method!r} trains nothing, so it has no training set")
    settings = _settings(suite, run)
    files = Reads(suite, paths).curation(run)
    recorder = Recorder("curation", settings, files.every_file)
    rows: list[Row] = []
    counts: Counter[str] = Counter()
    if isinstance(method, SelfImprovement):
        selector = Selector(method, run.seed, run.round, counts)
        if any(map(_was_sampled, files.policies)):
            rows = _selected_rows(selector, files, suite.wording, suite.models[run.model].prompts)
            if suite.pilot and not rows:
                rows = stand_ins.of_solutions(suite, run, files, selector.pairs)
    if files.seed and (rows or isinstance(method, SeedMethod)):
        rows = seed_rows(suite, run, files.seed, counts) + rows
        if suite.pilot and not rows:
            rows = stand_ins.of_seed(suite, run, files.seed)
    if isinstance(method, OnlineMethod):
        prompts = suite.models[run.model].prompts
        queries = read_split(files.queries, prompts, scene=True, judged=True)
        rows = [asked(query) for query in queries.values()]
    schema = SCHEMAS[str(training_section(method))]
    write_rows(paths.training_set(run.id), rows, schema)
    status: Status = "complete" if rows else "no-positives"
    recorder.write(paths.training_set(run.id), _every_count(counts, rows), status)


def _was_sampled(rollouts: RolloutFiles) -> bool:
    """Whether the policy sampled anything; one that was never trained did not."""
    return any(read_manifest(path).status == "complete" for path in rollouts.samples)


def _selected_rows(selector: Selector, files: CurationFiles, wording: Wording, prompts: Prompts) -> list[Row]:
    """Training rows in the order of the queries; training shuffles them. The latest policy is first."""
    queries = read_split(files.queries, prompts, scene=selector.method.filter.needs_scene)
    read = [
        (
            read_solutions(rollouts.solutions, queries, age=age),
            read_scores(rollouts.scores, SCORES, queries) | read_scores(rollouts.gains, GAINS, queries),
        )
        for age, rollouts in enumerate(files.policies)
    ]
    build = pair if selector.pairs else example
    rows: list[Row] = []
    for query_id, query in queries.items():
        own, *older = [(list(solutions[query_id].values()), scores[query_id]) for solutions, scores in read]
        selected = selector.select(query_id, *own, query.get("scene"), older)
        rows += [build(query, choice) for choice in selected.choices]
        rows += [reflection_example(query, reflection, wording) for reflection in selected.reflections]
    return rows


def _settings(suite: Suite, run: Run) -> dict[str, Any]:
    method = suite.methods[run.method]
    settings: dict[str, Any] = {"run": run.id, "method": method.model_dump(mode="json", include=DECIDING)}
    if method.trains_on_seed:
        settings["seed_rationales"] = suite.seed_rationales.model_dump(mode="json")
    if isinstance(method, SelfImprovement):
        settings |= plugins.origins(method.resample, method.filter)
    if isinstance(method, SelfImprovement) and method.reflect:
        settings["wording"] = suite.wording.model_dump(mode="json")
    return settings | suite.models[run.model].prompts.shown


def _every_count(counts: Counter[str], rows: list[Row]) -> dict[str, float]:
    """A number for every count, zeros as well; a resampler from outside is counted by its own name."""
    sources = Counter(count_of(row["source"]) for row in rows if "source" in row)
    cut = sum(not row.get("rejected_finished", True) for row in rows)
    final = counts + sources + Counter(examples=len(rows), unfinished_negatives=cut)
    return {name: float(final[name]) for name in dict.fromkeys([*COUNTS, *sources])}
