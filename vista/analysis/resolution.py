"""Which differences the suite can tell from nothing (``resolution.*``).

``vista resolution``, from only ``long.csv`` and the manifests' status. For each comparison of the ablation
table the variance of the difference taken apart, the smallest difference that the table's test finds
(``vista.analysis.power``), with these and with other numbers of seeds, and how many seeds it takes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vista.analysis.collect import read_long, run_statuses, scores_by_run
from vista.analysis.page import Page, Table, as_text, at_least, integer, number, of_all, write_table
from vista.analysis.pairs import TITLES, compared, differences, how_many
from vista.analysis.power import Variances, power, seeds_in_common, seeds_needed, smallest_difference
from vista.analysis.stats import PERCENT, QUERIES, pooled_difference
from vista.config import Suite
from vista.grid import Run
from vista.manifest import Recorder, Status
from vista.paths import Paths

SEEDS = (3, 5, 10)  # that a suite may have
WANTED = (1.5, 0.8)  # points that one may want to tell apart
NAMES = ["kind", "method", "against", "model", "train_set", "round", "last", "status"]
PARTS = ["sd_queries", "sd_seeds", "sd_tasks", "sd_residual"]
COLUMNS = [
    *(*NAMES, "models", "runs", "missing", "error", "seed_sd", *PARTS, "pooled_sd", "pooled_df"),
    *("detectable", "false_alarms", *(f"detectable_{seeds}" for seeds in SEEDS)),
    *(f"seeds_for_{points}" for points in WANTED),
]
NOTES = """\
`detectable`: the smallest true difference, in points, that the test of the ablation table finds with a
power of 80 % (two-sided, 5 %, before Holm's correction), over other test queries and other seeds; behind it
the same with other numbers of seeds, and how many seeds of each model find 1.5 and 0.8 points (empty: more
test queries are needed, or no comparison of the same model and round has a second seed). `seed sd`: how a
difference scatters between seeds, pooled over the comparisons of the same model, train set and round.
`queries`, `seeds`, `tasks` and `residual` take the difference of one pair of runs apart: standard deviations
in points from which queries are asked, from the seed (all tasks alike, and each task by itself), and from
single answers. `false alarms`: of 100 comparisons of equal methods, how many the test calls different."""
NOTE_ON_BOUND = """\
≥: with one seed, the variance between seeds is unknown to the test. The number is from test queries alone,
and holds for these very checkpoints; between methods the smallest difference is larger."""
NO_SEEDS = """\
No comparison has a second seed, so nothing here tells how results scatter between seeds; `vista plan` says
what to assume of it."""


def resolution_table(suite: Suite, paths: Paths) -> None:
    """Write ``resolution.csv``, ``.md`` and ``.tex``.

    Raises:
        VistaError: a run has not been evaluated, or ``long.csv`` is not up to date.
    """
    recorder = Recorder("analysis", {"suite": suite.name}, [paths.long])
    table = resolution_rows(suite, run_statuses(suite, paths), scores_by_run(read_long(paths.long)))
    write_table(paths, recorder, as_text(table), resolution_page(suite, table), {"rows": len(table)})


def resolution_rows(
    suite: Suite, statuses: Mapping[Run, Status], scores: Mapping[Run, pd.DataFrame]
) -> pd.DataFrame:
    """The table in numbers: the rows of the ablation table.

    Args:
        suite: The suite whose grid the runs are.
        statuses: Status of every run of the grid.
        scores: Scores of every run with a result.

    Returns:
        ``COLUMNS``; standard deviations and differences in percentage points, unrounded; ``None`` where there
        is no number.
    """
    rows: list[dict[str, Any]] = []
    variances: list[Variances | None] = []
    for names, pairs in compared(suite, statuses, scores):
        row = {name: names[name] for name in NAMES if name in names} | how_many(pairs)
        found = differences(pairs)
        variances.append(None)
        if found:
            difference = pooled_difference(found)
            variances[-1] = difference.variances
            row |= {"error": difference.error} | taken_apart(found, difference.variances)
        rows.append(row)
    for row, own, shared in zip(rows, variances, seeds_in_common(rows, variances), strict=True):
        if own is not None and shared is not None:
            row |= _found_with(own, shared, row["models"])
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    return table.where(table.notna(), None)


def _found_with(own: Variances, shared: Variances, models: int) -> dict[str, Any]:
    """What the test finds with the row's own number of seeds, and with others."""
    row: dict[str, Any] = {"detectable": smallest_difference(shared) * PERCENT}
    if own.freedom:
        row["seed_sd"] = math.sqrt(own.seeds) * PERCENT
    if math.isnan(shared.seeds):
        return row
    row |= {"pooled_sd": math.sqrt(shared.seeds) * PERCENT, "pooled_df": shared.known}
    row["false_alarms"] = power(shared, 0.0) * PERCENT
    row |= {f"detectable_{seeds}": smallest_difference(shared.at(seeds, models)) * PERCENT for seeds in SEEDS}
    return row | {f"seeds_for_{points}": seeds_needed(shared, models, points / PERCENT) for points in WANTED}


def taken_apart(pairs: Mapping[tuple[str, int], pd.DataFrame], variances: Variances) -> dict[str, float]:
    """``PARTS``; their squares add up to the variance of the difference of one pair of runs.

    Between seeds, all tasks may move together, or each by itself: the former is the covariance of two tasks'
    means over seeds, the latter the rest. Both are without what single answers add to such a mean. A negative
    estimate is 0.
    """
    if not variances.freedom:
        return {}
    between = max(variances.seeds - variances.residual, 0.0)
    parts = {"sd_queries": variances.fixed, "sd_residual": variances.residual, "sd_seeds": between}
    tasks = list(dict.fromkeys(next(iter(pairs.values()))["task"]))
    if len(tasks) > 1:
        single = [_between_seeds({key: _of(frame, task) for key, frame in pairs.items()}) for task in tasks]
        covariance = len(tasks) ** 2 * (variances.seeds - variances.residual) - math.fsum(single)
        alike = min(max(covariance / (len(tasks) * (len(tasks) - 1)), 0.0), between)
        parts |= {"sd_seeds": alike, "sd_tasks": between - alike}
    return {name: math.sqrt(part) * PERCENT for name, part in parts.items()}


def _of(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    return frame[frame["task"] == task]


def _between_seeds(pairs: Mapping[tuple[str, int], pd.DataFrame]) -> float:
    """The variance between seeds, without what single answers add to it."""
    found = pooled_difference(pairs).variances
    return found.seeds - found.residual


# --- the table to read ---


def resolution_page(suite: Suite, table: pd.DataFrame) -> Page:
    """A section for each kind of comparison, in the last round of each; a sentence for the whole suite."""
    parts: list[str | Table] = [_sentence(table)] if len(table) else []
    last = table[table["last"].astype(bool)] if len(table) else table
    for kind, title in TITLES.items():
        own = last[last["kind"] == kind]
        if len(own):
            parts.append(Table(title, _cells(suite, own), kind))
    parts.append(NOTES if len(table) else "No two methods of this suite are compared.")
    if (table["error"] == QUERIES).any():
        parts.append(NOTE_ON_BOUND)
    return Page("resolution", f"Resolution of suite `{suite.name}`", parts)


def _sentence(table: pd.DataFrame) -> str:
    """What the comparisons find, the median of each model and round, if anything tells."""
    known = table[table["pooled_sd"].notna() & (table["error"] != QUERIES)]
    if not len(known):
        return NO_SEEDS
    by_round = known.groupby(["model", "train_set", "round"], sort=False)["detectable"]
    listed = [
        f"{model}, {train_set}, round {number_of}: {number(statistics.median(own))}"
        for (model, train_set, number_of), own in by_round
    ]
    return f"Smallest differences in points, medians over the comparisons: {'; '.join(listed)}."


def _cells(suite: Suite, table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in table.to_dict("records"):
        cells = {name: str(row[name]) for name in ("method", "against", "model", "train_set", "round")}
        if len(suite.train_sets) == 1:
            del cells["train_set"]
        cells |= {"runs": of_all(row["runs"], row["missing"]), "seed sd": number(row["pooled_sd"])}
        cells |= {name.removeprefix("sd_"): number(row[name]) for name in PARTS}
        cells |= {"detectable": at_least(row["detectable"], row["error"] == QUERIES) or str(row["status"])}
        cells |= {f"{seeds} seeds": number(row[f"detectable_{seeds}"]) for seeds in SEEDS}
        cells |= {f"for {points}": integer(row[f"seeds_for_{points}"]) for points in WANTED}
        rows.append(cells | {"false alarms": number(row["false_alarms"])})
    return pd.DataFrame(rows)
