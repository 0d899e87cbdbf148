"""What the outputs of the stages up to evaluation are made from."""

from __future__ import annotations

from vista import grid
from vista.config import (
    AnnotatedRationales,
    BuiltModel,
    SelfImprovement,
    VllmEngineSettings,
)
from vista.dag.base import Base
from vista.grid import Run
from vista.measured import case_pools
from vista.paths import manifest_of


class Inputs(Base):
    """Input files and commands of the rules from tasks to evaluation."""

    def rationale_files(self, task: str, split: str) -> list[str]:
        """The user's file with the rationales of a task's seed split, if there is one."""
        settings = self.suite.seed_rationales
        if split != "seed" or not isinstance(settings, AnnotatedRationales) or task not in settings.files:
            return []
        return [str(settings.files[task])]

    def corpus(self, model: str) -> list[str]:
        """The pretraining corpus of a built model; nothing for the others."""
        entry = self.suite.models[model]
        return [str(self.paths.queries(entry.corpus, "train"))] if isinstance(entry, BuiltModel) else []

    def checkpoint(self, run: str) -> str:
        """Manifest of the checkpoint that a run stands for."""
        return self._checkpoint(Run.parse(run))

    def _checkpoint(self, run: Run) -> str:
        run = grid.weights(self.suite, run)
        folder = self.paths.checkpoint(run, grid.is_trained(self.suite, run))
        return str(manifest_of(folder))

    def train_queries(self, run: str) -> list[str]:
        """Train splits of a run's tasks."""
        return self._queries(Run.parse(run), "train")

    def sampled_queries(self, run: str, name: str) -> list[str]:
        """The queries that a policy's samples of this name answer."""
        return self._queries(Run.parse(run), grid.sampled_split(name))

    def _queries(self, run: Run, split: str) -> list[str]:
        return [str(self.paths.queries(task, split)) for task in self.suite.train_sets[run.train_set]]

    def test_queries(self) -> list[str]:
        """Test splits of every evaluated task."""
        return [str(self.paths.queries(task, "test")) for task in self.suite.evaluated_tasks]

    def shards(self, policy: str, kind: str, name: str) -> list[str]:
        """All shards of one rollout file of a policy."""
        count = self.suite.shards
        return [str(self.paths.rollouts(policy, kind, name, shard, count)) for shard in range(count)]

    def resample_inputs(self, policy: str, name: str, shard: str) -> list[str]:
        """The samples that a shard of resamples starts from, and the resamples that it is matched to."""
        return [
            str(self.paths.rollouts(policy, kind, read, shard, self.suite.shards))
            for kind, read in grid.resampling_named(self.suite, name).inputs
        ]

    def measure_inputs(self, policy: str, kind: str, name: str, shard: str) -> list[str]:
        """The solutions that a shard of scores or gains (``kind``) is about."""
        files = grid.rollout_files(grid.method_with(self.suite, kind, name))
        found = [str(self.paths.rollouts(policy, "samples", files.samples, shard, self.suite.shards))]
        if files.resamples:
            found.append(
                str(self.paths.rollouts(policy, "resamples", files.resamples, shard, self.suite.shards))
            )
        return found

    def curation_inputs(self, run: str) -> list[str]:
        """Queries and rollouts that a run's training set is selected from."""
        this = Run.parse(run)
        method = self.suite.methods[this.method]
        found = self._queries(this, "seed")
        if samples := grid.seed_samples(self.suite, this):
            found += self.shards(samples.policy.id, "samples", samples.name)
        if isinstance(method, SelfImprovement):
            files = grid.rollout_files(method)
            found += self._queries(this, "train")
            for policy in grid.policies(self.suite, this):
                found += self.shards(policy.id, "samples", files.samples)
                if files.resamples:
                    found += self.shards(policy.id, "resamples", files.resamples)
                if files.scores:
                    found += self.shards(policy.id, "scores", files.scores)
                if files.gains:
                    found += self.shards(policy.id, "gains", files.gains)
        return found

    def training_start(self, run: str) -> str:
        """Manifest of the checkpoint that a run's training starts from."""
        this = Run.parse(run)
        start = grid.restart(self.suite, this)
        return str(manifest_of(self.paths.base(this.model))) if start is None else self._checkpoint(start)

    def case_inputs(self, run: str) -> list[str]:
        """The rollouts that a policy's cases are chosen from."""
        (pool,) = [pool for pool in case_pools(self.suite) if pool.policy.id == run]
        # No rule declares the critical tokens: they are written beside the resamples, by the same job.
        files = [(kind, name) for kind, name in pool.files() if kind != "critical"]
        return [file for kind, name in files for file in self.shards(run, kind, name)]

    def sampler_command(self) -> str:
        """The `vista` command of the environment that has the suite's sampling engine."""
        engine = self.suite.engine
        return engine.command if isinstance(engine, VllmEngineSettings) else "vista"
