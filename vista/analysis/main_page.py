"""The main table to read (``main.md``, ``main.tex``).

The CSV beside it has every column and is what programs read; here columns that say the
same in every row are named once below the table, and errors stand behind their values.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vista.analysis.cells import integer, number, signed_with_error, with_error
from vista.analysis.collect import in_domain
from vista.analysis.comparisons import counterparts
from vista.analysis.page import Page, Table
from vista.analysis.stats import paired_difference
from vista.config import Suite
from vista.grid import Run

NOTES = """\
Accuracies are percentages of the test queries; `overall` is the mean over the tasks of the train
set, each task with the same weight. After ± stands one standard error in points, clustered on the
image with the finite correction C/(C−1) for C images. Differences are paired on the query and
clustered in the same way; **bold** ones exceed twice their standard error (each taken alone, without
a correction for many comparisons). `train_samples` counts the examples or pairs trained on,
`drawn` the solutions sampled up to and including that round."""

AGAINST = "Against the same method without resampling and filter"
IDENTITY = ["model", "train_set", "method", "round", "seed"]


def main_page(
    suite: Suite,
    table: pd.DataFrame,
    scores: Mapping[Run, pd.DataFrame],
    reported: Mapping[Run, float] | None = None,
) -> Page:
    """The main table, how many runs have a result, and the plain counterparts.

    Args:
        suite: The suite of the table.
        table: The main table in numbers, as ``tables.main_rows`` gives it.
        scores: Scores of every run with a result, for the comparison of counterparts.
        reported: Published accuracies on the run's train set, for a column beside ``overall``.
    """
    title = f"Main results of suite `{suite.name}`"
    parts: list[str | Table] = [
        runs_sentence(table),
        *_with_constants_below(title, _main_cells(suite, table, reported), ""),
        NOTES,
    ]
    compared = _counterpart_cells(suite, scores)
    if len(compared):
        parts += [
            *_with_constants_below(AGAINST, compared, "against"),
            "Difference of `overall` in points, same round, same query, ± one standard error.",
        ]
    return Page("main", title, parts)


def runs_sentence(table: pd.DataFrame) -> str:
    """How many runs of the grid have a result, how many have none, and why."""
    lacking = table[table["status"] != "complete"]
    present = len(table) - len(lacking)
    sentence = f"Runs of the grid: {len(table)}; with a result: {present}; without: {len(lacking)}"
    if lacking.empty:
        return f"{sentence}."
    counts = lacking["status"].value_counts(sort=False).sort_index()
    return f"{sentence} ({', '.join(f'{status}: {count}' for status, count in counts.items())})."


def _main_cells(
    suite: Suite, table: pd.DataFrame, reported: Mapping[Run, float] | None = None
) -> pd.DataFrame:
    cells = table[[*IDENTITY, "status"]].copy()
    values = list(table.columns)
    trained = values[values.index("status") + 1 : values.index("overall")]
    outside = values[values.index("se") + 1 : values.index("delta_sft_seed")]
    for task in trained:
        cells[task] = table[task].map(number)
    cells["overall"] = [with_error(*pair) for pair in zip(table["overall"], table["se"], strict=True)]
    if reported is not None:
        runs = (Run(**{name: row[name] for name in IDENTITY}) for row in table.to_dict("records"))
        cells["reported"] = [number(reported.get(run)) for run in runs]
    for task in outside:
        cells[task] = table[task].map(number)
    cells["Δ SFT-Seed"] = [
        signed_with_error(*pair) for pair in zip(table["delta_sft_seed"], table["delta_se"], strict=True)
    ]
    cells["train_samples"] = table["train_samples"].map(integer)
    cells["drawn"] = table["samples_drawn_total"].map(integer)
    return cells


def _counterpart_cells(suite: Suite, scores: Mapping[Run, pd.DataFrame]) -> pd.DataFrame:
    rows = []
    for comparison in counterparts(suite):
        run, against = comparison.run, comparison.against
        if run not in scores or against not in scores:
            continue
        pair = (in_domain(suite, each, scores[each]) for each in (run, against))
        difference = paired_difference(*pair)
        rows.append(
            {name: getattr(run, name) for name in IDENTITY}
            | {"against": against.method}
            | {"difference": signed_with_error(100 * difference.mean, 100 * difference.se)}
        )
    return pd.DataFrame(rows)


def _with_constants_below(caption: str, cells: pd.DataFrame, label: str) -> list[str | Table]:
    """The table without identity columns of one value, and a line that names their values."""
    constant = [
        name
        for name in ("train_set", "seed", "status")
        if name in cells and cells[name].nunique(dropna=False) == 1 and len(cells) > 1
    ]
    parts: list[str | Table] = [Table(caption, cells.drop(columns=constant), label)]
    if constant:
        values = ", ".join(f"{name} `{cells[name].iloc[0]}`" for name in constant)
        parts.append(f"In every row: {values}.")
    return parts
