"""Is training spread over easy and hard queries, and who gains? (``difficulty.csv``, ``.md``, ``.tex``).

A table of the analysis stage (``vista difficulty``). Difficulty is measured by SFT-Seed's *pass rate*: the
share of its samples to a train query that are right. Training sets are broken down by it, query by query;
test accuracy by kind of question, since test queries are not sampled: their difficulty is that of the train
queries of the same kind. The CSV has every run; the page has means over models and seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from vista import grid
from vista.analysis.collect import in_domain, read_long, run_statuses, scores_by_run
from vista.analysis.comparisons import ALL_MODELS, reference_of
from vista.analysis.page import (
    DAGGER,
    Page,
    Table,
    as_text,
    bold_if,
    dagger,
    number,
    of_all,
    signed,
    write_table,
)
from vista.analysis.pass_rates import BINS, PassRates, Reader
from vista.analysis.stats import (
    PERCENT,
    overall_mean,
    paired_scores,
    pooled_difference,
    unlike,
)
from vista.config import SelfImprovement, Suite
from vista.errors import VistaError
from vista.manifest import Recorder, Status
from vista.paths import Paths

COLUMNS = [
    *("part", "model", "train_set", "method", "round", "seed", "status", "models", "runs", "missing"),
    *("group", "pass_rate", "queries"),
    *("share_queries", "share_samples", "share_positives", "share_trained", "covered"),
    *("accuracy", "accuracy_sft_seed", "delta", "delta_se", "delta_low", "delta_high", "error"),
]
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
NOTE_ON_DAGGER = f"""\
{DAGGER}: the error is over test queries alone, as no model has a second seed there. Beside the
others it looks smaller than it is, so nothing is bold."""


def difficulty_table(suite: Suite, paths: Paths) -> None:
    """Write ``difficulty.csv`` and ``difficulty.md``.

    Raises:
        VistaError: queries, rollouts, training sets or results are missing or not up to date.
    """
    recorder = Recorder("analysis", {"suite": suite.name}, [paths.long])
    statuses = run_statuses(suite, paths)
    reader = Reader(suite, paths)
    rows = mass_rows(suite, statuses, reader)
    rows += accuracy_rows(suite, statuses, scores_by_run(read_long(paths.long)), reader)
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object).astype(object)
    table = table.where(table.notna(), None)
    recorder.inputs += dict.fromkeys(reader.files)
    write_table(paths, recorder, as_text(table), difficulty_page(suite, table), {"rows": len(table)})


def mass_rows(suite: Suite, statuses: Mapping[grid.Run, Status], reader: Reader) -> list[dict[str, Any]]:
    """For each run that trains on rollouts, a row for each bin of the train queries."""
    rows: list[dict[str, Any]] = []
    for run, status in statuses.items():
        method = suite.methods[run.method]
        if not isinstance(method, SelfImprovement):
            continue
        first: dict[str, Any] = {"part": "train", **asdict(run), "status": status}
        rates = reader.pass_rates(run)
        if rates is None or not rates.samples:
            rows.append(first)  # nothing is known about difficulty, and the row says so
            continue
        policy, names = grid.policy(suite, run), grid.rollout_files(method)
        samples = reader.solutions(policy, "samples", names.samples).right
        resamples = reader.solutions(policy, "resamples", names.resamples).right
        rows += [first | row for row in mass(rates, samples, resamples, reader.trained(run, method))]
    return rows


def mass(
    rates: PassRates, samples: Counter[str], resamples: Counter[str], trained: Counter[str]
) -> list[dict[str, Any]]:
    """By bin, the shares (percent) of train queries, right samples, all positives and training examples.

    Args:
        rates: SFT-Seed's pass rates.
        samples: Right samples of the run's own policy, by query.
        resamples: Right resamples, by query.
        trained: Examples of the run's training set, by query.
    """
    bins = rates.bins()
    shares = {
        "share_queries": _shares(bins, Counter(dict.fromkeys(bins, 1))),
        "share_samples": _shares(bins, samples),
        "share_positives": _shares(bins, samples + resamples),
        "share_trained": _shares(bins, trained),
    }
    rows = []
    for name in BINS:
        queries = [query for query, found in bins.items() if found == name]
        row: dict[str, Any] = {"group": name, "queries": len(queries)}
        if queries:
            right = sum(rates.right[query] for query in queries)
            row["pass_rate"] = right / sum(rates.samples[query] for query in queries) * PERCENT
            row["covered"] = sum(trained[query] > 0 for query in queries) / len(queries) * PERCENT
        rows.append(row | {column: share.get(name) for column, share in shares.items()})
    return rows


def _shares(bins: Mapping[str, str], counts: Counter[str]) -> dict[str, float]:
    """Percent of ``counts`` in each bin; empty where there is nothing to share."""
    total = sum(counts.values())
    if not total:
        return {}
    found = Counter[str]()
    for query, count in counts.items():
        if query not in bins:
            raise VistaError(
                f"query {query!r} was never sampled by SFT-Seed; delete the rollouts and training sets "
                "and rerun"
            )
        found[bins[query]] += count
    return {name: found[name] / total * PERCENT for name in BINS}


# --- accuracy by kind of question ---


def accuracy_rows(
    suite: Suite, statuses: Mapping[grid.Run, Status], scores: Mapping[grid.Run, pd.DataFrame], reader: Reader
) -> list[dict[str, Any]]:
    """For each run a row for each kind of question of its train set's tasks; then those of all models.

    The latter are means over models of means over seeds, their differences to SFT-Seed with the error over
    test queries and seeds of ``stats.pooled_difference``. Where no run of a method and round has a result,
    one row of all models says so.
    """
    grouped = {run: _by_group(suite, run, frame, reader) for run, frame in scores.items()}
    rows: list[dict[str, Any]] = []
    pools: dict[tuple[str, str, int], _Pool] = {}
    for run, status in statuses.items():
        pool = pools.setdefault((run.train_set, run.method, run.round), _Pool([], {}))
        pool.runs.append(run)
        first: dict[str, Any] = {"part": "test", **asdict(run), "status": status}
        if run not in grouped:
            rows.append(first)
            continue
        reference = reference_of(suite, run)
        before = grouped.get(reference, {}) if reference else {}
        of_group = _group_pass_rates(reader, run)
        for group, own in grouped[run].items():
            row = {"group": group, "pass_rate": of_group.get(group), "queries": len(own)}
            row["accuracy"] = overall_mean(own).mean * PERCENT
            part = _Part(run, row)
            if group in before:
                row["accuracy_sft_seed"] = overall_mean(before[group]).mean * PERCENT
                if run != reference:
                    part = _Part(run, row, paired_scores(own, before[group]))
                    row |= _difference([part])
            rows.append(first | row)
            pool.groups.setdefault(group, []).append(part)
    return rows + [row for pool in pools.values() for row in _pooled(pool)]


@dataclass(frozen=True)
class _Part:
    """One run's row of a kind of question, and its differences to SFT-Seed query by query."""

    run: grid.Run
    row: dict[str, Any]
    difference: pd.DataFrame | None = None


@dataclass(frozen=True)
class _Pool:
    """All runs of a method and round, and by kind of question what those with a result have."""

    runs: list[grid.Run]
    groups: dict[str, list[_Part]]


def _difference(parts: list[_Part]) -> dict[str, Any]:
    """The mean difference of some runs to SFT-Seed and its interval in points, and what errors it has."""
    pooled = pooled_difference(
        {(p.run.model, p.run.seed): p.difference for p in parts if p.difference is not None}
    )
    found = {"delta": pooled.mean, "delta_se": pooled.se, "delta_low": pooled.low, "delta_high": pooled.high}
    return {name: value * PERCENT for name, value in found.items()} | {"error": pooled.error}


def _pooled(pool: _Pool) -> Iterator[dict[str, Any]]:
    """The rows of all models together, one for each kind of question."""
    run = pool.runs[0]
    first: dict[str, Any] = {"part": "test", "model": ALL_MODELS, "train_set": run.train_set}
    first |= {"method": run.method, "round": run.round}
    for group, parts in pool.groups.items():
        missing = len(pool.runs) - len(parts)
        yield (
            first
            | _means(parts)
            | {
                "status": "partial" if missing else "complete",
                "models": len({part.run.model for part in parts}),
                "runs": len(parts),
                "missing": missing,
                "group": group,
                "queries": parts[0].row["queries"],
            }
        )
    if not pool.groups:
        yield first | {"status": "no-positives", "models": 0, "runs": 0, "missing": len(pool.runs)}


def _means(parts: list[_Part]) -> dict[str, Any]:
    """Means over models of means over seeds, and the difference to SFT-Seed with its errors."""
    row: dict[str, Any] = {}
    for name in ("pass_rate", "accuracy", "accuracy_sft_seed"):
        by_model: dict[str, list[float]] = {}
        for part in parts:
            if part.row.get(name) is not None:
                by_model.setdefault(part.run.model, []).append(part.row[name])
        if by_model:
            row[name] = fmean(fmean(values) for values in by_model.values())
    if any(part.difference is not None for part in parts):
        row |= _difference(parts)
    return row


def _by_group(suite: Suite, run: grid.Run, scores: pd.DataFrame, reader: Reader) -> dict[str, pd.DataFrame]:
    own = in_domain(suite, run, scores)
    kinds = own["query_id"].map(reader.groups(run.train_set, "test"))
    return {str(group): frame for group, frame in own.groupby(kinds, sort=True)}


def _group_pass_rates(reader: Reader, run: grid.Run) -> dict[str, float]:
    """SFT-Seed's pass rate (percent) on the train queries of each kind."""
    rates = reader.pass_rates(run)
    if rates is None:
        return {}
    samples, right = Counter[str](), Counter[str]()
    for query, group in reader.groups(run.train_set, "train").items():
        samples[group] += rates.samples[query]
        right[group] += rates.right[query]
    return {group: right[group] / count * PERCENT for group, count in samples.items() if count}


# --- the table to read ---


def difficulty_page(suite: Suite, table: pd.DataFrame) -> Page:
    """What is shown of the table in numbers; swept methods are only in the CSV."""
    shown = table[~table["method"].isin(list(suite.swept))]
    parts: list[str | Table] = []
    pooled = shown["model"] == ALL_MODELS
    shown = shown.assign(marked=False)
    shown.loc[pooled, "marked"] = unlike(shown.loc[pooled, "error"].tolist())
    for train_set in suite.train_sets:
        own = shown[shown["train_set"] == train_set]
        title = f" (train set `{train_set}`)" if len(suite.train_sets) > 1 else ""
        mass = _mass_cells(suite, own[own["part"] == "train"])
        accuracy = _accuracy_cells(suite, own[own["part"] == "test"])
        if len(mass):
            parts.append(Table(f"Training mass by pass rate{title}", mass, f"mass-{train_set}"))
        if len(accuracy):
            parts.append(Table(f"Test accuracy by kind of question{title}", accuracy, f"kind-{train_set}"))
    parts += [NOTES, NOTE_ON_DAGGER] if shown["marked"].any() else [NOTES]
    return Page("difficulty", f"Difficulty in suite `{suite.name}`", parts)


def _mean(values: pd.Series[Any]) -> float | None:
    known = values.dropna()
    return float(known.astype(float).mean()) if len(known) else None


def _mass_cells(suite: Suite, table: pd.DataFrame) -> pd.DataFrame:
    table = table[table["group"].notna()]
    rows: list[dict[str, str]] = []
    if len(table):
        shares = {name: _mean(table.loc[table["group"] == name, "share_queries"]) for name in BINS}
        rows.append({"method": "(queries)", "round": ""} | {name: number(shares[name]) for name in BINS})
    for method, number_of in _first_and_last(suite, table):
        own = table[(table["method"] == method) & (table["round"] == number_of)]
        row = {"method": method, "round": str(number_of)}
        for name in BINS:
            cell = own[own["group"] == name]
            stages = (_mean(cell[f"share_{stage}"]) for stage in ("samples", "positives", "trained"))
            row[name] = " → ".join(number(stage) or "–" for stage in stages)
        row["covered 0"] = number(_mean(own.loc[own["group"] == BINS[0], "covered"]))
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
        row = {"method": method, "round": str(first["round"])}
        row["runs"] = of_all(first["runs"], first["missing"])
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
    shown = bold_if(excludes_zero and not row["marked"], signed(row["delta"]))
    return f"{shown} ± {number(row['delta_se'])}{dagger(row['marked'])}"
