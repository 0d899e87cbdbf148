"""Which differences a suite will tell from nothing, before it has run; printed by ``vista plan``.

The variances are those of an earlier run in the same results folder (``tables/resolution.csv``) or, where
there is none with a second seed, assumptions that name their source.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vista.analysis.comparisons import ALL_MODELS, contrasts
from vista.analysis.power import Variances, power, seeds_needed, smallest_difference
from vista.config import Suite
from vista.errors import VistaError
from vista.grid import runs
from vista.paths import Paths
from vista.planning.assumptions import Assumptions
from vista.planning.estimate import queries

WANTED = (1.5, 0.8)  # points that one may want to tell apart
COLUMNS = ["model", "train_set", "round", "sd_queries", "sd_residual", "pooled_sd", "pooled_df"]


@dataclass(frozen=True)
class Resolution:
    """What the tables find of two methods of one model, or of all together, on one train set."""

    model: str
    train_set: str
    round: int
    seeds: int
    detectable: float  # points
    false_alarms: float  # percent
    seeds_needed: dict[str, int | None]  # by points
    source: str


def resolutions(suite: Suite, assumptions: Assumptions) -> list[Resolution]:
    """The resolution after one round and after the last one; nothing where no two methods are compared.

    Raises:
        VistaError: the results have a table of resolution that cannot be read.
    """
    if not contrasts(suite):
        return []
    table = Paths(suite.results).table("resolution", "csv")
    found = list(_measured(suite, table)) if table.is_file() else []
    return found or list(_assumed(suite, assumptions))


def _assumed(suite: Suite, assumptions: Assumptions) -> Iterator[Resolution]:
    for train_set, tasks in suite.train_sets.items():
        # Every task has the same weight, however many queries it has.
        share = math.fsum(1.0 / queries(suite, task, "test") for task in tasks) / len(tasks) ** 2
        fixed, residual = (sd**2 * share for sd in (assumptions.query_sd, assumptions.answer_sd))
        last = max(run.round for run in runs(suite) if run.train_set == train_set)
        for number in sorted({1, last} if last else set()):
            sd = assumptions.seed_sd if number == 1 else assumptions.later_seed_sd
            known = Variances(fixed + residual, sd**2 + residual, residual, 1.0, 0, math.inf)
            for model, models in (("one model", 1), (ALL_MODELS, len(suite.models))):
                if models != 1 or model != ALL_MODELS:
                    yield _of(suite, known, (model, models), train_set, number, "assumptions")


def _measured(suite: Suite, table: Path) -> Iterator[Resolution]:
    groups: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    try:
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                values = {name: float(row[name]) for name in COLUMNS[3:] if row[name]}
                if len(values) == len(COLUMNS) - 3:
                    groups.setdefault((row["model"], row["train_set"], int(row["round"])), []).append(values)
    except (OSError, ValueError, KeyError) as error:
        raise VistaError(
            f"{table}: expected a table with the columns {', '.join(COLUMNS)}, found {error!r}; delete it, "
            "and make it again"
        ) from error
    last = {(model, train_set): number for model, train_set, number in sorted(groups)}
    for (model, train_set, number), rows in groups.items():
        if number not in (1, last[model, train_set]) or train_set not in suite.train_sets:
            continue
        models = len(suite.models) if model == ALL_MODELS else 1
        if model != ALL_MODELS and model not in suite.models:
            continue
        fixed, residual = (
            statistics.median(row[name] for row in rows) ** 2 for name in ("sd_queries", "sd_residual")
        )
        seeds, known = rows[0]["pooled_sd"] ** 2, rows[0]["pooled_df"]
        variances = Variances(fixed + residual, seeds, residual, 1.0, 0, known)
        yield _of(suite, variances, (model, models), train_set, number, str(table))


def _of(
    suite: Suite, one: Variances, of: tuple[str, int], train_set: str, number: int, source: str
) -> Resolution:
    model, models = of
    planned = one.at(len(suite.seeds), models)
    return Resolution(
        model,
        train_set,
        number,
        len(suite.seeds),
        smallest_difference(planned),
        100.0 * power(planned, 0.0),
        {f"{points:g}": seeds_needed(one, models, points) for points in WANTED},
        source,
    )
