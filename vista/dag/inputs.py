"""What the outputs of the stages up to evaluation are made from: files and commands of their rules."""

from __future__ import annotations

from pathlib import Path

from vista.config import AnnotatedRationales, BuiltModel, VllmEngineSettings
from vista.dag.base import Base
from vista.grid import Run, sampled_split
from vista.paths import manifest_of
from vista.reads import case_pools

# By kind of rollout file, the rule (and command) that makes it.
RULE_OF_KIND = {"samples": "sample", "resamples": "resample", "scores": "score", "gains": "gains"}


class Inputs(Base):
    """Input files and commands of the rules from tasks to evaluation, as strings that Snakemake takes."""

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
        return str(manifest_of(self.reads.checkpoint(Run.parse(run))))

    def training_start(self, run: str) -> str:
        """Manifest of the checkpoint that a run's training starts from."""
        return str(manifest_of(self.reads.start(Run.parse(run))))

    def train_queries(self, run: str) -> list[str]:
        """Train splits of a run's tasks."""
        return _text(self.reads.queries(Run.parse(run), "train"))

    def test_queries(self) -> list[str]:
        """Test splits of every evaluated task."""
        return _text(self.reads.test_queries())

    def rollout_kinds(self) -> dict[str, str]:
        """The commands that make rollouts, with the kind of file that each makes."""
        return {rule: kind for kind, rule in RULE_OF_KIND.items()}

    def rollout_inputs(self, kind: str, policy: str, name: str, shard: str) -> list[str]:
        """Queries that a shard of rollouts answers, and the rollouts that it starts from or measures."""
        run, number = Run.parse(policy), int(shard)
        if kind == "samples":
            return _text(self.reads.queries(run, sampled_split(name)))
        queries = self.reads.queries(run, "train")
        if kind == "resamples":
            return _text([*queries, *self.reads.resampling(run, name, number)])
        return _text([*queries, *self.reads.measuring(run, kind, name, number)])

    def curation_inputs(self, run: str) -> list[str]:
        """Queries and rollouts that a run's training set is selected from."""
        return _text(self.reads.curation(Run.parse(run)).every_file)

    def case_inputs(self, run: str) -> list[str]:
        """The rollouts that a policy's cases are chosen from."""
        (pool,) = [pool for pool in case_pools(self.suite) if pool.policy.id == run]
        # No rule declares the critical tokens: they are written beside the resamples, by the same job.
        files = [(kind, name) for kind, name in pool.files() if kind != "critical"]
        return _text(self.reads.named(pool.policy, files))

    def command(self, kind: str) -> str:
        """The `vista` command for a kind of rollouts: that of the environment with the sampling engine."""
        engine = self.suite.engine
        samples = kind in ("samples", "resamples")
        return engine.command if samples and isinstance(engine, VllmEngineSettings) else "vista"


def _text(files: list[Path]) -> list[str]:
    return [str(file) for file in files]
