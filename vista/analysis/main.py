"""Accuracies over all seeds: for each model, method and round (``main.csv``), and by task (``tasks.csv``).

Part of ``vista tables``. Accuracies are means over seeds; how they vary over test queries (``se``, ``low``,
``high``) and over seeds (``seed_sd``) is kept apart. The CSV has every column and is for programs; in
the pages (``.md``, ``.tex``) columns that are the same in every row are named once below the table, and
errors follow their values. ``runs.csv`` has every single run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from vista import grid
from vista.analysis.collect import SILENT, in_domain, silent_shares
from vista.analysis.comparisons import counterparts, reference_of
from vista.analysis.page import (
    NOTE_ON_DAGGER,
    Page,
    Table,
    at_least,
    bold_if,
    dagger,
    integer,
    is_clear,
    number,
    probability,
    rows_shown,
    signed,
    signed_with_error,
    star,
    with_constants_below,
    with_interval,
)
from vista.analysis.runs import Cost, own_tasks_note, shared_images_note, trained_tasks
from vista.analysis.stats import (
    PERCENT,
    QUERIES,
    averaged,
    bootstrap_interval,
    corrected,
    detectable,
    difference_columns,
    difference_numbers,
    mcnemar_p,
    overall_mean,
    paired_scores,
    pooled_difference,
    unlike,
)
from vista.config import BaseMethod, ExternalMethod, Improving, SelectMethod, Suite, training_section
from vista.grid import Run
from vista.manifest import Status

KEYS = ["model", "train_set", "method", "round"]
DELTA = "delta_sft_seed"
DIFFERENCE = difference_columns(DELTA)
COSTS = ["train_samples", "samples_drawn_total", "tokens_drawn_total", "tokens_trained_total"]
TASK_COLUMNS = [
    *(*KEYS, "task", "status", "seeds", "missing"),
    *("accuracy", "se", "low", "high", "seed_sd", *SILENT),
    *(*DIFFERENCE, "test", "p", "p_holm", "n_test"),
]
NOTES = """\
Accuracies are percentages of the test queries, means over seeds; `overall` is the mean over the tasks
of the train set, each task with the same weight. Of each model the best value of a column is **bold**,
the second <u>underlined</u>. After ± stands one standard error in points, clustered on the image with
the finite correction C/(C−1) for C images; `seed sd` is the standard deviation between seeds.
Differences to SFT-Seed are paired on the query, and their error is over test queries and, where there
are several, over seeds. \\* marks what differs from SFT-Seed after Holm's correction (p < 0.05): an
`overall` among all rows of the model, a task's accuracy among all rows and tasks. `train_samples`
counts the examples or pairs trained on, `drawn` the solutions sampled up to and including that round,
`tokens drawn` the tokens in them.
`unanswered`: percent of the responses in which no answer is found; `unfinished`: percent that the length
limit cut, which are wrong whatever they say; both over the same tasks as `overall`. `detectable`: the
smallest true difference to SFT-Seed, in points, that the test finds with a power of 80 % (two-sided, 5 %,
before the correction); ≥: from test queries alone, as there is no second seed: it is larger."""
NOTES_ON_TASKS = """\
In brackets stand 95 % intervals: of accuracies by drawing the images again (2,000 times), of
differences to SFT-Seed from their standard error. `p (Holm)` is corrected for all rows and tasks of the
model; `test` names what the p-value is of: McNemar's exact test (one seed, right-or-wrong scores, one
question for each image), else a t or normal test of the clustered difference."""
MANY = 10.0  # percent of a row's responses without an answer, from which on the main table warns
SHOWN = 6  # rows that the warning names
AGAINST = "Against the same method without resampling and filter"

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
    cost = [*COSTS, *SILENT, "n_test"]
    first = [*KEYS, "objective", "status", "seeds", "missing"]
    return [*first, *trained, *overall, *outside, *DIFFERENCE, "p", "p_holm", *cost, "detectable"]


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
    inside = {run: in_domain(suite, run, frame) for run, frame in scores.items()}
    for group in groups(statuses, scores):
        row = group.key | {"objective": _objective(suite, group.method)}
        row |= {name: _mean([getattr(costs[run], name) for run in group.runs]) for name in COSTS}
        if group.found:
            by_task = {run: scores[run].groupby("task")["score"].mean() for run in group.found}
            row |= {
                str(task): PERCENT * statistics.fmean(means[task] for means in by_task.values())
                for task in by_task[group.found[0]].index
            }
            row |= _estimate({run: inside[run] for run in group.found}, "overall")
            row |= difference_numbers(reference_pairs(suite, group, inside), DELTA)
        rows.append(row)
    for row, smallest in zip(rows, detectable(rows), strict=True):
        row["detectable"] = smallest
    return corrected(pd.DataFrame(rows, dtype=object).reindex(columns=columns(suite)))


def task_rows(suite: Suite, statuses: Mapping[Run, Status], scores: Scores) -> pd.DataFrame:
    """The table by task in numbers, ``TASK_COLUMNS``; p-values are corrected over tasks and methods."""
    rows = []
    by_task = {
        task: {run: frame[frame["task"] == task] for run, frame in scores.items()}
        for task in suite.evaluated_tasks
    }
    for group in groups(statuses, scores):
        for task, every in by_task.items() if group.found else ():
            own = {run: every[run] for run in group.found}
            pairs = reference_pairs(suite, group, every)
            row = group.key | {"task": task} | _estimate(own, "accuracy") | difference_numbers(pairs, DELTA)
            if len(pairs) == 1:
                exact = mcnemar_p(next(iter(pairs.values())))
                row |= {} if math.isnan(exact) else {"p": exact, "test": "McNemar"}
            rows.append(row)
        if not group.found:
            rows.append(group.key)
    return corrected(pd.DataFrame(rows, columns=TASK_COLUMNS, dtype=object))


def _objective(suite: Suite, name: str) -> str | None:
    """What a method trains: ``seed``, ``sft``, ``dpo``; ``select`` for decoding alone; none for a base.

    ``external`` says that it was trained, or has answered, elsewhere.
    """
    method = suite.methods[name]
    return method.kind if isinstance(method, SelectMethod | ExternalMethod) else training_section(method)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _estimate(scores: Scores, name: str) -> dict[str, Any]:
    """The mean over seeds, its error over test queries, and the spread between seeds."""
    together = averaged({(run.model, run.seed): frame for run, frame in scores.items()})
    mean, ends = overall_mean(together), bootstrap_interval(together)
    found: dict[str, Any] = {name: mean.mean * PERCENT, "se": mean.se * PERCENT, "n_test": mean.n}
    found |= {end: value * PERCENT for end, value in zip(("low", "high"), ends, strict=True)}
    shares = [silent_shares(frame) for frame in scores.values()]
    found |= {silent: statistics.fmean(share[silent] for share in shares) for silent in SILENT}
    if len(scores) > 1:
        single = [overall_mean(frame).mean for frame in scores.values()]
        found["seed_sd"] = statistics.stdev(single) * PERCENT
    return found


def reference_pairs(suite: Suite, group: Group, scores: Scores) -> dict[tuple[str, int], pd.DataFrame]:
    """By model and seed, the query-wise differences of a group's runs to SFT-Seed.

    A base model is one checkpoint for all seeds; it is compared with the SFT-Seed of each.
    """
    untrained = isinstance(suite.methods[group.method], BaseMethod)
    found = {}
    for run in group.found:
        for seed in suite.seeds if untrained else [run.seed]:
            reference = reference_of(suite, replace(run, seed=seed))
            if reference is not None and reference != run and reference in scores:
                found[run.model, seed] = paired_scores(scores[run], scores[reference])
    return found


# --- the tables to read ---


def main_page(
    suite: Suite,
    table: pd.DataFrame,
    tasks: pd.DataFrame,
    scores: Mapping[Run, pd.DataFrame],
    reported: Mapping[Run, float] | None = None,
) -> Page:
    """The main table, how many runs have a result, and the plain counterparts.

    Args:
        suite: The suite of the table.
        table: As ``main_rows`` gives it.
        tasks: As ``task_rows`` gives it, for the marks of the tasks' accuracies.
        scores: Scores of every run with a result, for the comparison of counterparts.
        reported: Published accuracies on the run's train set, for a column next to ``overall``.
    """
    title = f"Main results of suite `{suite.name}`"
    table = table.assign(marked=unlike(table["error"].tolist()))
    parts: list[str | Table] = [
        runs_sentence(table),
        *with_constants_below(
            title, _main_cells(suite, rows_shown(table, suite.tables.get("main")), tasks, reported), ""
        ),
        NOTES,
    ]
    if table["marked"].any():
        parts.append(NOTE_ON_DAGGER)
    if len(lacking := _lacking_cells(suite, scores)):
        parts.append(Table("Runs without a result", lacking, "missing"))
    parts += [*own_tasks_note(suite), *_note_on_silence(tasks)]
    compared = _counterpart_cells(suite, scores)
    if len(compared):
        parts += [
            *with_constants_below(AGAINST, compared, "against"),
            "Difference of `overall` in points, same seeds, same round, same query, with its 95 % interval. "
            "**Bold**: the interval excludes 0, each taken alone.",
        ]
    return Page("main", title, parts)


def _lacking_cells(suite: Suite, scores: Mapping[Run, pd.DataFrame]) -> pd.DataFrame:
    """Which runs have no result, and why; the seeds of a model, train set, method and round together."""
    seeds: dict[tuple[str, str, str, int, str], list[str]] = {}
    for run in grid.runs(suite):
        if run not in scores:
            method, source = suite.methods[run.method], None
            if isinstance(method, SelectMethod):
                source = replace(run, method=method.of)
            elif isinstance(method, Improving):
                source = grid.policy(suite, run)
            why = "no positives to train on"
            if source is not None and source not in scores:
                use = "decodes" if isinstance(method, SelectMethod) else "would train on samples of"
                why = f"{source.method} of round {source.round}, which it {use}, has no result"
            key = (run.model, run.train_set, run.method, run.round, why)
            seeds.setdefault(key, []).append(str(run.seed))
    rows = [[*key[:-1], ", ".join(found), key[-1]] for key, found in seeds.items()]
    cells = pd.DataFrame(rows, columns=[*KEYS, "seeds", "why"])
    return cells.drop(columns=[] if len(suite.train_sets) > 1 else "train_set")


def _note_on_silence(tasks: pd.DataFrame) -> list[str]:
    """Names where many responses have no answer, the most first; nothing if few have none anywhere."""
    many = tasks[tasks["unanswered"].astype(float) > MANY].sort_values(
        "unanswered", ascending=False, kind="stable"
    )
    if not len(many):
        return []
    named = [
        f"{row['model']}, {row['method']}, round {row['round']}, {row['task']}: "
        f"{number(row['unanswered'])} % ({number(row['unfinished'])} %)"
        for row in many.head(SHOWN).to_dict("records")
    ]
    rest = [f"{len(many) - SHOWN} more in the table by task"] if len(many) > SHOWN else []
    return [
        f"**More than {MANY:.0f} % of the responses have no answer** (in brackets, how many the length limit "
        f"cut): {'; '.join([*named, *rest])}. There an accuracy depends on the form of the responses too: "
        "read some in `predictions.parquet`, and see `prompts` and `eval_max_new_tokens`."
    ]


def tasks_page(suite: Suite, table: pd.DataFrame) -> Page:
    """Every accuracy with its interval, task by task."""
    title = f"Accuracies by task in suite `{suite.name}`"
    marked = unlike(table["error"].tolist())
    cells = table[[*KEYS, "task", "status"]].copy().astype(object)
    cells = cells.where(cells.notna(), "")
    cells["accuracy"] = [
        with_interval(number(value), number(low), number(high))
        for value, low, high in table[["accuracy", "low", "high"]].itertuples(index=False, name=None)
    ]
    names = ["delta_sft_seed", "delta_low", "delta_high"]
    cells["Δ SFT-Seed"] = [
        with_interval(signed(value), signed(low), signed(high)) + dagger(alone)
        for (value, low, high), alone in zip(
            table[names].itertuples(index=False, name=None), marked, strict=True
        )
    ]
    for name in SILENT:
        cells[name] = table[name].map(number)
    cells["test"] = table["test"].fillna("")
    cells["p (Holm)"] = table["p_holm"].map(probability)
    notes = [NOTES_ON_TASKS, *([NOTE_ON_DAGGER] if any(marked) else []), *shared_images_note(table)]
    notes += own_tasks_note(suite)
    return Page("tasks", title, [*with_constants_below(title, cells, ""), *notes])


def runs_sentence(table: pd.DataFrame) -> str:
    """How many runs of the grid have a result, and how many have none."""
    found, missing = int(table["seeds"].sum()), int(table["missing"].sum())
    sentence = f"Runs of the grid: {found + missing}; with a result: {found}; without: {missing}"
    return f"{sentence}." if not missing else f"{sentence} (no positives to train on)."


def _main_cells(
    suite: Suite, table: pd.DataFrame, tasks: pd.DataFrame, reported: Mapping[Run, float] | None
) -> pd.DataFrame:
    cells = table[[*KEYS, "status", "seeds"]].copy()
    names = list(table.columns)
    trained = names[names.index("missing") + 1 : names.index("overall")]
    outside = names[names.index("seed_sd") + 1 : names.index("delta_sft_seed")]
    starred = _starred(tasks)
    keys = list(table[KEYS].itertuples(index=False, name=None))
    ranked = {name: ranked_by_model(table, name) for name in [*trained, "overall", *outside]}

    def accuracy(task: str) -> list[str]:
        stars = ["\\*" if (*key, task) in starred else "" for key in keys]
        return [f"{value}{star}" for value, star in zip(ranked[task], stars, strict=True)]

    for task in trained:
        cells[task] = accuracy(task)
    errors = [f" ± {number(se)}" if number(se) else "" for se in table["se"]]
    cells["overall"] = [f"{value}{error}" for value, error in zip(ranked["overall"], errors, strict=True)]
    if table["seed_sd"].notna().any():
        cells["seed sd"] = table["seed_sd"].map(number)
    if reported is not None:
        known = {(r.model, r.train_set, r.method, r.round): value for r, value in reported.items()}
        cells["reported"] = [number(known.get(key)) for key in keys]
    for task in outside:
        cells[task] = accuracy(task)
    cells["Δ SFT-Seed"] = [_delta(row) for row in table.to_dict("records")]
    cells["detectable"] = [
        at_least(value, error == QUERIES)
        for value, error in zip(table["detectable"], table["error"], strict=True)
    ]
    for name in SILENT:
        cells[name] = table[name].map(number)
    cells["train_samples"] = table["train_samples"].map(integer)
    cells["drawn"] = table["samples_drawn_total"].map(integer)
    cells["tokens drawn"] = table["tokens_drawn_total"].map(integer)
    return cells


def _starred(tasks: pd.DataFrame) -> set[tuple[Any, ...]]:
    """Model, train set, method, round and task of what differs from SFT-Seed."""
    clear = tasks[tasks["p_holm"].map(is_clear).astype(bool)]
    return set(clear[[*KEYS, "task"]].itertuples(index=False, name=None))


def ranked_by_model(table: pd.DataFrame, name: str) -> list[str]:
    """The values of a column as text, of each model and train set the best in bold, the second underlined."""
    shown = pd.Series([number(value) for value in table[name]], table.index)
    for _, own in table[table[name].notna()].groupby(["model", "train_set"], sort=False):
        best = sorted({float(shown[index]) for index in own.index}, reverse=True)
        for index in own.index if len(own) > 1 else []:
            place = best.index(float(shown[index]))
            if place < 2:
                shown[index] = f"**{shown[index]}**" if place == 0 else f"<u>{shown[index]}</u>"
    return list(shown)


def _delta(row: Mapping[Hashable, Any]) -> str:
    shown = signed_with_error(row["delta_sft_seed"], row["delta_se"], star(row["p_holm"]))
    return shown + dagger(row["marked"]) if shown else ""


def _counterpart_cells(suite: Suite, scores: Mapping[Run, pd.DataFrame]) -> pd.DataFrame:
    """Every method against its plain counterpart, over the seeds that both have."""
    pairs: dict[tuple[str, str, str, int, str], dict[tuple[str, int], pd.DataFrame]] = {}
    for comparison in counterparts(suite):
        run, against = comparison.run, comparison.against
        if run in scores and against in scores:
            both = (in_domain(suite, each, scores[each]) for each in (run, against))
            key = (run.model, run.train_set, run.method, run.round, against.method)
            pairs.setdefault(key, {})[run.model, run.seed] = paired_scores(*both)
    rows = []
    for key, found in pairs.items():
        difference = pooled_difference(found)
        value, low, high = (
            signed(end * PERCENT) for end in (difference.mean, difference.low, difference.high)
        )
        value = bold_if(difference.low > 0.0 or difference.high < 0.0, value)
        names = dict(zip((*KEYS, "against"), key, strict=True))
        rows.append(names | {"seeds": len(found), "difference": with_interval(value, low, high)})
    return pd.DataFrame(rows)
