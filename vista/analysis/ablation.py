"""What each part of a method is worth: every method against its references (``ablation.csv``, ``.md``).

A table of the analysis stage (``vista ablation``), from ``long.csv`` and the manifests' status alone.
``comparisons.contrasts`` says who is compared with whom, ``stats.pooled_difference`` how sure that is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from vista.analysis.cells import QUERIES_ALONE, as_text, number, probability, signed
from vista.analysis.collect import in_domain, read_long, run_statuses, scores_by_run
from vista.analysis.comparisons import ALL_MODELS, Contrast, contrasts
from vista.analysis.differences import PERCENT
from vista.analysis.files import write_table
from vista.analysis.page import Page, Table
from vista.analysis.stats import holm, overall_mean, paired_scores, pooled_difference, unlike
from vista.analysis.sweeps import sweep_page, sweep_rows
from vista.config import SeedMethod, Suite
from vista.grid import Run
from vista.manifest import Recorder, Status
from vista.paths import Paths

COLUMNS = [
    *("kind", "method", "against", "differs", "model", "train_set", "round", "last", "status"),
    *("models", "runs", "missing", "accuracy", "against_accuracy", "difference", "se", "low", "high"),
    *("error", "p", "p_holm", "n_test"),
]
TITLES = {
    "component": "Without a component",
    "alternative": "With another part in the place of VISTA's",
    "setting": "With another setting",
    "sweep": "Sweeps",
    "decoding": "Decoded otherwise",
    "baseline": "VISTA against the baselines",
    "seed": "Against SFT-Seed",
}
NOTES = """\
`difference` is the accuracy of `method` minus that of `against` in points (mean over the tasks of the
train set), in the same round, paired on model, seed and query, averaged over seeds, then over models;
behind it its 95 % interval, over other test queries and, where there are several, other seeds.
`p (Holm)` is corrected for all comparisons of the table in their last round (those against SFT-Seed are
a family of their own); earlier rounds have none. **Bold**: below 0.05. `runs` counts pairs of runs."""
NOTE_ON_MARK = f"""\
{QUERIES_ALONE} behind an interval: it is over test queries alone, as no model has a second seed there.
Beside the others it looks surer than it is, so there is no `p (Holm)`, and nothing is bold."""


def ablation_table(suite: Suite, paths: Paths) -> None:
    """Write ``ablation.csv``, ``.md`` and ``.tex``, and the same for each sweep.

    Raises:
        VistaError: a run has not been evaluated, or ``long.csv`` is not up to date.
    """
    recorder = Recorder("analysis", {"suite": suite.name}, [paths.long])
    table = ablation_rows(suite, run_statuses(suite, paths), scores_by_run(read_long(paths.long)))
    counts = {"rows": len(table), "compared": int(table["difference"].notna().sum())}
    write_table(paths, recorder, as_text(table), ablation_page(suite, table), counts)
    for sweep, rows in sweep_rows(suite, table).items():
        text, page = as_text(rows.drop(columns="marked")), sweep_page(suite, sweep, rows)
        write_table(paths, recorder, text, page, {"rows": len(rows)})


@dataclass(frozen=True)
class Pair:
    """Two runs that are compared; ``scores`` are the query-wise differences, if both have a result."""

    run: Run
    against: Run
    scores: pd.DataFrame | None
    means: tuple[float, float] | None  # accuracy of each


def ablation_rows(
    suite: Suite, statuses: Mapping[Run, Status], scores: Mapping[Run, pd.DataFrame]
) -> pd.DataFrame:
    """The table in numbers: per contrast and round a row for all models together and one for each model.

    Args:
        suite: The suite whose grid the runs are.
        statuses: Status of every run of the grid.
        scores: Scores of every run with a result.

    Returns:
        ``COLUMNS``; accuracies, differences and errors in percentage points, unrounded; ``None`` where
        there is no number.
    """
    inside = {run: in_domain(suite, run, frame) for run, frame in scores.items()}
    means = {run: overall_mean(frame).mean for run, frame in inside.items()}
    rows = []
    for contrast in contrasts(suite):
        for train_set in suite.train_sets:
            pairs = list(_pairs(suite, contrast, train_set, statuses, inside, means))
            for model in [ALL_MODELS, *dict.fromkeys(pair.run.model for pair in pairs)]:
                rows += _scope_rows(contrast, model, train_set, pairs)
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    table["p_holm"] = _corrected(table)
    return table.astype(object).where(table.notna(), None)


def _pairs(
    suite: Suite,
    contrast: Contrast,
    train_set: str,
    statuses: Mapping[Run, Status],
    scores: Mapping[Run, pd.DataFrame],
    means: Mapping[Run, float],
) -> Iterator[Pair]:
    """Every pair of runs of a contrast, in the order of the grid."""
    to_seed = isinstance(suite.methods[contrast.against], SeedMethod)
    for run in statuses:
        if (run.method, run.train_set) != (contrast.method, train_set):
            continue
        against = replace(run, method=contrast.against, round=0 if to_seed else run.round)
        if against not in statuses:
            continue
        if run in scores and against in scores:
            difference = paired_scores(scores[run], scores[against])
            yield Pair(run, against, difference, (means[run], means[against]))
        else:
            yield Pair(run, against, None, None)


def _scope_rows(contrast: Contrast, model: str, train_set: str, pairs: list[Pair]) -> list[dict[str, Any]]:
    """The rows of one contrast over one model or all of them, round by round."""
    own = [pair for pair in pairs if model in (ALL_MODELS, pair.run.model)]
    rounds = sorted({pair.run.round for pair in own})
    return [
        {
            "kind": contrast.kind,
            "method": contrast.method,
            "against": contrast.against,
            "differs": contrast.differs,
            "model": model,
            "train_set": train_set,
            "round": number,
            "last": number == rounds[-1],
        }
        | _estimate([pair for pair in own if pair.run.round == number])
        for number in rounds
    ]


def _estimate(pairs: list[Pair]) -> dict[str, Any]:
    """Status and numbers of one row; no numbers where no pair has both results."""
    found = {(pair.run.model, pair.run.seed): pair for pair in pairs if pair.scores is not None}
    missing = len(pairs) - len(found)
    row: dict[str, Any] = {
        "status": "complete" if not missing else "partial" if found else "no-positives",
        "models": len({model for model, _seed in found}),
        "runs": len(found),
        "missing": missing,
    }
    if not found:
        return row
    pooled = pooled_difference({key: pair.scores for key, pair in found.items() if pair.scores is not None})
    method, against = (_mean_over_models(found, which) for which in (0, 1))
    points = {"difference": pooled.mean, "se": pooled.se, "low": pooled.low, "high": pooled.high}
    return (
        row
        | {"accuracy": method * PERCENT, "against_accuracy": against * PERCENT}
        | {name: value * PERCENT for name, value in points.items()}
        | {"error": pooled.error, "p": pooled.p, "n_test": pooled.n}
    )


def _mean_over_models(pairs: Mapping[tuple[str, int], Pair], which: int) -> float:
    """Mean over models of the mean over seeds of an accuracy."""
    by_model: dict[str, list[float]] = {}
    for (model, _seed), pair in pairs.items():
        if pair.means is not None:
            by_model.setdefault(model, []).append(pair.means[which])
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
    """A section for each kind of comparison, all models in a row and each beside it."""
    parts: list[str | Table] = []
    table = table.assign(marked=_unlike(table))
    for kind, title in TITLES.items():
        own = table[table["kind"] == kind]
        if len(own):
            parts.append(Table(title, _cells(suite, own), kind))
    parts.append(NOTES if len(table) else "No two methods of this suite differ in one part.")
    if table["marked"].any():
        parts.append(NOTE_ON_MARK)
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
        interval = f" [{signed(row['low'])}, {signed(row['high'])}]" if row["low"] is not None else ""
        interval += QUERIES_ALONE if row["marked"] else ""
        significant = row["p_holm"] is not None and row["p_holm"] < 0.05
        shown = signed(row["difference"]) or row["status"]
        rows.append(
            cells
            | ({"differs": row["differs"]} if row["differs"] else {})
            | {"runs": f"{row['runs']} of {row['runs'] + row['missing']}" if row["missing"] else row["runs"]}
            | {"accuracy": number(row["accuracy"]), "of against": number(row["against_accuracy"])}
            | {"difference": (f"**{shown}**" if significant else shown) + interval}
            | {"p (Holm)": probability(row["p_holm"])}
            | {m: signed(single.get((*(row[key] for key in keys), m))) for m in suite.models}
        )
    return pd.DataFrame(rows)
