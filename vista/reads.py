"""What each job reads, as typed paths: the rules declare these files, and the stages read them.

Pure functions of the suite, so that a rule's inputs and what its job opens cannot differ. First the jobs up
to evaluation; then which rollouts the testbed's direct measurements (``vista audit``, ``prefix``, ``cases``,
``distributions``) read. These compare solutions with scenes, which only generated tasks have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vista import grid
from vista.config import Filter as FilterSettings
from vista.config import SeedMethod, SelfImprovement, Suite
from vista.errors import VistaError
from vista.grid import Run
from vista.paths import Paths
from vista.records import Split
from vista.resamplers import ResampleSettings


@dataclass(frozen=True)
class SeedFiles:
    """The seed queries of a run, and the base model's solutions to them if these are trained on."""

    queries: list[Path]
    samples: list[Path]

    @property
    def every_file(self) -> list[Path]:
        """All of them."""
        return [*self.queries, *self.samples]


@dataclass(frozen=True)
class RolloutFiles:
    """One policy's rollouts that a method reads, all shards."""

    samples: list[Path]
    resamples: list[Path]
    scores: list[Path]
    gains: list[Path]

    @property
    def solutions(self) -> list[Path]:
        """Samples, then resamples."""
        return [*self.samples, *self.resamples]

    @property
    def every_file(self) -> list[Path]:
        """All of them."""
        return [*self.solutions, *self.scores, *self.gains]


@dataclass(frozen=True)
class CurationFiles:
    """What a run's training set is selected from."""

    seed: SeedFiles | None  # None where the seed split is not trained on
    queries: list[Path]  # train queries; none where no rollouts are read
    policies: list[RolloutFiles]  # the latest first

    @property
    def rollouts(self) -> list[Path]:
        """The rollouts of all policies."""
        return [file for policy in self.policies for file in policy.every_file]

    @property
    def every_file(self) -> list[Path]:
        """All of them."""
        return [*self.queries, *(self.seed.every_file if self.seed else []), *self.rollouts]


@dataclass(frozen=True)
class Reads:
    """The files that the jobs of a suite read."""

    suite: Suite
    paths: Paths

    def queries(self, run: Run, split: Split) -> list[Path]:
        """One split of each of the run's tasks, in the order of the train set."""
        return [self.paths.queries(task, split) for task in self.suite.train_sets[run.train_set]]

    def trained_queries(self) -> list[Path]:
        """Train queries of every task that is trained on."""
        return [self.paths.queries(task, "train") for task in self.suite.trained_tasks]

    def test_queries(self) -> list[Path]:
        """Test queries of every task that is evaluated."""
        return [self.paths.queries(task, "test") for task in self.suite.evaluated_tasks]

    def checkpoint(self, run: Run) -> Path:
        """Folder of a run's weights: its own, its base model's, or another run's."""
        run = grid.weights(self.suite, run)
        return self.paths.checkpoint(run, grid.is_trained(self.suite, run))

    def start(self, run: Run) -> Path:
        """Folder of the checkpoint that a run's training starts from."""
        restart = grid.restart(self.suite, run)
        return self.paths.base(run.model) if restart is None else self.checkpoint(restart)

    def shard(self, policy: Run, kind: str, name: str, shard: int) -> Path:
        """One shard of a policy's rollouts."""
        return self.paths.rollouts(policy.id, kind, name, shard, self.suite.shards)

    def shards(self, policy: Run, kind: str, name: str | None) -> list[Path]:
        """All shards of a policy's rollouts of one kind and name; none where there is no name."""
        count = self.suite.shards if name is not None else 0
        return [self.shard(policy, kind, str(name), number) for number in range(count)]

    def named(self, policy: Run, files: Iterable[tuple[str, str]]) -> list[Path]:
        """All shards of several kinds and names."""
        return [file for kind, name in files for file in self.shards(policy, kind, name)]

    def resampling(self, policy: Run, name: str, shard: int) -> list[Path]:
        """The samples that a shard of resamples starts from, and the resamples that it is matched to."""
        work = grid.resampling_named(self.suite, name)
        return [self.shard(policy, kind, read, shard) for kind, read in work.inputs]

    def measuring(self, policy: Run, kind: str, name: str, shard: int) -> list[Path]:
        """The solutions that a shard of scores or gains measures: samples, then resamples."""
        names = grid.rollout_files(grid.method_with(self.suite, kind, name))
        found = [self.shard(policy, "samples", names.samples, shard)]
        if names.resamples is not None:
            found.append(self.shard(policy, "resamples", names.resamples, shard))
        return found

    def rollouts(self, policy: Run, names: grid.RolloutFiles) -> RolloutFiles:
        """A policy's rollouts under the names that a method reads."""
        return RolloutFiles(
            self.shards(policy, "samples", names.samples),
            self.shards(policy, "resamples", names.resamples),
            self.shards(policy, "scores", names.scores),
            self.shards(policy, "gains", names.gains),
        )

    def curation(self, run: Run) -> CurationFiles:
        """What a run's training set is selected from."""
        found = grid.sources(self.suite, run)
        seed = None
        if self.suite.methods[run.method].trains_on_seed:
            own = found.seed
            samples = self.shards(own.policy, "samples", own.name) if own else []
            seed = SeedFiles(self.queries(run, "seed"), samples)
        policies = [self.rollouts(policy, names) for policy, names in found.policies]
        return CurationFiles(seed, self.queries(run, "train") if policies else [], policies)


@dataclass(frozen=True)
class ScoredPool:
    """Solutions of one policy that some method filters by a score, with all the scores they have."""

    policy: Run
    samples: str
    resamples: str | None
    scores: tuple[str, ...]  # names of attention score files
    gains: tuple[str, ...]  # names of information gain files
    filters: tuple[FilterSettings, ...]  # what the methods that read these solutions filter by

    @property
    def name(self) -> str:
        """The solutions' name, the same for every policy."""
        return self.resamples or self.samples

    def files(self) -> list[tuple[str, str]]:
        """Kind and name of every rollout file of the pool."""
        named = [("samples", self.samples), *([("resamples", self.resamples)] if self.resamples else [])]
        return [
            *named,
            *(("scores", name) for name in self.scores),
            *(("gains", name) for name in self.gains),
        ]


@dataclass(frozen=True)
class Resamples:
    """What one policy resampled in one way, and the samples that had failed."""

    policy: Run
    samples: str
    name: str
    settings: ResampleSettings

    def files(self) -> list[tuple[str, str]]:
        """Kind and name of both rollout files."""
        return [("samples", self.samples), ("resamples", self.name)]


def scored_pools(suite: Suite) -> list[ScoredPool]:
    """The pools of the grid, in its order, each once.

    Raises:
        VistaError: a task has no scenes, or no method filters by a score.
    """
    _check_scenes(suite, "audit")
    found: dict[tuple[Run, str, str | None], ScoredPool] = {}
    for policy, method in _readers(suite):
        files = grid.rollout_files(method)
        if files.scores is None and files.gains is None:
            continue
        key = (policy, files.samples, files.resamples)
        old = found.get(key, ScoredPool(*key, (), (), ()))
        found[key] = ScoredPool(
            *key,
            _with(old.scores, files.scores),
            _with(old.gains, files.gains),
            _with(old.filters, method.filter),
        )
    if not found:
        raise VistaError(
            f"suite {suite.name!r}: no method filters by a score, so there is nothing to audit; "
            "add one, such as vista-sft"
        )
    return list(found.values())


def audited_filters(suite: Suite) -> list[FilterSettings]:
    """The filters whose cuts the audit repeats, each once."""
    filters: list[FilterSettings] = []
    for pool in scored_pools(suite):
        filters += [settings for settings in pool.filters if settings not in filters]
    return filters


def prefix_resamples(suite: Suite) -> list[Resamples]:
    """Every way in which the grid resamples, in its order, each once.

    Raises:
        VistaError: a task has no scenes, or no method resamples from prefixes.
    """
    _check_scenes(suite, "prefix")
    found: dict[tuple[Run, str], Resamples] = {}
    for policy, method in _readers(suite):
        files = grid.rollout_files(method)
        if files.resamples is None:
            continue
        item = Resamples(policy, files.samples, files.resamples, method.resample)
        found.setdefault((policy, files.resamples), item)
    if not any(item.settings.kind == "prefix" for item in found.values()):
        raise VistaError(
            f"suite {suite.name!r}: no method resamples from prefixes, so there is nothing to measure; "
            "add one, such as vista-sft"
        )
    return list(found.values())


def input_files(suite: Suite, paths: Paths, items: Sequence[ScoredPool | Resamples]) -> list[Path]:
    """Train queries and rollout files that the measurements of ``items`` read, each once."""
    reads = Reads(suite, paths)
    files = {(item.policy, *file): None for item in items for file in item.files()}
    rollouts = [file for policy, kind, name in files for file in reads.shards(policy, kind, name)]
    return [*reads.trained_queries(), *rollouts]


def has_scenes(suite: Suite) -> bool:
    """Whether the tasks trained on say what their images show."""
    return not suite.tasks_without_scene


def first_policies(suite: Suite) -> list[tuple[Run, SelfImprovement]]:
    """Every method that samples SFT-Seed in its first round, with each such policy."""
    return [
        (grid.policy(suite, run), method)
        for run in grid.runs(suite)
        if isinstance(method := suite.methods[run.method], SelfImprovement)
        and run.round == 1
        and isinstance(suite.methods[method.initial_policy], SeedMethod)
    ]


def first_pools(suite: Suite) -> list[ScoredPool]:
    """Of each SFT-Seed the solutions with attention scores that the most filters read."""
    methods = first_policies(suite)
    firsts = {policy for policy, _ in methods}
    widest: dict[Run, ScoredPool] = {}
    scored = any(grid.rollout_files(method).scores for _, method in methods)
    for pool in scored_pools(suite) if scored else []:
        known = widest.get(pool.policy)
        if pool.policy in firsts and pool.scores and (not known or len(pool.filters) > len(known.filters)):
            widest[pool.policy] = pool
    return list(widest.values())


def first_resamples(suite: Suite) -> list[Resamples]:
    """Of each SFT-Seed the first prefix resampling in the order of the suite."""
    methods = first_policies(suite)
    firsts = {policy for policy, _ in methods}
    found: dict[Run, Resamples] = {}
    prefixed = any(method.resample.kind == "prefix" for _, method in methods)
    for item in prefix_resamples(suite) if prefixed else []:
        if item.policy in firsts and item.settings.kind == "prefix":
            found.setdefault(item.policy, item)
    return list(found.values())


@dataclass(frozen=True)
class CasePool:
    """What the cases of one policy are chosen from: solutions with attention scores, and resamples."""

    policy: Run
    samples: str
    resamples: str
    scores: str

    def files(self) -> list[tuple[str, str]]:
        """Kind and name of every rollout file."""
        return [
            *(("samples", self.samples), ("resamples", self.resamples)),
            *(("critical", self.resamples), ("scores", self.scores)),
        ]


def case_pools(suite: Suite) -> list[CasePool]:
    """Of each model and train set the first SFT-Seed whose solutions are scored and resampled."""
    found: dict[tuple[str, str], CasePool] = {}
    for policy, method in first_policies(suite):
        files = grid.rollout_files(method)
        if method.resample.kind == "prefix" and files.resamples and files.scores:
            pool = CasePool(policy, files.samples, files.resamples, files.scores)
            found.setdefault((policy.model, policy.train_set), pool)
    return list(found.values())


def distribution_files(suite: Suite, paths: Paths) -> list[Path]:
    """Every file that the distributions are counted in, each once."""
    reads = Reads(suite, paths)
    found = dict.fromkeys(reads.trained_queries())
    for policy, method in first_policies(suite):
        read = reads.rollouts(policy, grid.rollout_files(method))
        found.update(dict.fromkeys([*read.samples, *read.scores]))
    if has_scenes(suite):
        for items in (first_pools(suite), first_resamples(suite)):
            found.update(dict.fromkeys(input_files(suite, paths, items)))
    return list(found)


def _readers(suite: Suite) -> list[tuple[Run, SelfImprovement]]:
    """Every method that reads rollouts, with each policy that it reads them of."""
    return [
        (grid.policy(suite, run), method)
        for run in grid.runs(suite)
        if isinstance(method := suite.methods[run.method], SelfImprovement)
    ]


def _check_scenes(suite: Suite, table: str) -> None:
    if without := suite.tasks_without_scene:
        raise VistaError(
            f"suite {suite.name!r}: tables/{table}.csv needs to know what the images show, and the tasks "
            f"{without} do not say; this table is only for suites that train on generated tasks (kind: grid)"
        )


def _with(known: tuple, item: object) -> tuple:  # type: ignore[type-arg]
    """``known`` and, if it is something new, ``item``."""
    return known if item is None or item in known else (*known, item)
