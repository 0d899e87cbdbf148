"""What each round of self-improvement adds (``rounds.csv``, ``.md``, ``.tex``).

Part of ``vista tables``. A round is set against the policy that it sampled: its own method's checkpoint of
the round before, in the first round the one that the method starts from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from vista import grid
from vista.analysis.cells import NOTE_ON_MARK, QUERIES_ALONE, number, partial, signed
from vista.analysis.collect import in_domain
from vista.analysis.differences import corrected, difference_columns, difference_numbers
from vista.analysis.main import KEYS, Group
from vista.analysis.page import Page, Table
from vista.analysis.plan import methods_with_rounds
from vista.analysis.stats import paired_scores, unlike
from vista.config import Suite
from vista.grid import Run

GAIN = "gain"
COLUMNS = [
    *(*KEYS, "status", "seeds", "missing", "overall", "low", "high", "seed_sd"),
    *(*difference_columns(GAIN), "test", "p", "p_holm", "n_test"),
]
NOT_OF_MAIN = ("error", "p", "p_holm")  # those there are of the difference to SFT-Seed
NOTES = """\
Overall accuracy in percent, mean over seeds; in brackets, in points, what the round adds to the policy
that it sampled (its own method's checkpoint of the round before; in the first round the one that the
method starts from), paired on seed and query. \\* marks what differs from 0 after Holm's correction for
all rounds of the model (p < 0.05)."""


def round_rows(
    suite: Suite, groups: list[Group], main: pd.DataFrame, scores: Mapping[Run, pd.DataFrame]
) -> pd.DataFrame:
    """One row for each round of every method that has several, ``COLUMNS``.

    Args:
        suite: The suite of the tables.
        groups: The runs behind each row of ``main``.
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
            kept = {name: row[name] for name in COLUMNS if name in main and name not in NOT_OF_MAIN}
            rows.append(kept | difference_numbers(pairs, GAIN))
    return corrected(pd.DataFrame(rows, dtype=object).reindex(columns=COLUMNS))


def rounds_page(suite: Suite, table: pd.DataFrame) -> Page:
    """A row for each method, its rounds beside each other."""
    title = f"Rounds of self-improvement in suite `{suite.name}`"
    keys = ["model", "method"] if len(suite.train_sets) == 1 else ["model", "train_set", "method"]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    marked = unlike(table["error"].tolist())
    for row, alone in zip(table.to_dict("records"), marked, strict=True):
        names = {key: str(row[key]) for key in keys}
        cells = rows.setdefault(tuple(names.values()), names)
        star = "\\*" if row["p_holm"] is not None and row["p_holm"] < 0.05 else ""
        mark = QUERIES_ALONE if alone else ""
        gain = f" ({signed(row['gain'])}{star}{mark})" if row["gain"] is not None else ""
        shown = f"{number(row['overall'])}{gain}{partial(row['seeds'], row['missing'])}"
        cells[f"round {row['round']}"] = shown if row["seeds"] else str(row["status"])
    cells_of = pd.DataFrame(rows.values()).fillna("")
    notes = [NOTES, *([NOTE_ON_MARK] if any(marked) else [])]
    return Page("rounds", title, [Table(title, cells_of, ""), *notes])
