"""What sharing saves: the jobs of a suite against those of its methods run apart; for ``vista plan``.

Apart means that each method makes all that its own predictions need: queries, base models, initial
policies, rollouts. Everything is read off the inputs that ``vista.dag`` gives to the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vista import grid
from vista.config import Suite
from vista.dag import Dag
from vista.grid import Run
from vista.planning.assumptions import CPU_SECONDS
from vista.planning.estimate import HOUR, Estimator
from vista.planning.jobs import RULE_OF_KIND, RolloutFile

# The same for every method, and made (or fetched) once even by who runs methods one after the other.
COMMON = ("tasks", "models")


@dataclass(frozen=True)
class Job:
    """One job: its rule, and what it is about, as in its output's path below the rule's folder."""

    rule: str
    name: str


class JobTree:
    """Which jobs a run needs when nothing is made yet."""

    def __init__(self, suite: Suite) -> None:
        self.dag = Dag(suite)
        self._known: dict[str, frozenset[Job]] = {}

    def of_run(self, run: Run) -> frozenset[Job]:
        """Every job behind a run's predictions."""
        inputs = [*self.dag.test_queries(), self.dag.checkpoint(run.id)]
        return self._all(inputs) | {Job("evaluate", run.id)}

    def _all(self, paths: Iterable[str]) -> frozenset[Job]:
        return frozenset[Job]().union(*(self._of_file(path) for path in paths))

    def _of_file(self, path: str) -> frozenset[Job]:
        if path not in self._known:
            own, inputs = self._job(path)
            self._known[path] = self._all(inputs) | frozenset(own)
        return self._known[path]

    def _job(self, path: str) -> tuple[list[Job], list[str]]:
        """The jobs that make a file, and their inputs; none for a file of the user's."""
        dag, file = self.dag, Path(path)
        if not file.is_relative_to(dag.paths.results):
            return [], []
        stage, *parts = file.relative_to(dag.paths.results).parts
        folder = "/".join(parts[:-1])
        if stage == "tasks":
            return [Job("tasks", f"{folder}/{file.stem}")], []
        if stage == "models":
            return [Job("models", folder)], dag.corpus(folder)
        if stage == "training":
            inputs = [*dag.curation_inputs(folder), dag.training_start(folder)]
            return [Job("curate", folder), Job("train", folder)], inputs
        *run, kind, name, shard_file = parts
        policy, shard = "/".join(run), shard_file.split("-of-")[0]
        job = Job(RULE_OF_KIND[kind], "/".join([policy, kind, name, shard]))
        inputs = [dag.checkpoint(policy)]
        if kind == "samples":
            return [job], inputs + dag.sampled_queries(policy, name)
        if kind == "resamples":
            made_from = dag.resample_inputs(policy, name, shard)
        else:
            made_from = dag.measure_inputs(policy, kind, name, shard)
        return [job], [*inputs, *dag.train_queries(policy), *made_from]


@dataclass(frozen=True)
class Sharing:
    """Jobs and hours (GPU hours, or core hours without GPUs) of a suite, and of its methods apart."""

    jobs: int
    jobs_apart: int
    hours: float
    hours_apart: float
    hours_common: float  # of ``hours``: queries and base models
    hours_common_apart: float

    @property
    def share(self) -> float:
        """Hours of the suite by those of the methods apart."""
        return self.hours / self.hours_apart if self.hours_apart else 1.0

    @property
    def share_without_common(self) -> float:
        """The same when queries and base models are at hand."""
        apart = self.hours_apart - self.hours_common_apart
        return (self.hours - self.hours_common) / apart if apart else 1.0


def sharing(suite: Suite, estimator: Estimator) -> Sharing:
    """Count and cost the jobs of all runs together, and of each method by itself."""
    tree = JobTree(suite)
    apart: dict[str, set[Job]] = {}
    for run in grid.runs(suite):
        apart.setdefault(run.method, set()).update(tree.of_run(run))
    together = set().union(*apart.values())
    hours = {job: job_hours(estimator, job) for job in together}

    def total(jobs: set[Job], common: bool = False) -> float:
        return sum(hours[job] for job in jobs if not common or job.rule in COMMON)

    return Sharing(
        jobs=len(together),
        jobs_apart=sum(len(jobs) for jobs in apart.values()),
        hours=total(together),
        hours_apart=sum(total(jobs) for jobs in apart.values()),
        hours_common=total(together, common=True),
        hours_common_apart=sum(total(jobs, common=True) for jobs in apart.values()),
    )


def job_hours(estimator: Estimator, job: Job) -> float:
    """Hours of one job: of GPUs, or of a CPU core where the suite asks for none."""
    suite = estimator.suite
    if not suite.gpus:
        return (CPU_SECONDS | estimator.assumptions.cpu_seconds)[job.rule] * suite.threads / HOUR
    if job.rule == "train":
        return estimator.training_hours(Run.parse(job.name))
    if job.rule == "evaluate":
        return estimator.evaluation_hours(Run.parse(job.name))
    if job.rule in RULE_OF_KIND.values():
        *policy, kind, name, _shard = job.name.split("/")
        file = RolloutFile(Run.parse("/".join(policy)), kind, name, ())
        return estimator.rollout_hours(file) / suite.shards
    return 0.0
