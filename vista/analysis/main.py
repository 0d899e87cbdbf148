"""Accuracies over all seeds: for each model, method and round (``main.csv``), and by task (``tasks.csv``).

Part of ``vista tables``. Accuracies are means over seeds; how they vary over test queries (``se``, ``low``,
``high``) and over seeds (``seed_sd``) is kept apart. ``runs.csv`` has every run by itself.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from vista.analysis.bootstrap import bootstrap_interval
from vista.analysis.collect import in_domain
from vista.analysis.comparisons import reference_of
from vista.analysis.differences import PERCENT, corrected, difference_columns, difference_numbers
from vista.analysis.runs import Cost, trained_tasks
from vista.analysis.stats import averaged, mcnemar_p, overall_mean, paired_scores
from vista.config import BaseMethod, SelectMethod, Suite, training_section
from vista.grid import Run
from vista.manifest import Status

KEYS = ["model", "train_set", "method", "round"]
DELTA = "delta_sft_seed"
DIFFERENCE = difference_columns(DELTA)
TASK_COLUMNS = [
    *(*KEYS, "task", "status", "seeds", "missing"),
    *("accuracy", "se", "low", "high", "seed_sd"),
    *(*DIFFERENCE, "test", "p", "p_holm", "n_test"),
]

Scores = Mapping[Run, pd.DataFrame]


@dataclass(frozen=True)
class Group:
    """The runs of one model, train set, method and round: one for each seed."""

    model: str
    train_set: str
    method: str
    round: int
    runs: tuple[Run, ...]
    found: tuple[Run, ...]  # those with a result

    @property
    def key(self) -> dict[str, Any]:
        """What names the group in a table, and how much of it there is."""
        missing = len(self.runs) - len(self.found)
        status = "complete" if not missing else "partial" if self.found else "no-positives"
        names = {name: getattr(self, name) for name in KEYS}
        return names | {"status": status, "seeds": len(self.found), "missing": missing}


def groups(statuses: Mapping[Run, Status], scores: Scores) -> list[Group]:
    """The runs of the grid by model, train set, method and round, in the grid's order."""
    found: dict[tuple[str, str, str, int], list[Run]] = {}
    for run in statuses:
        found.setdefault((run.model, run.train_set, run.method, run.round), []).append(run)
    return [
        Group(*key, runs=tuple(runs), found=tuple(run for run in runs if run in scores))
        for key, runs in found.items()
    ]


def columns(suite: Suite) -> list[str]:
    """The columns of ``main.csv``, in order."""
    trained = trained_tasks(suite)
    outside = [task for task in suite.evaluated_tasks if task not in trained]
    overall = ["overall", "se", "low", "high", "seed_sd"]
    cost = ["train_samples", "samples_drawn_total", "n_test"]
    first = [*KEYS, "objective", "status", "seeds", "missing"]
    return [*first, *trained, *overall, *outside, *DIFFERENCE, "p", "p_holm", *cost]


def main_rows(
    suite: Suite, statuses: Mapping[Run, Status], scores: Scores, costs: Mapping[Run, Cost]
) -> pd.DataFrame:
    """The main table in numbers.

    Args:
        suite: The suite whose grid the runs are.
        statuses: Status of every run.
        scores: ``task, query_id, cluster_id, score`` of every run with a result.
        costs: Training samples and samples drawn of every run.

    Returns:
        The columns of ``columns(suite)``; accuracies, errors and differences in percentage points,
        unrounded; ``None`` where there is no number.
    """
    rows = []
    for group in groups(statuses, scores):
        row = group.key | {"objective": _objective(suite, group.method)}
        row |= {
            name: _mean([getattr(costs[run], name) for run in group.runs])
            for name in ("train_samples", "samples_drawn_total")
        }
        if group.found:
            by_task = {run: scores[run].groupby("task")["score"].mean() for run in group.found}
            row |= {
                str(task): PERCENT * statistics.fmean(means[task] for means in by_task.values())
                for task in by_task[group.found[0]].index
            }
            inside = {run: in_domain(suite, run, scores[run]) for run in group.found}
            row |= _estimate(inside, "overall")
            row |= difference_numbers(_pairs(suite, group, scores, suite.train_sets[group.train_set]), DELTA)
        rows.append(row)
    return corrected(pd.DataFrame(rows, dtype=object).reindex(columns=columns(suite)))


def task_rows(suite: Suite, statuses: Mapping[Run, Status], scores: Scores) -> pd.DataFrame:
    """The table by task in numbers, ``TASK_COLUMNS``; p-values are corrected over tasks and methods."""
    rows = []
    for group in groups(statuses, scores):
        for task in suite.evaluated_tasks if group.found else []:
            own = {run: scores[run][scores[run]["task"] == task] for run in group.found}
            pairs = _pairs(suite, group, scores, [task])
            row = group.key | {"task": task} | _estimate(own, "accuracy") | difference_numbers(pairs, DELTA)
            if len(pairs) == 1:
                exact = mcnemar_p(next(iter(pairs.values())))
                row |= {} if math.isnan(exact) else {"p": exact, "test": "McNemar"}
            rows.append(row)
        if not group.found:
            rows.append(group.key)
    return corrected(pd.DataFrame(rows, columns=TASK_COLUMNS, dtype=object))


def _objective(suite: Suite, name: str) -> str | None:
    """What a method trains: ``seed``, ``sft``, ``dpo``; ``select`` for decoding alone; none for a base."""
    method = suite.methods[name]
    return "select" if isinstance(method, SelectMethod) else training_section(method)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _estimate(scores: Scores, name: str) -> dict[str, Any]:
    """The mean over seeds, its error over test queries, and the spread between seeds."""
    together = averaged({(run.model, run.seed): frame for run, frame in scores.items()})
    mean, ends = overall_mean(together), bootstrap_interval(together)
    found: dict[str, Any] = {name: mean.mean * PERCENT, "se": mean.se * PERCENT, "n_test": mean.n}
    found |= {end: value * PERCENT for end, value in zip(("low", "high"), ends, strict=True)}
    if len(scores) > 1:
        single = [overall_mean(frame).mean for frame in scores.values()]
        found["seed_sd"] = statistics.stdev(single) * PERCENT
    return found


def _pairs(
    suite: Suite, group: Group, scores: Scores, tasks: list[str]
) -> dict[tuple[str, int], pd.DataFrame]:
    """By model and seed, the query-wise differences to SFT-Seed on ``tasks``.

    A base model is one checkpoint for all seeds; it is set against the SFT-Seed of each.
    """
    untrained = isinstance(suite.methods[group.method], BaseMethod)
    found = {}
    for run in group.found:
        for seed in suite.seeds if untrained else [run.seed]:
            reference = reference_of(suite, replace(run, seed=seed))
            if reference is None or reference == run or reference not in scores:
                continue
            both = (frame[frame["task"].isin(tasks)] for frame in (scores[run], scores[reference]))
            found[run.model, seed] = paired_scores(*both)
    return found
