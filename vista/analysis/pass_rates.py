"""How difficult SFT-Seed finds queries: its pass rates, and the rollouts and training sets they explain.

For the tables of difficulty and distributions. A train query's pass rate is the share of
SFT-Seed's samples to it that are right.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vista.analysis.comparisons import reference_of
from vista.config import SelfImprovement, Suite
from vista.grid import Run
from vista.manifest import check_inputs
from vista.paths import Paths
from vista.reads import Reads
from vista.records import EXAMPLE, PAIR, ROLLOUT, Split, read_queries, read_table
from vista.testbed.questions import load

# The first and the last are the queries that SFT-Seed never and always gets right.
BINS = ["0", "(0, 0.3]", "(0.3, 0.7)", "[0.7, 1)", "1"]


def bin_of(right: int, samples: int) -> str:
    """The bin of a query with ``right`` correct ones among its ``samples``."""
    if right == 0:
        return BINS[0]
    if right == samples:
        return BINS[4]
    # In whole numbers, so that 3 of 10 is exactly 0.3.
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
    """What the table reads from the results folder, each file once; ``files`` are those read so far."""

    def __init__(self, suite: Suite, paths: Paths) -> None:
        self.suite = suite
        self.paths = paths
        self.files: list[Path] = []
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
            for path in Reads(self.suite, self.paths).shards(policy, kind, name):
                table = read_table(self._sound(path), ROLLOUT, ["query_id", "correct"]).to_pandas()
                found.samples.update(table["query_id"])
                found.right.update(table.loc[table["correct"].astype(bool), "query_id"])
            self._solutions[key] = found
        return self._solutions[key]

    def trained(self, run: Run, method: SelfImprovement) -> Counter[str]:
        """Examples (or pairs) of each train query in a run's training set."""
        schema = PAIR if method.objective.pairs else EXAMPLE
        path = self._sound(self.paths.training_set(run.id))
        rows = read_table(path, schema, ["query_id", "source"]).to_pandas()
        return Counter(rows.loc[rows["source"] != "seed", "query_id"])

    def groups(self, train_set: str, split: Split) -> dict[str, str]:
        """The kind of each query: task and template where the scene is known, else task and answer type."""
        if (train_set, split) not in self._groups:
            columns = ["query_id", "task", "answer_type", "scene"]
            found = {}
            for task in self.suite.train_sets[train_set]:
                for row in read_queries(self._sound(self.paths.queries(task, split)), columns):
                    kind = load(row["scene"])[1].template if row["scene"] else row["answer_type"]
                    found[row["query_id"]] = f"{task}: {kind}"
            self._groups[train_set, split] = found
        return self._groups[train_set, split]

    def _sound(self, path: Path) -> Path:
        """``path``, checked against its manifest."""
        check_inputs([path])
        self.files.append(path)
        return path
