"""What every output is made from: input files, code and settings, for the Snakefile's rules.

Pure functions of the suite, so that the DAG can be tested without running it. The Snakefile
calls them through ``Dag``; the stages never do.
"""

from __future__ import annotations

from pathlib import Path

import vista
from vista import grid
from vista.config import BuiltModel, SelfImprovement, Suite, digest, training_section
from vista.grid import Run
from vista.paths import Paths, manifest_of

PACKAGE = Path(vista.__file__).parent

# Shared modules that decide what a stage computes. The others (config, grid, paths, manifest,
# cli) only carry values and names: what they change shows in a rule's params or file names.
SHARED_CODE: dict[str, list[str]] = {
    "tasks": ["records.py", "seeding.py"],
    "models": ["records.py", "seeding.py", "chat.py", "engines"],
    "rollouts": ["records.py", "seeding.py", "chat.py", "answers.py", "engines"],
    "curation": ["records.py", "seeding.py", "chat.py"],
    "training": ["records.py", "seeding.py", "chat.py", "engines"],
    "evaluation": ["records.py", "seeding.py", "chat.py", "answers.py", "engines"],
    "analysis": ["records.py"],
}


def _from_here(file: Path) -> str:
    """The path relative to the working directory, if it lies in it: a moved checkout is not stale."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


class Dag:
    """Answers of the grid to the questions of the rules, as strings that Snakemake takes."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.paths = Paths(suite.results)

    # --- code ---

    def code(self, stage: str, part: str = "**") -> list[str]:
        """Source files whose edit makes the outputs of ``stage`` stale.

        Args:
            stage: Name of the stage.
            part: Glob of the stage's own modules, when a rule depends on some of them only.
        """
        own = PACKAGE / stage
        files = [*own.rglob("*.py"), *own.rglob("*.yaml")] if part == "**" else [*own.glob(part)]
        for shared in SHARED_CODE[stage]:
            path = PACKAGE / shared
            files += path.rglob("*.py") if path.is_dir() else [path]
        return sorted(_from_here(file) for file in files)

    # --- inputs ---

    def corpus(self, model: str) -> list[str]:
        """The pretraining corpus of a built model; nothing for the others."""
        entry = self.suite.models[model]
        return [str(self.paths.queries(entry.corpus, "train"))] if isinstance(entry, BuiltModel) else []

    def checkpoint(self, run: str) -> str:
        """Manifest of the checkpoint that a run stands for."""
        return self._checkpoint(Run.parse(run))

    def _checkpoint(self, run: Run) -> str:
        folder = self.paths.checkpoint(run, grid.is_trained(self.suite, run))
        return str(manifest_of(folder))

    def train_queries(self, run: str) -> list[str]:
        """Train splits of a run's tasks."""
        return self._queries(Run.parse(run), "train")

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
        """The samples that a shard of resamples starts from."""
        method = grid.method_with(self.suite, "resamples", name)
        samples = grid.rollout_files(method).samples
        return [str(self.paths.rollouts(policy, "samples", samples, shard, self.suite.shards))]

    def score_inputs(self, policy: str, name: str, shard: str) -> list[str]:
        """The solutions that a shard of scores is about."""
        files = grid.rollout_files(grid.method_with(self.suite, "scores", name))
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
        if isinstance(method, SelfImprovement):
            policy = grid.policy(self.suite, this).id
            files = grid.rollout_files(method)
            found += self._queries(this, "train")
            found += self.shards(policy, "samples", files.samples)
            if files.resamples:
                found += self.shards(policy, "resamples", files.resamples)
            if files.scores:
                found += self.shards(policy, "scores", files.scores)
        return found

    def training_start(self, run: str) -> str:
        """Manifest of the checkpoint that a run's training starts from."""
        this = Run.parse(run)
        start = grid.restart(self.suite, this)
        return str(manifest_of(self.paths.base(this.model))) if start is None else self._checkpoint(start)

    def training_processes(self, run: str) -> int:
        """Processes that a run's training asks cores and GPUs for."""
        return self.suite.models[Run.parse(run).model].training.processes

    def predictions(self) -> list[str]:
        """Predictions of every run of the grid."""
        return [str(self.paths.predictions(run.id)) for run in grid.runs(self.suite)]

    def manifests(self) -> list[str]:
        """Manifests that the tables take counts from."""
        return [path + ".manifest.json" for path in [*self.predictions(), *self._counted()]]

    def _counted(self) -> list[str]:
        found: dict[str, None] = {}
        for run in grid.runs(self.suite):
            if grid.is_trained(self.suite, run):
                found[str(self.paths.training_set(run.id))] = None
                found.update(dict.fromkeys(p for p in self.curation_inputs(run.id) if "/rollouts/" in p))
        return list(found)

    # --- settings: digests that change exactly when an output's settings do ---

    def task_settings(self, task: str, split: str) -> str:
        """Settings of one split of a task: the sizes of the other splits do not matter."""
        spec = self.suite.tasks[task]
        return digest([spec.model_dump(exclude={"sizes"}), getattr(spec.sizes, split)])

    def model_settings(self, model: str) -> str:
        """Settings of a base model: how it is trained on is none of them."""
        entry = self.suite.models[model].model_dump(mode="json", exclude={"training"})
        return digest([entry, self.suite.threads])

    def sampling_settings(self, name: str) -> str:
        """Settings of samples."""
        return digest([self.suite.engine.kind, grid.sampling_named(self.suite, name).model_dump()])

    def resampling_settings(self, name: str) -> str:
        """Settings of resamples."""
        method = grid.method_with(self.suite, "resamples", name)
        return digest([self.suite.engine.kind, method.rollouts.model_dump(), method.resample.model_dump()])

    def scoring_settings(self, name: str) -> str:
        """Settings of scores."""
        return digest([self.suite.scoring.model_dump(include={"layers"}), name])

    def curation_settings(self, run: str) -> str:
        """Settings of a training set."""
        return digest(self.suite.methods[Run.parse(run).method])

    def training_settings(self, run: str) -> str:
        """Settings of a training run; not over how many processes and passes a step is spread."""
        this = Run.parse(run)
        method = self.suite.methods[this.method]
        tuning = self.suite.models[this.model].training.tuning.model_dump()
        section = training_section(method)
        settings = getattr(self.suite.training, str(section)).model_dump()
        if not isinstance(method, SelfImprovement):
            return digest([settings, tuning])
        return digest([settings, tuning, method.objective.model_dump(), method.restart])

    def evaluation_settings(self) -> str:
        """Settings of an evaluation."""
        return digest([self.suite.evaluated_tasks, self.suite.eval_max_new_tokens])

    def analysis_settings(self) -> str:
        """What decides which rows and columns the tables have."""
        return digest([[run.id for run in grid.runs(self.suite)], self.suite.evaluated_tasks])
