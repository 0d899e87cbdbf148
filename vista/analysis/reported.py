"""Published accuracies compared with the reproduced ones (``reported.csv``, ``.md``, ``.tex``).

Part of ``vista tables`` in suites that set ``reported``. The file uses the suite's names of models,
methods and tasks; ``mean`` is the mean over the tasks that are trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from vista import grid
from vista.analysis.collect import in_domain
from vista.analysis.page import Page, Table, number, signed
from vista.analysis.stats import PERCENT, bootstrap_interval, overall_mean
from vista.config import Suite
from vista.errors import VistaError, fail_if

FILE_COLUMNS = ["model", "method", "round", "task", "accuracy", "source"]
KEY = ["model", "method", "round", "task"]
MEAN = "mean"
COLUMNS = [
    *("model", "train_set", "method", "round", "seed", "task"),
    *("reproduced", "low", "high", "reported", "difference", "source"),
]
NOTES = """\
Accuracies are percentages. `low` and `high` bound the 95 % confidence interval of the reproduced one,
by drawing the images again (2,000 times) as in the main table; it says nothing about other training
seeds, nor about the error of the reported number. `difference` is reproduced minus reported, in points.
`mean` is over the tasks that are trained on; where each task has its own checkpoint, over these
checkpoints. A row without a reproduced number is a method or round that this suite does not have, or a run
without a result."""

Key = tuple[str, str, int, str]


def read_reported(path: Path) -> pd.DataFrame:
    """The published accuracies, in percent.

    Raises:
        VistaError: the file is missing or has other columns; or lists every row with an empty cell, a
            number out of range, or the key of an earlier row.
    """
    if not path.is_file():
        raise VistaError(f"{path}: no such file; correct `reported` in the suite file")
    frame = pd.read_csv(path, dtype="str", keep_default_na=False)
    if list(frame.columns) != FILE_COLUMNS:
        raise VistaError(f"{path}: expected the columns {FILE_COLUMNS}, found {list(frame.columns)}")
    problems = []
    for index, row in frame.iterrows():
        where = f"{path}: line {int(str(index)) + 2}"
        empty = [name for name in FILE_COLUMNS if not row[name].strip()]
        problems += [f"{where}: {name}: empty; leave the row out if it is not known" for name in empty]
    for name, wanted, low, high in (("round", "a whole number", 0, 99), ("accuracy", "a percentage", 0, 100)):
        values = pd.to_numeric(frame[name], errors="coerce")
        wrong = ~values.between(low, high) | ((name == "round") & (values % 1 != 0))
        problems += [
            f"{path}: line {int(str(index)) + 2}: {name}: expected {wanted}, found {text!r}"
            for index, text in frame.loc[wrong & (frame[name] != ""), name].items()
        ]
    problems += [
        f"{path}: line {int(str(index)) + 2}: {'/'.join(row)} is in an earlier line already"
        for index, row in frame.loc[frame.duplicated(KEY), KEY].iterrows()
    ]
    fail_if(problems, "The reported accuracies have errors:")
    return frame.astype({"round": "int64", "accuracy": "float64"})


def reported_rows(
    suite: Suite, scores: Mapping[grid.Run, pd.DataFrame], reported: pd.DataFrame
) -> pd.DataFrame:
    """Every published accuracy of the suite's models, with each reproduction of it.

    Args:
        suite: The suite whose grid the runs are.
        scores: ``task, query_id, cluster_id, score`` of every run with a result.
        reported: As ``read_reported`` gives it.

    Returns:
        The columns of ``COLUMNS``; percentages, unrounded; ``None`` where there is no number.
    """
    found = estimates(suite, scores, averaged_tasks(suite, reported))
    rows: list[dict[str, Any]] = []
    for row in reported[reported["model"].isin(suite.every_model)].to_dict("records"):
        key = (row["model"], row["method"], row["round"], row["task"])
        base = {name: row[name] for name in (*KEY, "source")} | {"reported": row["accuracy"]}
        rows += [
            base | each | {"difference": each["reproduced"] - row["accuracy"]} for each in found.get(key, [])
        ] or [base]
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    return table.where(table.notna(), None)


def averaged_tasks(suite: Suite, reported: pd.DataFrame) -> list[str]:
    """The tasks that a published mean is over: those in domain with numbers of their own."""
    named = set(reported["task"]) - {MEAN} - set(suite.out_of_domain)
    return (
        [task for task in suite.evaluated_tasks if task in named]
        if named <= set(suite.evaluated_tasks)
        else []
    )


def estimates(
    suite: Suite, scores: Mapping[grid.Run, pd.DataFrame], averaged: list[str]
) -> dict[Key, list[dict[str, Any]]]:
    """Every accuracy that may be compared with a published one, by model, method, round and task.

    Args:
        suite: The suite whose grid the runs are.
        scores: Scores of every run with a result.
        averaged: The tasks that a published mean is over.

    Returns:
        For each key ``train_set``, ``seed``, ``reproduced``, ``low`` and ``high`` of each reproduction, in
        percent.
    """
    found: dict[Key, list[dict[str, Any]]] = {}

    def add(run: grid.Run, train_set: str, task: str, rows: Iterable[pd.DataFrame]) -> None:
        own = pd.concat(list(rows))
        numbers = (overall_mean(own).mean, *bootstrap_interval(own))
        row: dict[str, Any] = {"train_set": train_set, "seed": run.seed}
        row |= {
            name: value * PERCENT for name, value in zip(("reproduced", "low", "high"), numbers, strict=True)
        }
        found.setdefault((run.model, run.method, run.round, task), []).append(row)

    for run, rows in scores.items():
        for task in [*suite.train_sets[run.train_set], *suite.out_of_domain]:
            add(run, run.train_set, task, [rows[rows["task"] == task]])
    for run, sets in _covering(suite, averaged):
        parts = [replace(run, train_set=name) for name in sets]
        if all(part in scores for part in parts):
            add(run, " + ".join(sets), MEAN, [in_domain(suite, part, scores[part]) for part in parts])
    return found


def _covering(suite: Suite, averaged: list[str]) -> list[tuple[grid.Run, list[str]]]:
    """Each run with train sets that hold the averaged tasks, each once: its own, or one for each task."""
    whole = [[name] for name, tasks in suite.train_sets.items() if sorted(tasks) == sorted(averaged)]
    single = {tasks[0]: name for name, tasks in suite.train_sets.items() if len(tasks) == 1}
    if len(averaged) > 1 and set(averaged) <= set(single):
        whole.append([single[task] for task in averaged])
    return [(run, sets) for sets in whole for run in grid.runs(suite) if run.train_set == sets[0]]


def reported_overall(suite: Suite, reported: pd.DataFrame) -> dict[grid.Run, float]:
    """For each run of the grid, the published accuracy on its train set, where there is one."""
    known = {
        tuple(row[:4]): row[4] for row in reported[[*KEY, "accuracy"]].itertuples(index=False, name=None)
    }
    averaged = averaged_tasks(suite, reported)
    found = {}
    for run in grid.runs(suite):
        tasks = suite.train_sets[run.train_set]
        task = tasks[0] if len(tasks) == 1 else MEAN if sorted(tasks) == sorted(averaged) else None
        value = known.get((run.model, run.method, run.round, task))
        if value is not None:
            found[run] = float(value)
    return found


def reported_page(suite: Suite, table: pd.DataFrame) -> Page:
    """The comparison to read."""
    cells = table.drop(columns=["source"]).astype(object).where(table.notna(), "")
    for name in ("reproduced", "low", "high", "reported"):
        cells[name] = table[name].map(number)
    cells["difference"] = table["difference"].map(signed)
    sources = ", ".join(dict.fromkeys(str(source) for source in table["source"]))
    title = f"Suite `{suite.name}` compared with the reported numbers"
    parts: list[str | Table] = [
        Table(title, cells, ""),
        f"Reported in: {sources}." if sources else "No reported number is about a model of this suite.",
        NOTES,
    ]
    return Page("reported", title, parts)
