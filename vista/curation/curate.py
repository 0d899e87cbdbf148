"""Stage 4's entry: from a policy's rollouts, or from the seed split, to a run's training set.

Command: ``vista curate <results>/suite.json MODEL/TRAIN_SET/METHOD/seedS/roundR``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vista import grid
from vista.config import DpoObjective, SeedMethod, SelfImprovement, Suite
from vista.curation.rows import example, gold_example, pair
from vista.curation.select import COUNTS, Selector
from vista.curation.solutions import Key, Solution, key_of
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder, Status, read_manifest
from vista.paths import Paths
from vista.records import EXAMPLE, PAIR, QUERY, ROLLOUT, SCORES, Row, read_queries, read_rows, write_rows

PROMPT_COLUMNS = ["query_id", "task", "images", "system", "instruction", "rationale"]
SOLUTION_COLUMNS = ["query_id", "sample", "source", "parent", "token_ids", "text", "correct"]
NAME_OF_SOURCE = {
    "seed": "from_seed",
    "sample": "from_samples",
    "prefix": "from_prefix",
    "rationalize": "from_rationalize",
}


def curate(suite: Suite, paths: Paths, run: Run) -> None:
    """Write the training set of ``run`` and its manifest.

    Where a self-improvement method has no positive (or no pair) at all, the file is empty and
    the manifest says ``no-positives``, seed rows or not: to train on the seed split alone would
    be to report SFT-Seed under another name.

    Raises:
        VistaError: an input is missing or inconsistent, or the method trains nothing.
    """
    method = suite.methods[run.method]
    if isinstance(method, SeedMethod):
        _curate_seed(suite, paths, run)
    elif isinstance(method, SelfImprovement):
        _curate_rollouts(suite, paths, run, method)
    else:
        raise VistaError(f"{run.id}: method {run.method!r} trains nothing, so it has no training set")


def _curate_seed(suite: Suite, paths: Paths, run: Run) -> None:
    """SFT-Seed: every annotated query, as it is."""
    files = _query_files(suite, paths, run, "seed")
    recorder = Recorder("curation", _settings(suite, run), files)
    _write(recorder, paths.training_set(run.id), _gold_rows(files), Counter(), pairs=False)


def _curate_rollouts(suite: Suite, paths: Paths, run: Run, method: SelfImprovement) -> None:
    """The policy's verified solutions, as the method selects them."""
    query_files = _query_files(suite, paths, run, "train")
    is_dpo = isinstance(method.objective, DpoObjective)
    # The seed split has no negatives, so it makes no pairs.
    mixes_seed = method.mix_seed and not is_dpo
    seed_files = _query_files(suite, paths, run, "seed") if mixes_seed else []
    rollouts = RolloutPaths.of(suite, paths, run, method)
    recorder = Recorder("curation", _settings(suite, run), [*query_files, *seed_files, *rollouts.every_file])
    selector = Selector(method, run.seed, run.round)
    rows = _selected_rows(selector, _queries(query_files), rollouts) if rollouts.has_result() else []
    status: Status = "complete" if rows else "no-positives"
    if rows and mixes_seed:
        rows = _gold_rows(seed_files) + rows
    _write(recorder, paths.training_set(run.id), rows, selector.counts, is_dpo, status)


@dataclass(frozen=True)
class RolloutPaths:
    """The files of the policy's rollouts that a method reads, all shards."""

    solutions: list[Path]  # samples, then resamples if there are any
    samples: list[Path]
    scores: list[Path]

    @classmethod
    def of(cls, suite: Suite, paths: Paths, run: Run, method: SelfImprovement) -> RolloutPaths:
        """Where ``grid`` says that they lie."""
        policy, names = grid.policy(suite, run).id, grid.rollout_files(method)

        def shards(kind: str, name: str | None) -> list[Path]:
            if name is None:
                return []
            return [paths.rollouts(policy, kind, name, n, suite.shards) for n in range(suite.shards)]

        samples = shards("samples", names.samples)
        return cls(samples + shards("resamples", names.resamples), samples, shards("scores", names.scores))

    @property
    def every_file(self) -> list[Path]:
        """All inputs, for the manifest."""
        return [*self.solutions, *self.scores]

    def has_result(self) -> bool:
        """Whether the policy sampled anything: one that was never trained has nothing to give."""
        return any(read_manifest(path).status == "complete" for path in self.samples)


def _selected_rows(selector: Selector, queries: dict[str, Row], rollouts: RolloutPaths) -> list[Row]:
    """Training rows in the order of the queries; training shuffles them."""
    solutions = _solutions(rollouts.solutions, queries)
    scores = _scores(rollouts.scores)
    build = pair if selector.pairs else example
    rows: list[Row] = []
    for query_id, query in queries.items():
        chosen = selector.select(query_id, list(solutions[query_id].values()), scores[query_id])
        rows += [build(query, choice) for choice in chosen]
    return rows


def _solutions(files: list[Path], queries: Mapping[str, Row]) -> dict[str, dict[Key, Solution]]:
    """Every solution by query and key.

    Raises:
        VistaError: a solution of an unknown query, or two with one key: the rollouts are stale.
    """
    found: dict[str, dict[Key, Solution]] = defaultdict(dict)
    for path in files:
        for index, row in enumerate(read_rows(path, ROLLOUT, SOLUTION_COLUMNS)):
            solution = Solution.of(row)
            known = found[solution.query_id]
            if solution.query_id not in queries:
                raise VistaError(
                    f"{path}: row {index}: query {solution.query_id!r} is not among the train queries; "
                    "delete the policy's rollouts and rerun"
                )
            if solution.key in known:
                raise VistaError(
                    f"{path}: row {index}: a second solution {solution.key} of query {solution.query_id!r}; "
                    "delete the policy's rollouts and rerun"
                )
            known[solution.key] = solution
    return found


def _scores(files: list[Path]) -> dict[str, dict[Key, Row]]:
    """Attention scores by query and key."""
    found: dict[str, dict[Key, Row]] = defaultdict(dict)
    for path in files:
        for row in read_rows(path, SCORES):
            found[row["query_id"]][key_of(row)] = row
    return found


def _query_files(suite: Suite, paths: Paths, run: Run, split: str) -> list[Path]:
    return [paths.queries(task, split) for task in suite.train_sets[run.train_set]]


def _queries(files: list[Path]) -> dict[str, Row]:
    """Queries of all ``files`` by id, in order.

    Raises:
        VistaError: two files share a query id, so rollouts could not be told apart.
    """
    found: dict[str, Row] = {}
    for path in files:
        for row in read_queries(path, [name for name in QUERY.names if name in PROMPT_COLUMNS]):
            if row["query_id"] in found:
                raise VistaError(
                    f"{path}: query_id {row['query_id']!r} also belongs to task "
                    f"{found[row['query_id']]['task']!r}; ids must be unique across a train set"
                )
            found[row["query_id"]] = row
    return found


def _gold_rows(files: list[Path]) -> list[Row]:
    return [gold_example(query) for query in _queries(files).values()]


def _settings(suite: Suite, run: Run) -> dict[str, Any]:
    return {"run": run.id, "method": suite.methods[run.method].model_dump(mode="json")}


def _write(
    recorder: Recorder,
    output: Path,
    rows: list[Row],
    counts: Counter[str],
    pairs: bool,
    status: Status = "complete",
) -> None:
    """Write the rows, then the manifest with a number for every count."""
    write_rows(output, rows, PAIR if pairs else EXAMPLE)
    sources = Counter(NAME_OF_SOURCE[row["source"]] for row in rows)
    final = counts + sources + Counter(examples=len(rows))
    recorder.write(output, {name: float(final[name]) for name in COUNTS}, status)
