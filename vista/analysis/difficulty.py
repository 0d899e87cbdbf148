"""Is training spread over easy and hard queries, and who gains? (``difficulty.csv``, ``.md``).

A table of the analysis stage (``vista difficulty``). Difficulty is what SFT-Seed finds difficult: the
share of its samples to a train query that are right, its *pass rate*. Training sets are broken down by
it, query by query; test accuracy by kind of question, as test queries are not sampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from vista import grid
from vista.analysis.collect import in_domain, read_long, run_statuses, scores_by_run
from vista.analysis.comparisons import reference_of
from vista.analysis.difficulty_markdown import difficulty_markdown
from vista.analysis.markdown import number
from vista.analysis.stats import overall_mean, paired_difference
from vista.config import SelfImprovement, Suite
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder, Status
from vista.paths import Paths
from vista.records import EXAMPLE, PAIR, ROLLOUT, Split, read_queries, read_table, write_text
from vista.testbed.questions import load

PERCENT = 100.0
# The first and the last are the queries that SFT-Seed never and always gets right.
BINS = ["0", "(0, 0.3]", "(0.3, 0.7)", "[0.7, 1)", "1"]
COLUMNS = [
    *("part", "model", "train_set", "method", "round", "seed", "status", "group", "pass_rate", "queries"),
    *("share_queries", "share_samples", "share_positives", "share_trained", "covered"),
    *("accuracy", "accuracy_sft_seed", "delta", "delta_se"),
]


def difficulty_table(suite: Suite, paths: Paths) -> None:
    """Write ``difficulty.csv`` and ``difficulty.md``.

    Raises:
        VistaError: queries, rollouts, training sets or results are missing or not up to date.
    """
    csv, markdown = paths.table("difficulty", "csv"), paths.table("difficulty", "md")
    recorder = Recorder("analysis", {"suite": suite.name}, [paths.long])
    statuses = run_statuses(suite, paths)
    reader = Reader(suite, paths)
    rows = mass_rows(suite, statuses, reader)
    rows += accuracy_rows(suite, statuses, scores_by_run(read_long(paths.long)), reader)
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object).astype(object)
    table = table.where(table.notna(), None)
    text = table.map(lambda value: number(value) if value is None or isinstance(value, float) else str(value))
    write_text(csv, text.to_csv(index=False, lineterminator="\n"))
    write_text(markdown, difficulty_markdown(suite, table, BINS))
    for output in (csv, markdown):
        recorder.write(output, {"rows": len(table)})


def bin_of(right: int, samples: int) -> str:
    """The bin of a query of whose ``samples`` so many are right."""
    if right == 0:
        return BINS[0]
    if right == samples:
        return BINS[4]
    # In whole numbers: 3 of 10 is 0.3 and nothing beside it.
    return BINS[1] if 10 * right <= 3 * samples else BINS[2] if 10 * right < 7 * samples else BINS[3]


@dataclass
class PassRates:
    """SFT-Seed's samples of one model, train set and seed: by train query, how many, and how many right."""

    samples: Counter[str]
    right: Counter[str]

    def bins(self) -> dict[str, str]:
        """The bin of every train query."""
        return {query: bin_of(self.right[query], count) for query, count in self.samples.items()}


class Reader:
    """What the table takes from the results folder, each file read once."""

    def __init__(self, suite: Suite, paths: Paths) -> None:
        self.suite = suite
        self.paths = paths
        self._rates: dict[Run, PassRates | None] = {}
        self._solutions: dict[tuple[str, str, str], PassRates] = {}
        self._groups: dict[tuple[str, Split], dict[str, str]] = {}

    def pass_rates(self, run: Run) -> PassRates | None:
        """Pass rates of the SFT-Seed of a run's model, train set and seed, if it was sampled at all.

        Of several samplings the one with the most samples per query counts; of several such, the one
        that the most methods read.
        """
        seed = reference_of(self.suite, run)
        if seed is None:
            return None
        if seed not in self._rates:
            samplings = [
                method.rollouts
                for name, method in self.suite.methods.items()
                if isinstance(method, SelfImprovement)
                and method.initial_policy == seed.method
                and seed.model in self.suite.where(name)[0]
                and seed.seed in self.suite.where(name)[1]
            ]
            best = max(samplings, key=lambda each: (each.k, samplings.count(each)), default=None)
            self._rates[seed] = self.solutions(seed, "samples", best.slug) if best else None
        return self._rates[seed]

    def solutions(self, policy: Run, kind: str, name: str | None) -> PassRates:
        """How many solutions a rollout file holds to each query, and how many are right."""
        if name is None:
            return PassRates(Counter(), Counter())
        key = (policy.id, kind, name)
        if key not in self._solutions:
            found = PassRates(Counter(), Counter())
            for shard in range(self.suite.shards):
                path = self.paths.rollouts(policy.id, kind, name, shard, self.suite.shards)
                table = read_table(path, ROLLOUT, ["query_id", "correct"]).to_pandas()
                found.samples.update(table["query_id"])
                found.right.update(table.loc[table["correct"].astype(bool), "query_id"])
            self._solutions[key] = found
        return self._solutions[key]

    def trained(self, run: Run, method: SelfImprovement) -> Counter[str]:
        """Examples (or pairs) of each train query in a run's training set."""
        schema = PAIR if method.objective.pairs else EXAMPLE
        rows = read_table(self.paths.training_set(run.id), schema, ["query_id", "source"]).to_pandas()
        return Counter(rows.loc[rows["source"] != "seed", "query_id"])

    def groups(self, train_set: str, split: Split) -> dict[str, str]:
        """The kind of each query: task and template where the scene is known, else task and answer type."""
        if (train_set, split) not in self._groups:
            columns = ["query_id", "task", "answer_type", "scene"]
            found = {}
            for task in self.suite.train_sets[train_set]:
                for row in read_queries(self.paths.queries(task, split), columns):
                    kind = load(row["scene"])[1].template if row["scene"] else row["answer_type"]
                    found[row["query_id"]] = f"{task}: {kind}"
            self._groups[train_set, split] = found
        return self._groups[train_set, split]


# --- training mass ---------------------------------------------------------------------------


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


# --- test accuracy ---------------------------------------------------------------------------


def accuracy_rows(
    suite: Suite, statuses: Mapping[Run, Status], scores: Mapping[Run, pd.DataFrame], reader: Reader
) -> list[dict[str, Any]]:
    """For each run, a row for each kind of question of its train set's tasks."""
    grouped = {run: _by_group(suite, run, frame, reader) for run, frame in scores.items()}
    rows: list[dict[str, Any]] = []
    for run, status in statuses.items():
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
            if group in before:
                row["accuracy_sft_seed"] = overall_mean(before[group]).mean * PERCENT
                if run != reference:
                    difference = paired_difference(own, before[group])
                    row |= {"delta": difference.mean * PERCENT, "delta_se": difference.se * PERCENT}
            rows.append(first | row)
    return rows


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
