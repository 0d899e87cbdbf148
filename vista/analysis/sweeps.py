"""One table for each sweep of the suite (``sweep_tau.csv`` and its like, ``.md``, ``.tex``).

Part of ``vista ablation``: the rows of the ablation table of one sweep, value by value, with the value
that the method itself has.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from vista.analysis.cells import QUERIES_ALONE, number, probability, signed, with_interval
from vista.analysis.page import Page, Table
from vista.analysis.plan import sweep_name, sweeps
from vista.analysis.stats import unlike
from vista.config import Suite

KEPT = [
    *("model", "train_set", "round", "status", "models", "runs", "missing", "accuracy", "against_accuracy"),
    *("difference", "se", "low", "high", "error", "p", "p_holm", "n_test"),
]
COLUMNS = ["setting", "value", "default", "method", "against", *KEPT, "marked"]
NOTES = """\
Overall accuracy in percent; `difference` is to the same method with its own value, in points, in the same
round, paired on model, seed and query, with its 95 % interval. `p (Holm)` is that of the ablation table,
corrected for all its comparisons in their last round. **Bold**: below 0.05."""
NOTE_ON_MARK = f"""\
{QUERIES_ALONE}: the interval is over test queries alone, as there is no second seed. It looks surer than
others of the ablation table, so there is no `p (Holm)`."""


def sweep_rows(suite: Suite, ablation: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By sweep its table in numbers, ``COLUMNS``; the values in the order of the suite.

    ``marked`` says that a row lacks the error over seeds that others of the ablation table have.

    Args:
        suite: The suite of the sweeps.
        ablation: The ablation table in numbers.
    """
    found = {}
    ablation = ablation.assign(marked=unlike(ablation["error"].tolist()))
    for sweep, methods in sweeps(suite).items():
        rows = ablation[(ablation["kind"] == "sweep") & ablation["method"].isin(methods)]
        swept = [suite.swept[method] for method in rows["method"]]
        settings = [
            {"setting": each.set, "value": str(each.value), "default": str(_own(suite, each.of, each.set))}
            for each in swept
        ]
        beside = pd.DataFrame(
            settings, index=rows.index, columns=["setting", "value", "default"], dtype=object
        )
        found[sweep] = pd.concat([beside, rows[["method", "against", *KEPT, "marked"]]], axis=1)[
            COLUMNS
        ].reset_index(drop=True)
    return found


def _own(suite: Suite, method: str, setting: str) -> Any:
    value: Any = suite.methods[method].model_dump(mode="json")
    for part in setting.split("."):
        value = value[part]
    return value


def sweep_page(suite: Suite, sweep: str, table: pd.DataFrame) -> Page:
    """A row for each value, model and round."""
    first = suite.swept[sweeps(suite)[sweep][0]]
    title = f"Sweep of `{first.set}` in suite `{suite.name}`"
    default = f"`{first.of}` itself has `{first.set}` = {_own(suite, first.of, first.set)}."
    rows = []
    for row in table.to_dict("records"):
        shown = signed(row["difference"]) or str(row["status"])
        clear = row["p_holm"] is not None and row["p_holm"] < 0.05
        interval = with_interval(f"**{shown}**" if clear else shown, signed(row["low"]), signed(row["high"]))
        cells = {key: str(row[key]) for key in ("value", "model", "train_set", "round")}
        rows.append(
            cells
            | {"runs": f"{row['runs']} of {row['runs'] + row['missing']}" if row["missing"] else row["runs"]}
            | {"accuracy": number(row["accuracy"]), "of default": number(row["against_accuracy"])}
            | {"difference": interval + (QUERIES_ALONE if row["marked"] else "")}
            | {"p (Holm)": probability(row["p_holm"])}
        )
    cells_of = pd.DataFrame(rows)
    if len(suite.train_sets) == 1:
        cells_of = cells_of.drop(columns="train_set", errors="ignore")
    notes = [default, NOTES, *([NOTE_ON_MARK] if table["marked"].any() else [])]
    return Page(sweep_name(sweep), title, [Table(title, cells_of, ""), *notes])
