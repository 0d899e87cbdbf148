"""The results tables to read: ``main``, ``tasks`` and ``runs`` (``.md``, ``.tex``).

The CSV beside each has every column and is what programs read; here columns that say the same in every
row are named once below the table, and errors stand behind their values.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from vista.analysis.cells import (
    NOTE_ON_MARK,
    QUERIES_ALONE,
    integer,
    number,
    probability,
    signed,
    with_error,
    with_interval,
)
from vista.analysis.collect import in_domain
from vista.analysis.comparisons import counterparts
from vista.analysis.page import Page, Table
from vista.analysis.stats import paired_scores, pooled_difference, unlike
from vista.config import Suite
from vista.grid import Run

LEVEL = 0.05
NOTES = """\
Accuracies are percentages of the test queries, means over seeds; `overall` is the mean over the tasks
of the train set, each task with the same weight. Of each model the best value of a column is **bold**,
the second <u>underlined</u>. After ± stands one standard error in points, clustered on the image with
the finite correction C/(C−1) for C images; `seed sd` is the standard deviation between seeds.
Differences to SFT-Seed are paired on the query, and their error is over test queries and, where there
are several, over seeds. \\* marks what differs from SFT-Seed after Holm's correction (p < 0.05): an
`overall` among all rows of the model, a task's accuracy among all rows and tasks. `train_samples`
counts the examples or pairs trained on, `drawn` the solutions sampled up to and including that round."""
NOTES_ON_TASKS = """\
In brackets stand 95 % intervals: of accuracies by drawing the images again (2,000 times), of
differences to SFT-Seed from their standard error. `p (Holm)` is corrected for all rows and tasks of the
model; `test` names what the p-value is of: McNemar's exact test (one seed, right-or-wrong scores, one
question for each image), else a t or normal test of the clustered difference."""
NOTES_ON_RUNS = """\
Every run by itself: `overall` and the difference to the SFT-Seed of the same seed, in percent and
points, ± one standard error over test queries."""
AGAINST = "Against the same method without resampling and filter"
IDENTITY = ["model", "train_set", "method", "round", "seed"]


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
        table: As ``main.main_rows`` gives it.
        tasks: As ``main.task_rows`` gives it, for the marks behind the tasks' accuracies.
        scores: Scores of every run with a result, for the comparison of counterparts.
        reported: Published accuracies on the run's train set, for a column beside ``overall``.
    """
    title = f"Main results of suite `{suite.name}`"
    table = table.assign(marked=unlike(table["error"].tolist()))
    parts: list[str | Table] = [
        runs_sentence(table),
        *_with_constants_below(title, _main_cells(suite, table, tasks, reported), ""),
        NOTES,
    ]
    if table["marked"].any():
        parts.append(NOTE_ON_MARK)
    compared = _counterpart_cells(suite, scores)
    if len(compared):
        parts += [
            *_with_constants_below(AGAINST, compared, "against"),
            "Difference of `overall` in points, same seeds, same round, same query, with its 95 % interval. "
            "**Bold**: the interval excludes 0, each taken alone.",
        ]
    return Page("main", title, parts)


def tasks_page(suite: Suite, table: pd.DataFrame) -> Page:
    """Every accuracy with its interval, task by task."""
    title = f"Accuracies by task in suite `{suite.name}`"
    marked = unlike(table["error"].tolist())
    cells = table[["model", "train_set", "method", "round", "task", "status"]].copy().astype(object)
    cells = cells.where(cells.notna(), "")
    cells["accuracy"] = [
        with_interval(number(value), number(low), number(high))
        for value, low, high in table[["accuracy", "low", "high"]].itertuples(index=False, name=None)
    ]
    names = ["delta_sft_seed", "delta_low", "delta_high"]
    cells["Δ SFT-Seed"] = [
        with_interval(signed(value), signed(low), signed(high)) + (QUERIES_ALONE if alone else "")
        for (value, low, high), alone in zip(
            table[names].itertuples(index=False, name=None), marked, strict=True
        )
    ]
    cells["test"] = table["test"].fillna("")
    cells["p (Holm)"] = table["p_holm"].map(probability)
    notes = [NOTES_ON_TASKS, *([NOTE_ON_MARK] if any(marked) else [])]
    return Page("tasks", title, [*_with_constants_below(title, cells, ""), *notes])


def runs_page(suite: Suite, table: pd.DataFrame) -> Page:
    """Every run by itself."""
    title = f"Runs of suite `{suite.name}`"
    cells = table[[*IDENTITY, "status"]].copy()
    for task in suite.evaluated_tasks:
        cells[task] = table[task].map(number)
    cells["overall"] = [with_error(*pair) for pair in zip(table["overall"], table["se"], strict=True)]
    cells["Δ SFT-Seed"] = [
        _with_error(*pair) for pair in zip(table["delta_sft_seed"], table["delta_se"], strict=True)
    ]
    cells["train_samples"] = table["train_samples"].map(integer)
    cells["drawn"] = table["samples_drawn_total"].map(integer)
    return Page("runs", title, [*_with_constants_below(title, cells, ""), NOTES_ON_RUNS])


def runs_sentence(table: pd.DataFrame) -> str:
    """How many runs of the grid have a result, and how many have none."""
    found, missing = int(table["seeds"].sum()), int(table["missing"].sum())
    sentence = f"Runs of the grid: {found + missing}; with a result: {found}; without: {missing}"
    return f"{sentence}." if not missing else f"{sentence} (no positives to train on)."


def _main_cells(
    suite: Suite, table: pd.DataFrame, tasks: pd.DataFrame, reported: Mapping[Run, float] | None
) -> pd.DataFrame:
    cells = table[["model", "train_set", "method", "round", "status", "seeds"]].copy()
    names = list(table.columns)
    trained = names[names.index("missing") + 1 : names.index("overall")]
    outside = names[names.index("seed_sd") + 1 : names.index("delta_sft_seed")]
    starred = _starred(tasks)
    keys = list(table[["model", "train_set", "method", "round"]].itertuples(index=False, name=None))
    ranked = {name: _ranked(table, name) for name in [*trained, "overall", *outside]}

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
    cells["train_samples"] = table["train_samples"].map(integer)
    cells["drawn"] = table["samples_drawn_total"].map(integer)
    return cells


def _starred(tasks: pd.DataFrame) -> set[tuple[Any, ...]]:
    """Model, train set, method, round and task of what differs from SFT-Seed."""
    keys = ["model", "train_set", "method", "round", "task"]
    clear = tasks[tasks["p_holm"].astype(float) < LEVEL]
    return set(clear[keys].itertuples(index=False, name=None))


def _ranked(table: pd.DataFrame, name: str) -> list[str]:
    """The values of a column as text, of each model the best in bold and the second underlined."""
    shown = pd.Series([number(value) for value in table[name]], table.index)
    for _, own in table[table[name].notna()].groupby(["model", "train_set"], sort=False):
        best = sorted({float(shown[index]) for index in own.index}, reverse=True)
        for index in own.index if len(own) > 1 else []:
            place = best.index(float(shown[index]))
            if place < 2:
                shown[index] = f"**{shown[index]}**" if place == 0 else f"<u>{shown[index]}</u>"
    return list(shown)


def _delta(row: Mapping[Hashable, Any]) -> str:
    star = "\\*" if row["p_holm"] is not None and row["p_holm"] < LEVEL else ""
    shown = _with_error(row["delta_sft_seed"], row["delta_se"], star)
    return f"{shown}{QUERIES_ALONE}" if shown and row["marked"] else shown


def _with_error(value: float | None, error: float | None, star: str = "") -> str:
    shown = signed(value)
    return f"{shown}{star} ± {number(error)}" if shown and number(error) else shown


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
        value, low, high = (signed(100 * end) for end in (difference.mean, difference.low, difference.high))
        value = f"**{value}**" if difference.low > 0.0 or difference.high < 0.0 else value
        names = dict(zip(("model", "train_set", "method", "round", "against"), key, strict=True))
        rows.append(names | {"seeds": len(found), "difference": with_interval(value, low, high)})
    return pd.DataFrame(rows)


def _with_constants_below(caption: str, cells: pd.DataFrame, label: str) -> list[str | Table]:
    """The table without identity columns of one value, and a line that names their values."""
    constant = [
        name
        for name in ("train_set", "seed", "seeds", "status")
        if name in cells and cells[name].nunique(dropna=False) == 1 and len(cells) > 1
    ]
    parts: list[str | Table] = [Table(caption, cells.drop(columns=constant), label)]
    if constant:
        values = ", ".join(f"{name} `{cells[name].iloc[0]}`" for name in constant)
        parts.append(f"In every row: {values}.")
    return parts
