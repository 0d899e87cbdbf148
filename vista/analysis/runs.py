"""One row for each run of the grid (``runs.csv``, ``.md``, ``.tex``): the finest of the results tables.

Part of ``vista tables``. Reads ``long.csv`` and what the manifests count. Nothing in the files depends on
when, where or how fast the runs were made, so equal results give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from vista import grid
from vista.analysis.collect import SILENT, in_domain, silent_shares
from vista.analysis.comparisons import reference_of
from vista.analysis.page import Page, integer, number, signed_with_error, with_constants_below, with_error
from vista.analysis.stats import PERCENT, overall_mean, paired_difference
from vista.config import Improving, OnlineMethod, Suite
from vista.errors import VistaError
from vista.manifest import Status, read_manifest
from vista.paths import Paths, manifest_of
from vista.reads import Reads

IDENTITY = ["model", "train_set", "method", "round", "seed"]
SHARED = ("shared_kept", "shared_dropped")
NOTES = """\
Every run by itself: `overall` and the difference to the SFT-Seed of the same seed, in percent and
points, ± one standard error over test queries. `unanswered`: percent of the responses in which no
answer is found; `unfinished`: percent that the length limit cut, which are wrong; both over the same
tasks as `overall`."""


@dataclass(frozen=True)
class Cost:
    """What a run was trained on: the columns of the table that come from manifests."""

    train_samples: int | None  # examples or pairs; None for a run without training
    samples_drawn: int | None  # solutions sampled for this round's data; None where that is not known
    samples_drawn_total: int | None  # and for all the earlier rounds of the method
    tokens_drawn_total: int | None  # sampled in these solutions: end tokens too, prompts and prefixes not
    # In the method's trainings until then: prompts and images too; None where a manifest of one is gone.
    tokens_trained_total: int | None


def trained_tasks(suite: Suite) -> list[str]:
    """Every task that some train set trains on, in the suite's order."""
    trained = {task for tasks in suite.train_sets.values() for task in tasks}
    return [task for task in suite.evaluated_tasks if task in trained]


def columns(suite: Suite) -> list[str]:
    """The columns of ``runs.csv``, in order.

    Raises:
        VistaError: a task is named as one of the other columns.
    """
    trained = trained_tasks(suite)
    outside = [task for task in suite.evaluated_tasks if task not in trained]
    first = [*IDENTITY, "status"]
    overall = ["overall", "se"]
    last = ["delta_sft_seed", "delta_se", *(field.name for field in fields(Cost)), *SILENT, "n_test"]
    clash = sorted(set(suite.evaluated_tasks) & {*first, *overall, *last})
    if clash:
        raise VistaError(
            f"suite {suite.name!r}: task {clash[0]!r} is named as a column of the tables; rename it"
        )
    return [*first, *trained, *overall, *outside, *last]


def run_rows(
    suite: Suite,
    statuses: Mapping[grid.Run, Status],
    scores: Mapping[grid.Run, pd.DataFrame],
    costs: Mapping[grid.Run, Cost],
) -> pd.DataFrame:
    """The table in numbers: one row per run of ``statuses``, in their order.

    Args:
        suite: The suite whose grid the runs are.
        statuses: Status of every run.
        scores: ``task, query_id, cluster_id, score`` and ``SILENT`` of every run with a result.
        costs: Training samples and samples drawn of every run.

    Returns:
        The columns of ``columns(suite)``; accuracies, errors and differences in percentage
        points, unrounded; ``None`` where there is no number.

    Raises:
        VistaError: a run's status and its scores contradict each other.
    """
    rows = []
    for run, status in statuses.items():
        if (status == "complete") != (run in scores):
            what = "has no rows in long.csv" if status == "complete" else "has rows in long.csv"
            raise VistaError(f"{run.id}: status {status!r}, but it {what}; collect the predictions again")
        reference = reference_of(suite, run)
        row: dict[str, Any] = asdict(run) | {"status": status} | asdict(costs[run])
        if status == "complete":
            row |= _accuracies(suite, run, scores[run])
            if reference is not None and reference != run and reference in scores:
                row |= _difference(suite, run, scores[run], scores[reference])
        rows.append(row)
    table = pd.DataFrame(rows, dtype=object).reindex(columns=columns(suite)).astype(object)
    return table.where(table.notna(), None)


def _accuracies(suite: Suite, run: grid.Run, scores: pd.DataFrame) -> dict[str, Any]:
    means = scores.groupby("task")["score"].mean() * PERCENT
    overall = overall_mean(in_domain(suite, run, scores))
    return {
        **{str(task): float(mean) for task, mean in means.items()},
        "overall": overall.mean * PERCENT,
        "se": overall.se * PERCENT,
        **silent_shares(in_domain(suite, run, scores)),
        "n_test": overall.n,
    }


def _difference(suite: Suite, run: grid.Run, scores: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any]:
    difference = paired_difference(in_domain(suite, run, scores), in_domain(suite, run, reference))
    return {"delta_sft_seed": difference.mean * PERCENT, "delta_se": difference.se * PERCENT}


def runs_page(suite: Suite, table: pd.DataFrame) -> Page:
    """Every run by itself."""
    title = f"Runs of suite `{suite.name}`"
    cells = table[[*IDENTITY, "status"]].copy()
    for task in suite.evaluated_tasks:
        cells[task] = table[task].map(number)
    cells["overall"] = [with_error(*pair) for pair in zip(table["overall"], table["se"], strict=True)]
    cells["Δ SFT-Seed"] = [
        signed_with_error(*pair) for pair in zip(table["delta_sft_seed"], table["delta_se"], strict=True)
    ]
    for name in SILENT:
        cells[name] = table[name].map(number)
    cells["train_samples"] = table["train_samples"].map(integer)
    cells["drawn"] = table["samples_drawn_total"].map(integer)
    cells["tokens drawn"] = table["tokens_drawn_total"].map(integer)
    return Page("runs", title, [*with_constants_below(title, cells, ""), NOTES])


# --- what the manifests count ----------------------------------------------------------------


def run_cost(suite: Suite, paths: Paths, run: grid.Run) -> Cost:
    """How much ``run`` was trained on and how many solutions were sampled for it.

    Raises:
        VistaError: a manifest of the training set or of the rollouts is missing or lacks the count.
    """
    run = grid.weights(suite, run)
    if grid.given(suite, run) is not None:
        return Cost(None, None, None, None, None)
    if not grid.is_trained(suite, run):
        return Cost(None, 0, 0, 0, 0)
    rounds = [replace(run, round=number) for number in _rounds_until(suite, run)]
    drawn = [_drawn(suite, paths, each, "solutions") for each in rounds]
    tokens = sum(_drawn(suite, paths, each, "tokens") for each in rounds)
    folders = [paths.trained(each.id) for each in rounds or [run]]
    known = all(manifest_of(folder).exists() for folder in folders)
    steps = sum(_count(folder, "tokens") for folder in folders) if known else None
    examples = _count(paths.training_set(run.id), "examples")
    trained = paths.trained(run.id)
    if manifest_of(trained).exists():
        # A teacher's or the policy's texts that spell special tokens of the model are not trained on.
        examples -= int(read_manifest(trained).counts.get("dropped_special_tokens", 0))
    return Cost(examples, drawn[-1] if drawn else 0, sum(drawn), tokens, steps)


def with_shared_images(suite: Suite, paths: Paths, table: pd.DataFrame) -> pd.DataFrame:
    """A table by ``task`` with the columns ``SHARED``: of the queries that can be trained on, how many ask
    about a picture of the test split, and how many more have been left out for that.

    The columns are empty for tasks that count none, and absent where no task does.

    Raises:
        VistaError: a manifest is missing or lacks a count.
    """
    counted = Reads(suite, paths).shared_counts()
    found = {
        "shared_kept": {task: sum(_count(file, "shared_kept") for file in counted[task]) for task in counted},
        # Seed and train are drawn from the same questions.
        "shared_dropped": {task: _count(counted[task][0], "shared_dropped") for task in counted},
    }
    cells = {name: [found[name].get(task) for task in table["task"]] for name in SHARED if counted}
    return table.assign(**pd.DataFrame(cells, table.index, dtype=object))


def shared_images_note(table: pd.DataFrame) -> list[str]:
    """A paragraph that says the same, where a task of ``with_shared_images`` has counts."""
    if SHARED[0] not in table:
        return []
    rows = table[["task", *SHARED]].dropna().drop_duplicates().itertuples(index=False, name=None)
    counts = "; ".join(f"{task} {kept:,.0f} ({dropped:,.0f} left out)" for task, kept, dropped in rows)
    return [f"Queries of seed and train about a picture that the task's test split shows: {counts}."]


def own_tasks_note(suite: Suite) -> list[str]:
    """A paragraph on the tasks that lmms-eval asks and scores, where there are any."""
    own = [task for task in suite.evaluated_tasks if suite.tasks[task].evaluator is not None]
    if not own:
        return []
    return [
        f"lmms-eval asks and scores {', '.join(own)} as its own tasks: with the task's prompt, so without "
        "our mark before answers and without the suite's `prompts`; with the task's length limit, but at "
        "most `eval_max_new_tokens`; by its metric, which takes responses that were cut as they stand "
        "(`unfinished` counts them). `unanswered` counts only where such a task says which answer it found."
    ]


def _rounds_until(suite: Suite, run: grid.Run) -> list[int]:
    """The rounds that sampled for ``run``: its own and the earlier ones; none without self-improvement."""
    if not isinstance(suite.methods[run.method], Improving):
        return []
    return [number for number in grid.rounds(suite, run.method, run.model) if number <= run.round]


def _drawn(suite: Suite, paths: Paths, run: grid.Run, unit: Literal["solutions", "tokens"]) -> int:
    """What was sampled for one round: in its policy's samples and resamples, all shards; or in training."""
    if isinstance(suite.methods[run.method], OnlineMethod):
        return _count(paths.trained(run.id), "drawn_tokens" if unit == "tokens" else unit)
    return sum(_count(file, unit) for file in Reads(suite, paths).drawn(run))


def _count(output: Path, key: str) -> int:
    """A count of an output's manifest; without a result it need not be stated: nothing was made."""
    manifest = read_manifest(output)
    if key in manifest.counts:
        return int(manifest.counts[key])
    if manifest.status == "no-positives":
        return 0
    raise VistaError(f"{manifest_of(output)}: counts.{key}: missing; delete the file and rerun the rule")
