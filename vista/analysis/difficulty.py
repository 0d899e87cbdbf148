"""Is training spread over easy and hard queries, and who gains? (``difficulty.csv``, ``.md``).

A table of the analysis stage (``vista difficulty``). Difficulty is what SFT-Seed finds difficult: the
share of its samples to a train query that are right, its *pass rate*. Training sets are broken down by
it, query by query; test accuracy by kind of question, as test queries are not sampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from vista import grid
from vista.analysis.cells import as_text
from vista.analysis.collect import read_long, run_statuses, scores_by_run
from vista.analysis.difficulty_page import difficulty_page
from vista.analysis.files import write_table
from vista.analysis.kinds import accuracy_rows
from vista.analysis.pass_rates import BINS, PassRates, Reader
from vista.config import SelfImprovement, Suite
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder, Status
from vista.paths import Paths

PERCENT = 100.0
COLUMNS = [
    *("part", "model", "train_set", "method", "round", "seed", "status", "models", "runs", "missing"),
    *("group", "pass_rate", "queries"),
    *("share_queries", "share_samples", "share_positives", "share_trained", "covered"),
    *("accuracy", "accuracy_sft_seed", "delta", "delta_se", "delta_low", "delta_high", "error"),
]


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
    write_table(paths, recorder, as_text(table), difficulty_page(suite, table, BINS), {"rows": len(table)})


def mass_rows(suite: Suite, statuses: Mapping[Run, Status], reader: Reader) -> list[dict[str, Any]]:
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
