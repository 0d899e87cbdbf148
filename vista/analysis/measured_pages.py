"""The tables ``audit`` and ``prefix`` to read: the measurements on one policy's solutions.

Numbers that are to be compared must stand on the same solutions, and few policies have everything that is
measured. The CSV beside each has every number, also of the other policies and of all together, and is what
programs read.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

from vista.analysis.cells import interval
from vista.analysis.page import Page, Table
from vista.config import Suite

ALL = "all"

AUDIT_NOTES = """\
Only correct solutions are counted. In brackets stand 95 % intervals, clustered on the query.
`auroc` is the probability that an unfaithful rationale has a lower score than a faithful one (for
`length`: more tokens): 1 is a perfect detector, 0.5 a blind one. `auroc-within-query` compares only
solutions of one policy to the same query, which is all that a filter within queries can use; there
`visual-share` and `vas` say the same. The partial correlations are with unfaithfulness, the number of
tokens held fixed; positive ones detect. A cut's precision is the share of what it drops that is
unfaithful, to be compared with dropping as many of each query at random. `unfaithful-read`, `-compute`,
`-answer` and `-form` say what the unfaithful have wrong first. `distinct-share` is the share of solutions to
queries with at least two distinct ones: the others leave a filter within queries nothing to choose.
`policies` counts the checkpoints behind a row.

In short: the lowest, the median and the highest value over models and tasks, and in how many of these
the whole interval lies above chance, or below it (0.5 for an AUROC, 0 for a gain in precision)."""

PREFIX_NOTES = """\
In brackets stand 95 % intervals, clustered on the query. The true first error is the first token of a failed
sample that differs from the only faithful rationale. Continuations of which nothing but the end was drawn
(`nothing-sampled`) are their prefix; `correct-if-sampled` is of the others. `rescued` is the share of the
queries without a correct sample (`zero-positive-queries`) that got one, `rescued-by-sampling` that of those
that got one with at least a token drawn; tokens are those drawn, prefixes not counted. Rationalisation has
no prefix and sees the answer; where its samples are others, so are the queries without a correct one."""

PREFIX_MEASURES = {
    "Where the critical token stands": [
        *("found-exactly", "found-before", "found-after", "found-none"),
        *("distance-mean", "distance-absolute", "distance-median"),
    ],
    "What is continued, and with what success": [
        *("prefix-error-free", "correct", "correct-and-faithful", "faithful-of-correct"),
        *("nothing-sampled", "correct-if-sampled", "correct-per-1000-tokens"),
    ],
    "Queries without a correct sample": [
        *("zero-positive-queries", "rescued", "rescued-by-sampling", "rescued-per-1000-tokens"),
        *("rescued-beyond-budget-matched", "rescued-beyond-number-matched"),
    ],
}


def audit_page(suite: Suite, table: pd.DataFrame) -> Page:
    """The audit of the solutions that most policies have, by the policy for which the most is measured.

    Not of all policies together: a score that some policies' solutions lack would be set against scores
    of other solutions.
    """
    pools = _widest(table[table["source"] == ALL])
    policy = _most_shared(pools, ["model", "train_set", "solutions", "detector", "layer", "setting"])
    shown = pools[pools["policy"] == policy]
    which = f"Solutions of {_names(shown, 'policy', 'no policy')}: {_names(shown, 'solutions')}"
    parts: list[str | Table] = [
        f"{which}. `audit.csv` has the others, those of the other policies, and all policies together.",
    ]
    base, detectors = shown["detector"] == "", shown["measure"].str.contains("auroc|partial")
    keys = ["model", "train_set", "task", "policies"]
    counts = shown[shown["measure"] == "unfaithful-share"].set_index(keys)["n"].to_dict()
    found = [counts[key] for key in shown.loc[base, keys].itertuples(index=False, name=None)]
    aurocs, gain = dict.fromkeys(("auroc", "auroc-within-query"), 0.5), {"precision-gain": 0.0}
    parts += [
        Table(
            "How many correct solutions are unfaithful",
            _pivot(shown[base].assign(solutions=found), [*keys, "solutions", "unfaithful"]),
            "unfaithful",
        ),
        Table("Detectors in short", _in_short(shown, ["detector", "layer"], aurocs), "detectors-in-short"),
        Table("Cuts in short", _in_short(shown, ["detector", "layer", "setting"], gain), "cuts-in-short"),
        Table("Detectors", _pivot(shown[detectors], [*keys, "detector", "layer", "unfaithful"]), "detectors"),
        Table("Cuts", _pivot(shown[~base & ~detectors], [*keys, "detector", "layer", "setting"]), "cuts"),
        AUDIT_NOTES,
    ]
    return Page("audit", f"Do scores detect unfaithful rationales? Suite `{suite.name}`", parts)


def prefix_page(suite: Suite, table: pd.DataFrame) -> Page:
    """Prefix resampling and its controls, by the policy that most of them share."""
    shown = table[table["policy"] == _most_shared(table, ["model", "train_set", "resamples"])]
    parts: list[str | Table] = [
        f"Failed samples of {_names(shown, 'policy', 'no policy')}. "
        "`prefix.csv` has the other policies, and all together.",
    ]
    for heading, measures in PREFIX_MEASURES.items():
        part = shown[shown["measure"].isin(measures)]
        keys = ["model", "train_set", "task", "resamples", "policies"]
        parts.append(Table(heading, _pivot(part, keys, measures), measures[0]))
    title = f"Does prefix resampling cut at the first error? Suite `{suite.name}`"
    return Page("prefix", title, [*parts, PREFIX_NOTES])


def _most_shared(table: pd.DataFrame, what: list[Hashable]) -> str | None:
    """The policy for which the most combinations of ``what`` are measured; the first of several.

    They are compared on it. As policies come in the grid's order, that is the initial one where in doubt.
    """
    single = table[(table["policy"] != ALL) & (table["policies"] > 0)].drop_duplicates(["policy", *what])
    counts = single.groupby("policy", sort=False).size()
    return None if counts.empty else str(counts.idxmax())


def _widest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each model, the pool of solutions that most policies have; the first of several."""
    keys = ["model", "train_set"]
    pools = table.groupby([*keys, "solutions"], sort=False)["policies"].max().reset_index()
    first = pools.sort_values("policies", ascending=False, kind="stable").drop_duplicates(keys)
    chosen = first[[*keys, "solutions"]]
    return table.merge(chosen, on=[*keys, "solutions"], how="inner")


def _names(shown: pd.DataFrame, column: str, none: str = "none") -> str:
    return ", ".join(f"`{name}`" for name in shown[column].unique()) or none


def _pivot(table: pd.DataFrame, keys: list[str], measures: Sequence[str] | None = None) -> pd.DataFrame:
    """Cells with one row for each combination of ``keys`` and one column for each measure."""
    wanted = list(dict.fromkeys(table["measure"])) if measures is None else list(measures)
    cells = [interval(*row) for row in table[["value", "low", "high"]].itertuples(index=False, name=None)]
    wide: dict[tuple[object, ...], dict[str, str]] = {}
    for key, measure, cell in zip(
        table[keys].itertuples(index=False, name=None), table["measure"], cells, strict=True
    ):
        wide.setdefault(key, {})[measure] = cell
    rows = [[*key, *(found.get(measure, "") for measure in wanted)] for key, found in wide.items()]
    return pd.DataFrame(rows, columns=[*keys, *wanted])


def _in_short(table: pd.DataFrame, keys: list[str], chance: dict[str, float]) -> pd.DataFrame:
    """How far each measure of ``chance`` ranges over models and tasks, and how often it clearly differs."""
    own = table[table["measure"].isin(list(chance)) & table["value"].notna()]
    rows = []
    for key, group in own.groupby(keys, sort=False):
        row: dict[str, object] = dict(zip(keys, key, strict=True))
        for measure, level in chance.items():
            part = group[group["measure"] == measure]
            values = (part["value"].min(), part["value"].median(), part["value"].max())
            row[measure] = " / ".join(f"{round(value, 3) + 0.0:.3f}" for value in values)
            clear = int((part["low"] > level).sum()), int((part["high"] < level).sum())
            row[f"{measure}: above, below {level:g}"] = f"{clear[0]}, {clear[1]} of {len(part)}"
        rows.append(row)
    return pd.DataFrame(rows)
