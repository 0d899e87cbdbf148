"""What each job reads, as typed paths: the rules declare these files, and the stages read them.

Pure functions of the suite, so that a rule's inputs and what its job opens cannot differ. Which rollouts the
testbed's direct measurements read, ``vista.measured`` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vista import grid
from vista.config import BuiltModel, OnlineMethod, Suite, VllmEngineSettings
from vista.errors import VistaError
from vista.grid import Run
from vista.paths import Paths
from vista.records import Split

# What a checkpoint consists of: weights as safetensors, configs, tokenizers, chat templates, and code, which
# is run only if the model's entry says so.
CHECKPOINT = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py")
SAMPLES = ("*samples_*.jsonl",)  # as lmms-eval names a task's


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
    queries: list[Path]  # train queries; none where nothing is sampled on them
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

    @property
    def responds_elsewhere(self) -> bool:
        """Whether the responses to test queries are generated in the environment of the suite's engine."""
        return isinstance(self.suite.engine, VllmEngineSettings)

    def responses(self, run: Run) -> list[Path]:
        """What was answered for a run before its evaluation; nothing where that generates its own."""
        return [self.paths.responses(run.id)] if self.responds_elsewhere else []

    def requests(self) -> list[Path]:
        """What lmms-eval's own tasks ask, where another environment has to know."""
        own = [task for task in self.suite.evaluated_tasks if self.suite.tasks[task].evaluator is not None]
        return [self.paths.requests(task) for task in own] if self.responds_elsewhere else []

    def shared_counts(self) -> dict[str, list[Path]]:
        """By task that counts pictures shared with its test split, the queries that some run trains on."""
        found: dict[str, dict[Path, None]] = {}
        for run in grid.runs(self.suite):
            if grid.is_trained(self.suite, run):
                read = self.curation(run)
                for file in [*(read.seed.queries if read.seed else []), *read.queries]:
                    if self.suite.tasks[file.parent.name].counts_shared_images:
                        found.setdefault(file.parent.name, {})[file] = None
        return {task: list(files) for task, files in found.items()}

    def asked(self, model: str) -> list[Path]:
        """Every file of queries that jobs show a model and that may not suit its processor.

        For a built model only those of tasks that are not generated: its tokenizer and its images are those
        of the others. None for one at an endpoint, which has no processor here.
        """
        if model in self.suite.endpoints:
            return []
        found = dict.fromkeys(self.test_queries())
        for run in grid.runs(self.suite):
            if run.model == model and grid.is_trained(self.suite, run):
                read = self.curation(run)
                found |= dict.fromkeys([*(read.seed.queries if read.seed else []), *read.queries])
        is_built = isinstance(self.suite.models[model], BuiltModel)
        return [
            file for file in found if not (is_built and self.suite.tasks[file.parent.name].closed_vocabulary)
        ]

    def checkpoint(self, run: Run) -> Path:
        """Folder of a run's weights: its own, its base model's, or another run's.

        Raises:
            VistaError: it has none: its model is at an endpoint, or its responses were generated elsewhere.
        """
        if run.model in self.suite.endpoints:
            raise VistaError(
                f"{run.id}: {run.model} is at an endpoint and has no weights here; use `vista ask`"
            )
        run = grid.weights(self.suite, run)
        if grid.is_graded(self.suite, run):
            raise VistaError(f"{run.id}: there are responses to grade, and no checkpoint")
        if grid.is_adopted(self.suite, run):
            return self.paths.adopted(grid.evaluated(self.suite, run).id)
        return self.paths.trained(run.id) if grid.is_trained(self.suite, run) else self.paths.base(run.model)

    def predictions(self, run: Run) -> Path:
        """The predictions that a run's rows in the tables are made from."""
        return self.paths.predictions(grid.evaluated(self.suite, run).id)

    def given(self, run: Run) -> list[Path]:
        """The user's files that a run's checkpoint or predictions are made from; none if they are missing.

        Of a checkpoint folder, those that a checkpoint or an adapter consists of; what a training left there
        to resume from is not read. Of a folder of responses, those that lmms-eval names as samples.
        """
        place = grid.given(self.suite, run)
        if place is None or not place.is_dir():
            return [] if place is None or not place.is_file() else [place]
        patterns = SAMPLES if grid.is_graded(self.suite, run) else CHECKPOINT
        found = {file for pattern in patterns for file in place.glob(pattern) if file.is_file()}
        return sorted(file for file in found if file.name[0] != "." and file.name != "manifest.json")

    def histories(self) -> dict[Run, Path]:
        """What was logged of every training of the grid, in its order."""
        trained = [run for run in grid.runs(self.suite) if grid.is_trained(self.suite, run)]
        return {run: self.paths.history(run.id) for run in trained}

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

    def drawn(self, run: Run) -> list[Path]:
        """The solutions that were sampled for a run's data in its own round."""
        names = grid.rollout_files(grid.self_improvement(self.suite, run))
        return self.rollouts(grid.policy(self.suite, run), names).solutions

    def budget(self, run: Run) -> list[Path]:
        """The solutions whose tokens a run that samples as it trains may sample; none without a budget."""
        method = self.suite.methods[run.method]
        if not isinstance(method, OnlineMethod) or method.budget is None:
            return []
        return self.drawn(replace(run, method=method.budget.tokens_of))

    def curation(self, run: Run) -> CurationFiles:
        """What a run's training set is selected from."""
        found = grid.sources(self.suite, run)
        seed = None
        if self.suite.methods[run.method].trains_on_seed:
            own = found.seed
            samples = self.shards(own.policy, "samples", own.name) if own else []
            seed = SeedFiles(self.queries(run, "seed"), samples)
        policies = [self.rollouts(policy, names) for policy, names in found.policies]
        asked = policies or isinstance(self.suite.methods[run.method], OnlineMethod)
        return CurationFiles(seed, self.queries(run, "train") if asked else [], policies)
