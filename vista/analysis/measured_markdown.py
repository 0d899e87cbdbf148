"""``audit.md`` and ``prefix.md``: the measurements on all policies together, as readable tables.

The CSV beside each has every number, also by policy, and is what programs read.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from tabulate import tabulate

from vista.config import Suite

ALL = "all"

AUDIT_NOTES = """\
Only correct solutions are counted. In brackets stand 95 % intervals, clustered on the query.
`auroc` is the probability that an unfaithful rationale has a lower score than a faithful one (for
`length`: more tokens): 1 is a perfect detector, 0.5 a blind one. `auroc-within-query` compares only
solutions of one policy to the same query, which is all that a filter within queries can use; there
`visual-share` and `vas` say the same. The partial correlations are with unfaithfulness, the number of
tokens held fixed; positive ones detect. A cut's precision is the share of what it drops that is
unfaithful, to be compared with dropping as many of each query at random."""

PREFIX_NOTES = """\
In brackets stand 95 % intervals, clustered on the query. The true first error is the first token of a failed
sample that differs from the only faithful rationale. `rescued` is the share of the queries without a correct
sample that got one; tokens are those sampled for these queries, prefixes not counted."""

PREFIX_MEASURES = {
    "Where the critical token stands": [
        *("found-exactly", "found-before", "found-after", "found-none"),
        *("distance-mean", "distance-absolute", "distance-median"),
    ],
    "What is continued, and with what success": [
        *("prefix-error-free", "correct", "correct-and-faithful", "faithful-of-correct"),
    ],
    "Queries without a correct sample": [
        *("rescued", "rescued-per-1000-tokens", "correct-per-1000-tokens"),
        *("rescued-beyond-budget-matched", "rescued-beyond-number-matched"),
    ],
}


def audit_markdown(suite: Suite, table: pd.DataFrame) -> str:
    """The audit of the solutions that most policies have, all policies together."""
    shown = _widest(table[(table["policy"] == ALL) & (table["source"] == ALL)])
    parts = [f"# Do scores detect unfaithful rationales? Suite `{suite.name}`", _which(shown)]
    base, detectors = shown["measure"] == "unfaithful-share", shown["measure"].str.contains("auroc|partial")
    keys = ["model", "train_set", "task"]
    parts += [
        "## How many correct solutions are unfaithful",
        _pivot(shown[base].assign(solutions=shown["n"]), [*keys, "policies", "solutions", "unfaithful"]),
        "## Detectors",
        _pivot(shown[detectors], [*keys, "detector", "layer", "unfaithful"]),
        "## Cuts",
        _pivot(shown[~base & ~detectors], [*keys, "detector", "layer", "setting"]),
        AUDIT_NOTES,
    ]
    return "\n\n".join(parts) + "\n"


def prefix_markdown(suite: Suite, table: pd.DataFrame) -> str:
    """Prefix resampling and its controls, by the policy that most of them share."""
    shown = table[table["policy"] == _most_shared(table)]
    names = ", ".join(f"`{name}`" for name in shown["policy"].unique())
    parts = [
        f"# Does prefix resampling cut at the first error? Suite `{suite.name}`",
        f"Failed samples of {names or 'no policy'}. `prefix.csv` has the other policies, and all together.",
    ]
    for heading, measures in PREFIX_MEASURES.items():
        part = shown[shown["measure"].isin(measures)]
        keys = ["model", "train_set", "task", "resamples", "policies"]
        parts += [f"## {heading}", _pivot(part, keys, measures)]
    return "\n\n".join([*parts, PREFIX_NOTES]) + "\n"


def _most_shared(table: pd.DataFrame) -> str | None:
    """The policy with the most ways of resampling: they are compared on its failures."""
    single = table[table["policy"] != ALL]
    counts = single.groupby("policy", sort=False)["resamples"].nunique()
    return None if counts.empty else str(counts.idxmax())


def _widest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each model, the pool of solutions that most policies have; the first of several."""
    keys = ["model", "train_set"]
    pools = table.drop_duplicates([*keys, "solutions"])
    first = pools.sort_values("policies", ascending=False, kind="stable").drop_duplicates(keys)
    chosen = first[[*keys, "solutions"]]
    return table.merge(chosen, on=[*keys, "solutions"], how="inner")


def _which(shown: pd.DataFrame) -> str:
    names = ", ".join(f"`{name}`" for name in shown["solutions"].unique())
    return f"Solutions of all policies together: {names}. `audit.csv` has the others, and each policy alone."


def _pivot(table: pd.DataFrame, keys: list[str], measures: Sequence[str] | None = None) -> str:
    """A Markdown table with one row for each combination of ``keys`` and one column for each measure."""
    if table.empty:
        return "None."
    wanted = list(dict.fromkeys(table["measure"])) if measures is None else list(measures)
    cells = [_cell(*row) for row in table[["value", "low", "high"]].itertuples(index=False, name=None)]
    wide: dict[tuple[object, ...], dict[str, str]] = {}
    for key, measure, cell in zip(
        table[keys].itertuples(index=False, name=None), table["measure"], cells, strict=True
    ):
        wide.setdefault(key, {})[measure] = cell
    rows = [[*key, *(found.get(measure, "") for measure in wanted)] for key, found in wide.items()]
    return tabulate(rows, headers=[*keys, *wanted], tablefmt="pipe", disable_numparse=True)


def _cell(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return ""
    number = f"{round(value, 3) + 0.0:.3f}"
    return number if pd.isna(low) else f"{number} [{low:.3f}, {high:.3f}]"
