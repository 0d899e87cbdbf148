"""Which jobs a suite's tables and each of its runs need, and which rollouts several methods share.

For ``vista plan``. Derived from the inputs that ``vista.dag`` gives to the rules, so that a plan counts what
Snakemake would run (a test compares the two).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from vista import grid
from vista.config import BuiltModel, Suite
from vista.dag import Dag
from vista.dag.inputs import RULE_OF_KIND
from vista.records import Split


@dataclass(frozen=True)
class RolloutFile:
    """Rollouts of one policy (all shards), and the runs whose training sets need them."""

    policy: grid.Run
    kind: str  # samples, resamples, scores or gains
    name: str
    readers: tuple[grid.Run, ...]


def rollout_files(suite: Suite) -> list[RolloutFile]:
    """Every rollout file that some run needs, in the order of the grid."""
    dag = Dag(suite)
    readers: dict[tuple[grid.Run, str, str], dict[grid.Run, None]] = {}
    for run in grid.runs(suite):
        if not grid.is_trained(suite, run):
            continue
        for path in dag.curation_inputs(run.id):
            for key in _rollouts(dag, path):
                readers.setdefault(key, {})[run] = None
    return [RolloutFile(*key, tuple(runs)) for key, runs in readers.items()]


def _rollouts(dag: Dag, path: str) -> list[tuple[grid.Run, str, str]]:
    """The rollout file that ``path`` is a shard of, after those that it is made from; none for others."""
    key = _rollout(dag, path)
    if key is None:
        return []
    policy, kind, name = key
    read = dag.reads.resampling(policy, name, 0) if kind == "resamples" else []
    return [*(found for each in read for found in _rollouts(dag, str(each))), key]


def _rollout(dag: Dag, path: str) -> tuple[grid.Run, str, str] | None:
    """Policy, kind and name of a shard's path; ``None`` for another path."""
    folder = dag.paths.results / "rollouts"
    if not Path(path).is_relative_to(folder):
        return None
    *policy, kind, name, _shard = Path(path).relative_to(folder).parts
    return grid.Run.parse("/".join(policy)), kind, name


def splits(suite: Suite) -> list[tuple[str, Split]]:
    """Task and split of every query file that is needed."""
    dag = Dag(suite)
    paths = dag.test_queries()
    for run in grid.runs(suite):
        if grid.is_trained(suite, run):
            paths += [path for path in dag.curation_inputs(run.id) if _rollout(dag, path) is None]
    for model, spec in suite.models.items():
        if isinstance(spec, BuiltModel):
            paths += dag.corpus(model)
    folder = dag.paths.results / "tasks"
    queries = [Path(path) for path in dict.fromkeys(paths) if Path(path).is_relative_to(folder)]
    return [(path.parent.name, cast(Split, path.stem)) for path in queries]


def answering_rule(suite: Suite) -> str:
    """The rule whose jobs answer test queries with a checkpoint."""
    return "respond" if Dag(suite).reads.responds_elsewhere else "evaluate"


def job_counts(suite: Suite) -> dict[str, int]:
    """Jobs of each rule that ``tables/main.csv`` needs when nothing has been made yet, by stage."""
    runs = grid.evaluations(suite)
    trained = sum(grid.is_trained(suite, run) for run in runs)
    graded = sum(grid.is_graded(suite, run) for run in runs)
    evaluated, reads = sum(run.model in suite.models for run in runs) - graded, Dag(suite).reads
    rollouts = Counter(RULE_OF_KIND[file.kind] for file in rollout_files(suite))
    counts = {
        "tasks": len(splits(suite)),
        "models": len(suite.models),
        "adopt": sum(grid.is_adopted(suite, run) for run in runs),
        "check": sum(not isinstance(model, BuiltModel) for model in suite.models.values()),
        **{rule: rollouts[rule] * suite.shards for rule in RULE_OF_KIND.values()},
        "encodable": sum(bool(Dag(suite).asked(model)) for model in suite.models),
        "curate": trained,
        "train": trained,
        "evaluate": evaluated,
        "ask": sum(run.model in suite.endpoints for run in runs),
        "grade": graded,
        **({"requests": len(reads.requests()), "respond": evaluated} if reads.responds_elsewhere else {}),
        "collect": 1,
        "results": 1,
    }
    return {rule: count for rule, count in counts.items() if count}


@dataclass(frozen=True)
class Job:
    """One job: its rule, and what it is about, as in its output's path below the rule's folder."""

    rule: str
    name: str


class JobTree:
    """Which jobs a run needs when nothing has been made yet."""

    def __init__(self, suite: Suite) -> None:
        self.dag = Dag(suite)
        self._known: dict[str, frozenset[Job]] = {}

    def of_run(self, run: grid.Run) -> frozenset[Job]:
        """Every job that a run's predictions need."""
        run = grid.evaluated(self.dag.suite, run)
        if run.model in self.dag.suite.endpoints:
            return self._all(self.dag.test_queries()) | {Job("ask", run.id)}
        if grid.is_graded(self.dag.suite, run):
            return self._all(self.dag.test_queries()) | {Job("grade", run.id)}
        inputs = [*self.dag.test_queries(), self.dag.checkpoint(run.id)]
        checks = {Job("encodable", run.model)} if self.dag.encodable(run.id) else set()
        return self._all(inputs) | {Job("evaluate", run.id), *checks, *self._responding(run)}

    def _responding(self, run: grid.Run) -> set[Job]:
        """The jobs in which a run is answered before it is evaluated, if there are any."""
        if not self.dag.reads.responds_elsewhere:
            return set()
        asked = {Job("requests", path.stem) for path in self.dag.reads.requests()}
        return {Job("respond", run.id), *asked}

    def made_from(self, made: Collection[Job], run: grid.Run) -> frozenset[Job]:
        """The jobs among those of a run that are in ``made``, or need the output of one that is."""
        own = self.of_run(run)  # which looks at every file on the way
        asking = {Job("respond", run.id), Job("evaluate", run.id)}
        found = asking if not own.isdisjoint(made) else set[Job]()
        for path in list(self._known):
            jobs, inputs = self._job(path)
            found.update(jobs if not self._all(inputs).isdisjoint(made) else set(jobs) & set(made))
        return own & found

    def _all(self, paths: Iterable[str]) -> frozenset[Job]:
        return frozenset[Job]().union(*(self._of_file(path) for path in paths))

    def _of_file(self, path: str) -> frozenset[Job]:
        if path not in self._known:
            own, inputs = self._job(path)
            self._known[path] = self._all(inputs) | frozenset(own)
        return self._known[path]

    def _job(self, path: str) -> tuple[list[Job], list[str]]:
        """The jobs that make a file, and their inputs; none for a user's own file."""
        dag, file = self.dag, Path(path)
        if not file.is_relative_to(dag.paths.results):
            return [], []
        stage, *parts = file.relative_to(dag.paths.results).parts
        folder = "/".join(parts[:-1])
        if stage == "tasks":
            return [Job("tasks", f"{folder}/{file.stem}")], []
        if stage == "models":
            checks = [Job("check", folder)] if dag.checks(folder) else []
            return [Job("models", folder), *checks], dag.corpus(folder)
        if stage == "external":
            return [Job("adopt", folder)], [dag.base(folder)]
        if stage == "training":
            inputs = [*dag.curation_inputs(folder), dag.training_start(folder)]
            inputs += dag.training_budget(folder)
            return [Job("curate", folder), Job("train", folder)], inputs
        *run, kind, name, shard_file = parts
        policy, shard = "/".join(run), shard_file.split("-of-")[0]
        job = Job(RULE_OF_KIND[kind], "/".join([policy, kind, name, shard]))
        return [job], [dag.checkpoint(policy), *dag.rollout_inputs(kind, policy, name, shard)]
