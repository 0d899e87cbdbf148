"""What each part of a method is worth: every method against its references (``ablation.*``).

``vista ablation``, from only ``long.csv`` and the manifests' status. ``comparisons.contrasts`` says which
methods are compared, ``stats.pooled_difference`` how sure the result is. Each sweep of the suite also has a
table (such as ``sweep_tau.*``): its rows of the ablation table, value by value, with the method's own value.
Where there are models enough, so has the question whether it holds for others (``across_models.*``).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from vista.analysis.across_models import across_models_page, across_models_rows
from vista.analysis.collect import read_long, run_statuses, scores_by_run
from vista.analysis.comparisons import ALL_MODELS
from vista.analysis.page import (
    DAGGER,
    Page,
    Table,
    as_text,
    at_least,
    bold_if,
    dagger,
    is_clear,
    number,
    of_all,
    probability,
    signed,
    with_interval,
    write_table,
)
from vista.analysis.pairs import TITLES, Pair, compared, differences, how_many
from vista.analysis.plan import ablation_names, sweep_name, sweeps
from vista.analysis.stats import PERCENT, QUERIES, detectable, holm, pooled_difference, unlike
from vista.config import Suite
from vista.manifest import Recorder
from vista.paths import Paths

COLUMNS = [
    *("kind", "method", "against", "differs", "model", "train_set", "round", "last", "status"),
    *("models", "runs", "missing", "accuracy", "against_accuracy", "difference", "se", "low", "high"),
    *("error", "p", "p_holm", "n_test", "detectable"),
]
NOTES = """\
`difference` is the accuracy of `method` minus that of `against` in points (mean over the tasks of the
train set), in the same round, paired on model, seed and query, averaged over seeds, then over models;
behind it its 95 % interval, over other test queries and, where there are several, other seeds.
`p (Holm)` is corrected for all comparisons of the table in their last round (those against SFT-Seed are
a family of their own); earlier rounds have none. **Bold**: below 0.05. `runs` counts pairs of runs.
`detectable`: the smallest true difference that the test finds with a power of 80 % (two-sided, 5 %,
before the correction); ≥: from test queries alone, as there is no second seed: it is larger."""
NOTE_ON_MODELS = "All of this is about these models; `across_models` asks whether it holds for others."
NOTE_ON_DAGGER = f"""\
{DAGGER} behind an interval: it is over test queries alone, as no model has a second seed there.
Beside the others it looks surer than it is, so there is no `p (Holm)`, and nothing is bold."""
KEPT = [
    *("model", "train_set", "round", "status", "models", "runs", "missing", "accuracy", "against_accuracy"),
    *("difference", "se", "low", "high", "error", "p", "p_holm", "n_test"),
]
SWEEP_COLUMNS = ["setting", "value", "default", "method", "against", *KEPT, "marked"]
NOTES_ON_SWEEPS = """\
Overall accuracy in percent; `difference` is to the same method with its own value, in points, in the same
round, paired on model, seed and query, with its 95 % interval. `p (Holm)` is that of the ablation table,
corrected for all its comparisons in their last round. **Bold**: below 0.05."""
NOTE_ON_SWEEPS_DAGGER = f"""\
{DAGGER}: the interval is over test queries alone, as there is no second seed. It looks surer than
others of the ablation table, so there is no `p (Holm)`."""


def ablation_table(suite: Suite, paths: Paths) -> None:
    """Write ``ablation.csv``, ``.md`` and ``.tex``, and the same for each sweep and across models.

    Raises:
        VistaError: a run has not been evaluated, or ``long.csv`` is not up to date.
    """
    recorder = Recorder("analysis", {"suite": suite.name}, [paths.long])
    every = list(compared(suite, run_statuses(suite, paths), scores_by_run(read_long(paths.long))))
    table = ablation_rows(every)
    counts = {"rows": len(table), "compared": int(table["difference"].notna().sum())}
    write_table(paths, recorder, as_text(table), ablation_page(suite, table), counts)
    for sweep, rows in sweep_rows(suite, table).items():
        text, page = as_text(rows.drop(columns="marked")), sweep_page(suite, sweep, rows)
        write_table(paths, recorder, text, page, {"rows": len(rows)})
    if "across_models" in ablation_names(suite):
        across = across_models_rows(every)
        page = across_models_page(suite, across)
        write_table(paths, recorder, as_text(across), page, {"rows": len(across)})


def ablation_rows(every: Iterable[tuple[dict[str, Any], list[Pair]]]) -> pd.DataFrame:
    """The table in numbers: per contrast and round a row for all models together and one for each model.

    Args:
        every: The names and pairs of runs of each row, as of ``pairs.compared``.

    Returns:
        ``COLUMNS``; accuracies, differences and errors in percentage points, unrounded; ``None`` where
        there is no number.
    """
    rows = [names | _estimate(pairs) for names, pairs in every]
    for row, smallest in zip(rows, detectable(rows), strict=True):
        row["detectable"] = smallest
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    table["p_holm"] = _corrected(table)
    return table.astype(object).where(table.notna(), None)


def _estimate(pairs: list[Pair]) -> dict[str, Any]:
    """Status and numbers of one row; no numbers where no pair has both results."""
    row, found = how_many(pairs), differences(pairs)
    if not found:
        return row
    pooled = pooled_difference(found)
    method, against = (_mean_over_models(pairs, which) for which in (0, 1))
    points = {"difference": pooled.mean, "se": pooled.se, "low": pooled.low, "high": pooled.high}
    return (
        row
        | {"accuracy": method * PERCENT, "against_accuracy": against * PERCENT}
        | {name: value * PERCENT for name, value in points.items()}
        | {"error": pooled.error, "p": pooled.p, "n_test": pooled.n, "variances": pooled.variances}
    )


def _mean_over_models(pairs: list[Pair], which: int) -> float:
    """Mean over models of the mean over seeds of an accuracy."""
    by_model: dict[str, list[float]] = {}
    for pair in pairs:
        if pair.means is not None:
            by_model.setdefault(pair.run.model, []).append(pair.means[which])
    return math.fsum(math.fsum(each) / len(each) for each in by_model.values()) / len(by_model)


def _corrected(table: pd.DataFrame) -> pd.Series[float]:
    """Holm's p-values: one family for each model, and for all together; SFT-Seed's apart.

    Where some comparisons have the error over seeds, those without are in no family.
    """
    last = table[table["last"].astype(bool) & ~_unlike(table)]
    families = last.groupby([last["model"], last["train_set"], last["kind"] == "seed"], sort=False)
    found = families["p"].transform(lambda values: holm([float(p) for p in values.astype(float)]))
    return found.astype(float).reindex(table.index)


def _unlike(table: pd.DataFrame) -> pd.Series[bool]:
    return pd.Series(unlike(table["error"].tolist()), table.index, dtype=bool)


def ablation_page(suite: Suite, table: pd.DataFrame) -> Page:
    """A section for each kind of comparison, all models together, then each."""
    parts: list[str | Table] = []
    table = table.assign(marked=_unlike(table))
    for kind, title in TITLES.items():
        own = table[table["kind"] == kind]
        if len(own):
            parts.append(Table(title, _cells(suite, own), kind))
    parts.append(NOTES if len(table) else "No two methods of this suite differ in one part.")
    if table["marked"].any():
        parts.append(NOTE_ON_DAGGER)
    if "across_models" in ablation_names(suite):
        parts.append(NOTE_ON_MODELS)
    return Page("ablation", f"Ablation of suite `{suite.name}`", parts)


def _cells(suite: Suite, table: pd.DataFrame) -> pd.DataFrame:
    keys = ["method", "against", "train_set", "round"]
    single = {
        (*(row[key] for key in keys), row["model"]): row["difference"] for row in table.to_dict("records")
    }
    rows = []
    for row in table[table["model"] == ALL_MODELS].to_dict("records"):
        cells = {key: str(row[key]) for key in keys}
        if len(suite.train_sets) == 1:
            del cells["train_set"]
        rows.append(
            cells
            | ({"differs": row["differs"]} if row["differs"] else {})
            | _numbers(row, "of against")
            | {"detectable": at_least(row["detectable"], row["error"] == QUERIES)}
            | {m: signed(single.get((*(row[key] for key in keys), m))) for m in suite.models}
        )
    return pd.DataFrame(rows)


def _numbers(row: Mapping[Hashable, Any], against: str) -> dict[str, str]:
    """The cells of a comparison; ``against`` heads the accuracy of what it is compared with."""
    shown = bold_if(is_clear(row["p_holm"]), signed(row["difference"]) or str(row["status"]))
    difference = with_interval(shown, signed(row["low"]), signed(row["high"]))
    return {
        "runs": of_all(row["runs"], row["missing"]),
        "accuracy": number(row["accuracy"]),
        against: number(row["against_accuracy"]),
        "difference": difference + dagger(row["marked"]),
        "p (Holm)": probability(row["p_holm"]),
    }


# --- sweeps ---


def sweep_rows(suite: Suite, ablation: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each sweep its table in numbers, ``SWEEP_COLUMNS``; the values in the order of the suite.

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
            SWEEP_COLUMNS
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
        cells = {key: str(row[key]) for key in ("value", "model", "train_set", "round")}
        rows.append(cells | _numbers(row, "of default"))
    cells_of = pd.DataFrame(rows)
    if len(suite.train_sets) == 1:
        cells_of = cells_of.drop(columns="train_set", errors="ignore")
    notes = [default, NOTES_ON_SWEEPS, *([NOTE_ON_SWEEPS_DAGGER] if table["marked"].any() else [])]
    return Page(sweep_name(sweep), title, [Table(title, cells_of, ""), *notes])
