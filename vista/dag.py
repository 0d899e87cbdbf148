"""What every output is made from: input files, code and settings, for the Snakefile's rules.

Functions of the suite and, for ``Dag.code``, of the package's source (``vista.fingerprints``), so that
the DAG can be tested without running it. The Snakefile calls them through ``Dag``; the stages never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vista import grid, measured
from vista.config import (
    AnnotatedRationales,
    BenchmarkTask,
    BuiltModel,
    GridTask,
    RationalizeResample,
    SelectMethod,
    SelfImprovement,
    SelfRationales,
    Suite,
    TeacherRationales,
    VllmEngineSettings,
    digest,
    training_section,
)
from vista.figures.plan import FIGURES, figures
from vista.fingerprints import write_fingerprint
from vista.grid import Run
from vista.paths import TABLE_SUFFIXES, Paths, manifest_of
from vista.wording import templates_of, trained_templates


class Dag:
    """Answers of the grid to the questions of the rules, as strings that Snakemake takes."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.paths = Paths(suite.results)

    # --- code ---

    def code(self, stage: str, part: str = "**", also: Sequence[str] = (), without: str = "") -> str:
        """A file that changes when code changes that the outputs of ``stage`` depend on."""
        return str(write_fingerprint(self.paths, stage, part, also, without))

    def task_code(self, task: str, split: str) -> str:
        """A file that changes when code changes that decides a split of a task.

        A generated task does not depend on how benchmarks are read. A teacher's replies are
        verified as well.
        """
        generated = isinstance(self.suite.tasks[task], GridTask)
        asks = split == "seed" and isinstance(self.suite.seed_rationales, TeacherRationales)
        also = [*(["testbed"] if generated else []), *(["answers.py", "images.py"] if asks else [])]
        return self.code("tasks", also=also, without="benchmarks" if generated else "testbed")

    # --- inputs ---

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

    def tables(self) -> list[str]:
        """The results tables, with published accuracies where the suite names some; and their manifests."""
        names = ["main", "tasks", "runs", *([] if self.suite.reported is None else ["reported"])]
        return [path for name in names for path in self.table(name)]

    def table(self, name: str) -> list[str]:
        """A table as CSV, Markdown and LaTeX, and their manifests."""
        files = [self.paths.table(name, suffix) for suffix in TABLE_SUFFIXES]
        return [str(path) for file in files for path in (file, manifest_of(file))]

    def distribution_inputs(self) -> list[str]:
        """Queries, rollouts and tokenizers that the distributions are counted in."""
        bases = [str(manifest_of(self.paths.base(model))) for model in self.suite.models]
        return [*bases, *map(str, measured.distribution_files(self.suite, self.paths))]

    def figures(self) -> list[str]:
        """Every figure of the suite as PDF and PNG."""
        return [file for name in figures(self.suite) for file in self.figure(name)]

    def figure(self, name: str) -> list[str]:
        """A figure as PDF and PNG, and their manifests."""
        files = [self.paths.figure(name, suffix) for suffix in ("pdf", "png")]
        return [str(path) for file in files for path in (file, manifest_of(file))]

    def figure_table(self, name: str) -> str:
        """The table that a figure is drawn from."""
        return str(self.paths.table(FIGURES[name], "csv"))

    def difficulty_inputs(self) -> list[str]:
        """Queries, rollouts and training sets that the table of difficulty is made from."""
        found = dict.fromkeys(self.test_queries())
        for run in grid.runs(self.suite):
            if isinstance(self.suite.methods[run.method], SelfImprovement):
                found.update(dict.fromkeys(self.curation_inputs(run.id)))
                found[str(self.paths.training_set(run.id))] = None
        return list(found)

    def audit_inputs(self) -> list[str]:
        """Train queries, solutions and scores that the audit reads; an error where there are no scenes."""
        pools = measured.scored_pools(self.suite)
        return [str(file) for file in measured.input_files(self.suite, self.paths, pools)]

    def prefix_inputs(self) -> list[str]:
        """Train queries, samples, resamples and tokenizers that the table of prefixes reads."""
        items = measured.prefix_resamples(self.suite)
        bases = {str(manifest_of(self.paths.base(item.policy.model))): None for item in items}
        files = measured.input_files(self.suite, self.paths, items)
        return [*bases, *(str(file) for file in files)]

    def measured_settings(self, table: str) -> str:
        """What decides the rows of ``audit`` or ``prefix``, beside which files there are."""
        if table == "prefix":
            return digest([self.suite.train_sets])
        pools = measured.scored_pools(self.suite)
        filters = [[setting.model_dump() for setting in pool.filters] for pool in pools]
        return digest([self.suite.train_sets, filters])

    def reported(self) -> list[str]:
        """The file of published accuracies, if the suite names one."""
        return [] if self.suite.reported is None else [str(self.suite.reported)]

    # --- commands ---

    def sampler_command(self) -> str:
        """The `vista` command of the environment that has the suite's sampling engine."""
        engine = self.suite.engine
        return engine.command if isinstance(engine, VllmEngineSettings) else "vista"

    # --- settings: digests that change exactly when an output's settings do ---

    def task_settings(self, task: str, split: str) -> str:
        """Settings of one split of a task: of the sizes, only those that it depends on."""
        spec = self.suite.tasks[task]
        sizes = [getattr(spec.sizes, split)]
        if isinstance(spec, BenchmarkTask) and split == "train":
            sizes.append(spec.sizes.seed)  # what the seed split takes is not trained on again
        teacher = self._teacher_settings() if split == "seed" else None
        return digest([spec.model_dump(mode="json", exclude={"sizes"}), *sizes, teacher])

    def _teacher_settings(self) -> dict[str, Any] | None:
        """What decides a teacher's rationales; not what they may cost, and how they are fetched."""
        settings = self.suite.seed_rationales
        if not isinstance(settings, TeacherRationales):
            return None
        return settings.model_dump(
            mode="json", exclude={"cache", "max_requests", "api_key_variable", "timeout", "parallel"}
        )

    def model_settings(self, model: str) -> str:
        """Settings of a model: how it is trained later does not matter."""
        entry = self.suite.models[model]
        settings = entry.model_dump(mode="json", exclude={"training"})
        hint = [self.suite.wording.hint] if isinstance(entry, BuiltModel) else []
        return digest([settings, self.suite.threads, *hint])

    def sampling_settings(self, name: str) -> str:
        """Settings of samples."""
        return digest([self.suite.engine.kind, grid.sampling_named(self.suite, name).model_dump()])

    def resampling_settings(self, name: str) -> str:
        """Settings of resamples."""
        work = grid.resampling_named(self.suite, name)
        hint = [self.suite.wording.hint] if isinstance(work.settings, RationalizeResample) else []
        settings = [work.sampling.model_dump(), work.settings.model_dump()]
        return digest([self.suite.engine.kind, *settings, *hint])

    def scoring_settings(self, name: str) -> str:
        """Settings of scores."""
        return digest([self.suite.scoring.model_dump(include={"layers"}), name])

    def gains_settings(self, name: str) -> str:
        """Settings of log-probabilities."""
        return digest([self.suite.scoring.without, name])

    def curation_settings(self, run: str) -> str:
        """Settings of a training set."""
        method = self.suite.methods[Run.parse(run).method]
        words = trained_templates(method)
        wording = [self.suite.wording.model_dump(include=set(words))] if words else []
        if not method.trains_on_seed:
            return digest([method.model_dump(mode="json"), *wording])
        settings = self.suite.seed_rationales
        # Other rationales than the base model's own come with the queries.
        own = settings.model_dump(mode="json") if isinstance(settings, SelfRationales) else settings.kind
        return digest([method.model_dump(mode="json"), own, *wording])

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

    def evaluation_settings(self, run: str) -> str:
        """Settings of an evaluation, with those of its decoding if that is not greedy."""
        method = self.suite.methods[Run.parse(run).method]
        decoding: list[Any] = []
        if isinstance(method, SelectMethod):
            wording = self.suite.wording.model_dump(include=set(templates_of(method)))
            decoding = [method.model_dump(mode="json"), wording]
        return digest([self.suite.evaluated_tasks, self.suite.eval_max_new_tokens, *decoding])

    def comparison_settings(self) -> str:
        """What decides which runs are compared with which."""
        methods = {name: method.model_dump(mode="json") for name, method in self.suite.methods.items()}
        swept = {name: swept.model_dump(mode="json") for name, swept in self.suite.swept.items()}
        return digest([self.analysis_settings(), methods, swept])

    def analysis_settings(self) -> str:
        """What decides which rows and columns the tables have."""
        return digest([[run.id for run in grid.runs(self.suite)], self.suite.evaluated_tasks])
