"""The table of difficulty to read (``difficulty.md``, ``.tex``): means over models and seeds.

Serves the analysis stage; ``difficulty.csv`` has every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from vista.analysis.cells import QUERIES_ALONE, number
from vista.analysis.comparisons import ALL_MODELS
from vista.analysis.page import Page, Table
from vista.analysis.stats import unlike
from vista.config import SelfImprovement, Suite

NOTES = """\
Means over models and seeds; `difficulty.csv` has every run. Bins are of SFT-Seed's pass rate on a train
query. Training mass, in percent of each stage: right samples of the round's policy → with what was
resampled → what is trained on after filter and cap. In the first round the policy is SFT-Seed itself.
`covered 0`: share of the queries that SFT-Seed never gets right of which something is trained on.

Accuracy: that of SFT-Seed in percent, of the others the difference to it in points, in their last
round, ± one standard error over other test queries and, where there are several, other seeds; **bold**
where the 95 % interval excludes 0 (each by itself). Behind a kind of question stands SFT-Seed's pass
rate on the train queries of that kind. `runs` counts the runs behind a row, and how many there are if some
have no result."""
NOTE_ON_MARK = f"""\
{QUERIES_ALONE}: the error is over test queries alone, as no model has a second seed there. Beside the
others it looks smaller than it is, so nothing is bold."""


def difficulty_page(suite: Suite, table: pd.DataFrame, bins: Sequence[str]) -> Page:
    """What is shown of the table in numbers; swept methods stand in the CSV alone."""
    shown = table[~table["method"].isin(list(suite.swept))]
    parts: list[str | Table] = []
    pooled = shown["model"] == ALL_MODELS
    shown = shown.assign(marked=False)
    shown.loc[pooled, "marked"] = unlike(shown.loc[pooled, "error"].tolist())
    for train_set in suite.train_sets:
        own = shown[shown["train_set"] == train_set]
        title = f" (train set `{train_set}`)" if len(suite.train_sets) > 1 else ""
        mass = _mass_cells(suite, own[own["part"] == "train"], bins)
        accuracy = _accuracy_cells(suite, own[own["part"] == "test"])
        if len(mass):
            parts.append(Table(f"Training mass by pass rate{title}", mass, f"mass-{train_set}"))
        if len(accuracy):
            parts.append(Table(f"Test accuracy by kind of question{title}", accuracy, f"kind-{train_set}"))
    parts += [NOTES, NOTE_ON_MARK] if shown["marked"].any() else [NOTES]
    return Page("difficulty", f"Difficulty in suite `{suite.name}`", parts)


def _mean(values: pd.Series[Any]) -> float | None:
    known = values.dropna()
    return float(known.astype(float).mean()) if len(known) else None


def _mass_cells(suite: Suite, table: pd.DataFrame, bins: Sequence[str]) -> pd.DataFrame:
    table = table[table["group"].notna()]
    rows: list[dict[str, str]] = []
    if len(table):
        shares = {name: _mean(table.loc[table["group"] == name, "share_queries"]) for name in bins}
        rows.append({"method": "(queries)", "round": ""} | {name: number(shares[name]) for name in bins})
    for method, number_of in _first_and_last(suite, table):
        own = table[(table["method"] == method) & (table["round"] == number_of)]
        row = {"method": method, "round": str(number_of)}
        for name in bins:
            cell = own[own["group"] == name]
            stages = (_mean(cell[f"share_{stage}"]) for stage in ("samples", "positives", "trained"))
            row[name] = " → ".join(number(stage) or "–" for stage in stages)
        row["covered 0"] = number(_mean(own.loc[own["group"] == bins[0], "covered"]))
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def _first_and_last(suite: Suite, table: pd.DataFrame) -> list[tuple[str, int]]:
    """The first and the last round of every method that trains on rollouts."""
    found: dict[tuple[str, int], None] = {}
    for method, spec in suite.methods.items():
        rounds = table.loc[table["method"] == method, "round"]
        if isinstance(spec, SelfImprovement) and len(rounds):
            found |= dict.fromkeys([(method, int(rounds.min())), (method, int(rounds.max()))])
    return list(found)


def _accuracy_cells(suite: Suite, table: pd.DataFrame) -> pd.DataFrame:
    table = table[table["model"] == ALL_MODELS]
    rates = {str(group): _mean(own["pass_rate"]) for group, own in table.groupby("group", sort=True)}
    # The hardest first; what was never sampled last.
    order = sorted(rates, key=lambda group: (rates[group] is None, rates[group] or 0.0))
    rows = []
    for method in suite.methods:
        own = table[table["method"] == method]
        if own.empty:
            continue
        own = own[own["round"] == own["round"].max()]
        (first, *_) = own.to_dict("records")
        there = first["runs"] + first["missing"]
        row = {"method": method, "round": str(first["round"])}
        row["runs"] = f"{first['runs']} of {there}" if first["missing"] else str(there)
        for group in order:
            rate = rates[group]
            head = group if rate is None else f"{group} ({rate:.0f})"
            found = own[own["group"] == group].to_dict("records")
            row[head] = _accuracy_cell(found) if first["runs"] else first["status"]
        rows.append(row)
    return pd.DataFrame(rows)


def _accuracy_cell(rows: list[dict[str, Any]]) -> str:
    """``+1.20 ± 0.50``, the difference to SFT-Seed; the accuracy itself where there is none."""
    if not rows:
        return ""
    (row,) = rows
    if row["delta"] is None:
        return number(row["accuracy"])
    excludes_zero = row["delta_low"] is not None and not row["delta_low"] <= 0.0 <= row["delta_high"]
    shown = f"{row['delta']:+.2f}"
    shown = f"**{shown}**" if excludes_zero and not row["marked"] else shown
    return f"{shown} ± {number(row['delta_se'])}{QUERIES_ALONE if row['marked'] else ''}"
