"""Whether a difference holds for other models than these (``across_models.*``).

Part of ``vista ablation``, for suites of three models or more. The ablation takes its models as they are: its
intervals are over other test queries and other seeds, and say nothing of another model. Here the models are
a sample of such models, as studies are in a meta-analysis with random effects: each has one difference, the
mean over its seeds, and how these scatter is what the error is made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from scipy.stats import f_oneway

from vista.analysis.comparisons import ALL_MODELS
from vista.analysis.page import (
    Page,
    Table,
    bold_if,
    is_clear,
    number,
    of_all,
    probability,
    signed,
    with_interval,
)
from vista.analysis.pairs import TITLES, Pair, differences, how_many
from vista.analysis.stats import PERCENT, averaged, detectable, holm, overall_mean, pooled_difference, t_test
from vista.config import Suite

COLUMNS = [
    *("kind", "method", "against", "differs", "train_set", "round", "last", "status", "models", "runs"),
    *("missing", "difference", "se", "low", "high", "p", "p_holm", "these_low", "these_high"),
    *("higher", "smallest", "largest", "models_sd", "p_models", "n_test", "detectable"),
]
NOTES = """\
`difference`: as in the ablation table, in points, the mean over models of the mean over their seeds;
behind it its 95 % interval **over other models** of which these are a sample, and over other test
queries, from how the models' differences scatter (a t distribution). `one model`: compared on one only.
`these models`: the interval of the ablation table, which is over other queries and seeds only. `p
(Holm)` is corrected for all comparisons of the table in their last round (those against SFT-Seed are a
family of their own); earlier rounds have none. **Bold**: below 0.05. `higher on`: the models on which
`method` is the more accurate; `of a model`: the smallest and the largest difference of one, `models sd`
their standard deviation, with what seeds add to it. `p (alike)`: of the difference being the same on all
models, on these test queries, but for seeds; empty where no model has a second seed. `detectable`: the
smallest true difference on the average of such models that the test finds with a power of 80 % (two-
sided, 5 %, before the correction), with the variance between models pooled over the comparisons of the
same train set and round."""


def across_models_rows(every: Iterable[tuple[dict[str, Any], list[Pair]]]) -> pd.DataFrame:
    """The table in numbers: a row for each contrast, train set and round.

    Args:
        every: The names and pairs of runs of each row of the ablation table, as of ``pairs.compared``.

    Returns:
        ``COLUMNS``; differences and errors in percentage points, unrounded; ``None`` where there is no
        number, as where fewer than two models have a result.
    """
    rows = [names | _numbers(pairs) for names, pairs in every if names["model"] == ALL_MODELS]
    for row, smallest in zip(rows, detectable(rows), strict=True):
        row["detectable"] = smallest
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    last = table[table["last"].astype(bool)]
    families = last["p"].astype(float).groupby([last["train_set"], last["kind"] == "seed"], sort=False)
    found = families.transform(lambda values: holm([float(p) for p in values]))
    table["p_holm"] = found.reindex(table.index)
    return table.astype(object).where(table.notna(), None)


def _numbers(pairs: list[Pair]) -> dict[str, Any]:
    """Status and numbers of one row."""
    row, found = how_many(pairs), differences(pairs)
    if row["models"] < 2:
        return row
    models: dict[str, dict[tuple[str, int], pd.DataFrame]] = {}
    for (model, seed), frame in found.items():
        models.setdefault(model, {})[model, seed] = frame
    # A model in the place of a seed: each is one repetition.
    single = {(ALL_MODELS, number): averaged(own) for number, own in enumerate(models.values())}
    pooled, these = pooled_difference(single), pooled_difference(found)
    # Single answers are part of how models scatter, so not of the variance over queries, too.
    variances = replace(pooled.variances, queries=pooled.variances.fixed, residual=0.0)
    between = variances.seeds * variances.share
    se, low, high, p = t_test(pooled.mean, variances.queries, between, variances.freedom)
    means = [overall_mean(frame).mean for frame in single.values()]
    points = {
        **{"difference": pooled.mean, "se": se, "low": low, "high": high},
        **{"these_low": these.low, "these_high": these.high, "smallest": min(means), "largest": max(means)},
        "models_sd": math.sqrt(variances.seeds),
    }
    return (
        row
        | {name: value * PERCENT for name, value in points.items()}
        | {"higher": sum(each > 0.0 for each in means), "p": p, "p_models": _alike(models)}
        | {"n_test": pooled.n, "variances": variances}
    )


def _alike(models: Mapping[str, Mapping[tuple[str, int], pd.DataFrame]]) -> float:
    """The p-value of all models having the same difference: a one-way analysis of variance, seeds repeating.

    NaN where nothing is known of how seeds scatter: no model has a second one, or all of each agree.
    """
    groups = [[overall_mean(frame).mean for frame in own.values()] for own in models.values()]
    if all(len(set(group)) == 1 for group in groups):
        return math.nan
    return float(f_oneway(*groups).pvalue)


def across_models_page(suite: Suite, table: pd.DataFrame) -> Page:
    """A section for each kind of comparison."""
    parts: list[str | Table] = []
    for kind, title in TITLES.items():
        own = table[table["kind"] == kind]
        if len(own):
            parts.append(Table(title, _cells(suite, own), kind))
    parts.append(NOTES if len(table) else "No two methods of this suite differ in one part.")
    return Page("across_models", f"Comparisons across the models of suite `{suite.name}`", parts)


def _cells(suite: Suite, table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in table.to_dict("records"):
        keys = ("method", "against", "train_set", "round")
        cells = {key: str(row[key]) for key in keys if key != "train_set" or len(suite.train_sets) > 1}
        lacking = "one model" if row["models"] == 1 else str(row["status"])
        shown = bold_if(is_clear(row["p_holm"]), signed(row["difference"]) or lacking)
        cells |= {"differs": row["differs"]} if row["differs"] else {}
        cells |= {
            "runs": of_all(row["runs"], row["missing"]),
            "difference": with_interval(shown, signed(row["low"]), signed(row["high"])),
            "p (Holm)": probability(row["p_holm"]),
            "these models": _from_to(row["these_low"], row["these_high"]),
            "higher on": "" if row["higher"] is None else f"{row['higher']} of {row['models']}",
            "of a model": _from_to(row["smallest"], row["largest"]),
            "models sd": number(row["models_sd"]),
            "p (alike)": probability(row["p_models"]),
            "detectable": number(row["detectable"]),
        }
        rows.append(cells)
    return pd.DataFrame(rows)


def _from_to(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{signed(low)} to {signed(high)}"
