"""Test accuracy by kind of question, run by run and pooled: the part ``test`` of ``difficulty.csv``.

Serves ``vista.analysis.difficulty``. Test queries are not sampled, so difficulty is that of the train
queries of the same kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from vista.analysis.collect import in_domain
from vista.analysis.comparisons import ALL_MODELS, reference_of
from vista.analysis.pass_rates import Reader
from vista.analysis.stats import overall_mean, paired_scores, pooled_difference
from vista.config import Suite
from vista.grid import Run
from vista.manifest import Status

PERCENT = 100.0


def accuracy_rows(
    suite: Suite, statuses: Mapping[Run, Status], scores: Mapping[Run, pd.DataFrame], reader: Reader
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

    run: Run
    row: dict[str, Any]
    difference: pd.DataFrame | None = None


@dataclass(frozen=True)
class _Pool:
    """All runs of a method and round, and by kind of question what those with a result have."""

    runs: list[Run]
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


def _by_group(suite: Suite, run: Run, scores: pd.DataFrame, reader: Reader) -> dict[str, pd.DataFrame]:
    own = in_domain(suite, run, scores)
    kinds = own["query_id"].map(reader.groups(run.train_set, "test"))
    return {str(group): frame for group, frame in own.groupby(kinds, sort=True)}


def _group_pass_rates(reader: Reader, run: Run) -> dict[str, float]:
    """SFT-Seed's pass rate (percent) on the train queries of each kind."""
    rates = reader.pass_rates(run)
    if rates is None:
        return {}
    samples, right = Counter[str](), Counter[str]()
    for query, group in reader.groups(run.train_set, "train").items():
        samples[group] += rates.samples[query]
        right[group] += rates.right[query]
    return {group: right[group] / count * PERCENT for group, count in samples.items() if count}
