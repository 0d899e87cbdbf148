"""The results tables: ``main``, ``tasks``, ``runs``; by train set, by round, out of domain, blind; published.

Stage ``analysis``; ``vista tables`` writes them.

Reads ``long.csv`` and what the manifests count. Nothing in the files depends on when, where or how fast the
runs were made, so equal results give equal bytes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

from vista import grid
from vista.analysis.blind import blind_page, blind_rows
from vista.analysis.collect import in_domain, read_long, run_statuses, scores_by_run
from vista.analysis.main import (
    KEYS,
    Group,
    groups,
    main_page,
    main_rows,
    ranked_by_model,
    task_rows,
    tasks_page,
)
from vista.analysis.page import (
    NOTE_ON_DAGGER,
    Page,
    Table,
    as_text,
    columns_shown,
    dagger,
    number,
    partial,
    rows_shown,
    signed,
    star,
    with_interval,
    write_table,
)
from vista.analysis.plan import methods_with_rounds, results_names
from vista.analysis.reported import read_reported, reported_overall, reported_page, reported_rows
from vista.analysis.runs import run_cost, run_rows, runs_page, with_shared_images
from vista.analysis.stats import (
    corrected,
    difference_columns,
    difference_numbers,
    paired_scores,
    unlike,
)
from vista.config import ResultsTable, Suite
from vista.manifest import Recorder
from vista.paths import Paths

Draw = Callable[[pd.DataFrame], Page]  # a table's page from the rows that are shown


def results_tables(suite: Suite, paths: Paths) -> None:
    """Write the tables from ``long.csv`` and the manifests.

    Raises:
        VistaError: a run or manifest is missing, or ``long.csv`` is not up to date.
    """
    published = [] if suite.reported is None else [suite.reported]
    recorder = Recorder("analysis", {"suite": suite.name}, [paths.long, *published])
    reported = None if suite.reported is None else read_reported(suite.reported)
    statuses = run_statuses(suite, paths)
    costs = {run: run_cost(suite, paths, run) for run in statuses}
    scores = scores_by_run(read_long(paths.long))

    def write(name: ResultsTable, table: pd.DataFrame, page: Draw, **more: int) -> None:
        """A table, and its page as the suite has it shown."""
        choice = suite.tables.get(name)
        shown = columns_shown(page(rows_shown(table, choice)), choice)
        write_table(paths, recorder, as_text(table), shown, {"rows": len(table), **more})

    runs = run_rows(suite, statuses, scores, costs)
    with_result = int((runs["status"] == "complete").sum())
    write("runs", runs, lambda shown: runs_page(suite, shown), with_result=with_result)

    tasks = with_shared_images(suite, paths, task_rows(suite, statuses, scores))
    write("tasks", tasks, lambda shown: tasks_page(suite, shown))

    names = results_names(suite)
    if "ood" in names:
        write("ood", ood_rows(suite, tasks), lambda shown: ood_page(suite, shown))

    if "blind" in names:
        write(
            "blind",
            blind_rows(suite, groups(statuses, scores), scores),
            lambda shown: blind_page(suite, shown),
        )

    main = main_rows(suite, statuses, scores, costs)
    overall = None if reported is None else reported_overall(suite, reported)
    write("main", main, lambda _: main_page(suite, main, tasks, scores, overall), with_result=with_result)

    if "benchmarks" in names:
        write("benchmarks", benchmark_rows(suite, main), lambda shown: benchmarks_page(suite, shown))

    if "rounds" in names:
        rounds = round_rows(suite, groups(statuses, scores), main, scores)
        write("rounds", rounds, lambda shown: rounds_page(suite, shown))

    if reported is not None:
        compared = reported_rows(suite, scores, reported)
        page = reported_page(suite, compared)
        write_table(paths, recorder, as_text(compared), page, {"rows": len(compared)})


GAIN = "gain"
ROUND_COLUMNS = [
    *(*KEYS, "status", "seeds", "missing", "overall", "low", "high", "seed_sd"),
    *(*difference_columns(GAIN), "test", "p", "p_holm", "n_test"),
]
NOT_OF_MAIN = ("error", "p", "p_holm")  # those there are of the difference to SFT-Seed
NOTES_ON_ROUNDS = """\
Overall accuracy in percent, mean over seeds; in brackets, in points, what the round adds to the policy
that it sampled (its own method's checkpoint of the round before; in the first round the one that the
method starts from), paired on seed and query. \\* marks what differs from 0 after Holm's correction for
all rounds of the model (p < 0.05)."""
NOTES_ON_OOD = """\
Accuracy in percent on tasks that nothing is trained on, mean over seeds, with its 95 % interval over
other test images; every method in its last round. Δ: difference to SFT-Seed in points, with its
interval. \\* marks what differs from SFT-Seed after Holm's correction for all rows and tasks of the model
(p < 0.05)."""


def round_rows(
    suite: Suite, groups: list[Group], main: pd.DataFrame, scores: Mapping[grid.Run, pd.DataFrame]
) -> pd.DataFrame:
    """One row for each round of every method that has several, ``ROUND_COLUMNS``.

    Args:
        suite: The suite of the tables.
        groups: The runs of each row of ``main``.
        main: The main table in numbers.
        scores: Scores of every run with a result.
    """
    several = set(methods_with_rounds(suite))
    rows: list[dict[str, Any]] = []
    for group, row in zip(groups, main.to_dict("records"), strict=True):
        if group.method in several:
            pairs = {
                (run.model, run.seed): paired_scores(
                    *(in_domain(suite, run, scores[each]) for each in (run, policy))
                )
                for run in group.found
                if (policy := grid.policy(suite, run)) in scores
            }
            kept = {name: row[name] for name in ROUND_COLUMNS if name in main and name not in NOT_OF_MAIN}
            rows.append(kept | difference_numbers(pairs, GAIN))
    return corrected(pd.DataFrame(rows, dtype=object).reindex(columns=ROUND_COLUMNS))


def rounds_page(suite: Suite, table: pd.DataFrame) -> Page:
    """A row for each method, its rounds beside each other."""
    title = f"Rounds of self-improvement in suite `{suite.name}`"
    keys = ["model", "method"] if len(suite.train_sets) == 1 else ["model", "train_set", "method"]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    marked = unlike(table["error"].tolist())
    for row, alone in zip(table.to_dict("records"), marked, strict=True):
        names = {key: str(row[key]) for key in keys}
        cells = rows.setdefault(tuple(names.values()), names)
        marks = star(row["p_holm"]) + dagger(alone)
        gain = f" ({signed(row['gain'])}{marks})" if row["gain"] is not None else ""
        shown = f"{number(row['overall'])}{gain}{partial(row['seeds'], row['missing'])}"
        cells[f"round {row['round']}"] = shown if row["seeds"] else str(row["status"])
    cells_of = pd.DataFrame(rows.values()).fillna("")
    notes = [NOTES_ON_ROUNDS, *([NOTE_ON_DAGGER] if any(marked) else [])]
    return Page("rounds", title, [Table(title, cells_of, ""), *notes])


# --- out of domain ---


def ood_rows(suite: Suite, tasks: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``main.task_rows`` on tasks out of domain, in each method's last round."""
    last = tasks.groupby(["model", "train_set", "method"])["round"].transform("max")
    # A run without a result has one row, for no task.
    kept = tasks["task"].isin(suite.out_of_domain) | tasks["task"].isna()
    return tasks[kept & (tasks["round"] == last)].reset_index(drop=True)


def ood_page(suite: Suite, table: pd.DataFrame) -> Page:
    """A row for each method, the tasks beside each other."""
    title = f"Out of domain in suite `{suite.name}`"
    keys = list(KEYS)
    if len(suite.train_sets) == 1:
        keys.remove("train_set")
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    marked = unlike(table["error"].tolist())
    for row, alone in zip(table.to_dict("records"), marked, strict=True):
        names = {key: str(row[key]) for key in keys}
        cells = rows.setdefault(tuple(names.values()), names)
        if not row["seeds"]:
            cells |= {task: str(row["status"]) for task in suite.out_of_domain}
            continue
        accuracy, delta = (
            with_interval(shown, *(text(row[end]) for end in ends))
            for shown, text, ends in (
                (number(row["accuracy"]), number, ("low", "high")),
                (signed(row["delta_sft_seed"]) + star(row["p_holm"]), signed, ("delta_low", "delta_high")),
            )
        )
        accuracy += partial(row["seeds"], row["missing"])
        cells |= {row["task"]: accuracy, f"Δ {row['task']}": delta + dagger(alone)}
    notes = [NOTES_ON_OOD, *([NOTE_ON_DAGGER] if any(marked) else [])]
    return Page("ood", title, [Table(title, pd.DataFrame(rows.values()).fillna(""), ""), *notes])


# --- methods × benchmarks ---


BENCHMARK_COLUMNS = [*KEYS, "status", "seeds", "missing", "overall", "se"]
NOTES_ON_BENCHMARKS = """\
`overall` of every method in its last round, in percent: for each train set that of the checkpoint trained
on it, on its own test queries, mean over seeds. After ± stands one standard error over test queries.
`mean` gives each train set the same weight; it is there only if all of them have a result, and its error
takes their test queries as independent. Of each model the best value of a column is **bold**, the second
<u>underlined</u>."""


def benchmark_rows(suite: Suite, main: pd.DataFrame) -> pd.DataFrame:
    """The main table's row of each method's last round, and its mean over the train sets after them.

    ``BENCHMARK_COLUMNS``. A mean's row has the names of all train sets, and no number if one has no result.
    """
    every = list(suite.train_sets)
    last = main.groupby(["model", "train_set", "method"])["round"].transform("max")
    rows: list[dict[Hashable, Any]] = []
    for (model, method), own in main[main["round"] == last].groupby(["model", "method"], sort=False):
        rows += own[BENCHMARK_COLUMNS].to_dict("records")
        found = own[own["overall"].notna()]
        row: dict[Hashable, Any] = {"model": model, "train_set": " + ".join(every), "method": method}
        row |= {name: int(own[name].sum()) for name in ("seeds", "missing")}
        row |= {"round": own["round"].max(), "status": "partial"}
        if set(own["status"]) == {"complete"}:
            row["status"] = "complete"
        if set(found["train_set"]) == set(every):
            row["overall"] = statistics.fmean(found["overall"])
            row["se"] = math.hypot(*found["se"]) / len(every)
        rows.append(row)
    return pd.DataFrame(rows, dtype=object).reindex(columns=BENCHMARK_COLUMNS)


def benchmarks_page(suite: Suite, table: pd.DataFrame) -> Page:
    """A row for each method, the train sets beside each other, and their mean."""
    title = f"Methods by train set in suite `{suite.name}`"
    names = [*suite.train_sets, "mean"]
    rows: dict[tuple[str, str], list[str]] = {}
    for row, value in zip(table.to_dict("records"), ranked_by_model(table, "overall"), strict=True):
        cells = rows.setdefault((row["model"], row["method"]), [""] * len(names))
        is_mean = row["train_set"] not in suite.train_sets
        shown = f"{value} ± {number(row['se'])}" if value and number(row["se"]) else value
        if not is_mean:
            shown = f"{shown}{partial(row['seeds'], row['missing'])}" if row["seeds"] else str(row["status"])
        cells[-1 if is_mean else names.index(row["train_set"])] = shown
    cells_of = pd.DataFrame([[*key, *cells] for key, cells in rows.items()])
    cells_of.columns = pd.Index(["model", "method", *names])
    return Page("benchmarks", title, [Table(title, cells_of, ""), NOTES_ON_BENCHMARKS])
