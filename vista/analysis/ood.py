"""Accuracy on the tasks that nothing is trained on (``ood.csv``, ``.md``, ``.tex``).

Part of ``vista tables``: the rows of ``tasks.csv`` of these tasks, of every method in its last round.
"""

from __future__ import annotations

import pandas as pd

from vista.analysis.cells import NOTE_ON_MARK, QUERIES_ALONE, number, partial, signed, with_interval
from vista.analysis.page import Page, Table
from vista.analysis.stats import unlike
from vista.config import Suite

NOTES = """\
Accuracy in percent on tasks that nothing is trained on, mean over seeds, with its 95 % interval over
other test images; every method in its last round. Δ: difference to SFT-Seed in points, with its
interval. \\* marks what differs from SFT-Seed after Holm's correction for all rows and tasks of the model
(p < 0.05)."""


def ood_rows(suite: Suite, tasks: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``main.task_rows`` on tasks out of domain, in each method's last round."""
    last = tasks.groupby(["model", "train_set", "method"])["round"].transform("max")
    # A run without a result has one row, for no task.
    kept = tasks["task"].isin(suite.out_of_domain) | tasks["task"].isna()
    return tasks[kept & (tasks["round"] == last)].reset_index(drop=True)


def ood_page(suite: Suite, table: pd.DataFrame) -> Page:
    """A row for each method, the tasks beside each other."""
    title = f"Out of domain in suite `{suite.name}`"
    keys = ["model", "train_set", "method", "round"]
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
        star = "\\*" if row["p_holm"] is not None and row["p_holm"] < 0.05 else ""
        accuracy, delta = (
            with_interval(shown, *(text(row[end]) for end in ends))
            for shown, text, ends in (
                (number(row["accuracy"]), number, ("low", "high")),
                (signed(row["delta_sft_seed"]) + star, signed, ("delta_low", "delta_high")),
            )
        )
        mark = QUERIES_ALONE if alone else ""
        accuracy += partial(row["seeds"], row["missing"])
        cells |= {row["task"]: accuracy, f"Δ {row['task']}": f"{delta}{mark}"}
    notes = [NOTES, *([NOTE_ON_MARK] if any(marked) else [])]
    return Page("ood", title, [Table(title, pd.DataFrame(rows.values()).fillna(""), ""), *notes])
