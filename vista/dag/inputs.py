"""What every output is made from: input files and commands of the rules, up to the tables and figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from vista import grid, measured
from vista.analysis.plan import (
    ablation_names,
    figure_tables,
    figures,
    findings_sources,
    results_names,
    table_names,
)
from vista.config import AnnotatedRationales, BuiltModel, SelfImprovement, Suite, VllmEngineSettings
from vista.dag.base import Base
from vista.errors import fail_if
from vista.grid import Run, sampled_split
from vista.paths import TABLE_SUFFIXES, manifest_of
from vista.plugins import make, module_of
from vista.records import Split
from vista.task_kinds import TaskKind

# By kind of rollout file, the rule (and command) that makes it.
RULE_OF_KIND = {"samples": "sample", "resamples": "resample", "scores": "score", "gains": "gains"}

_RUN_OF = r"[^/]+/[^/]+/(?:{})/seed\d+/round\d+"


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

    def folder_files(self, model: str) -> list[str]:
        """The files of a model that is a folder on disk: changed ones are another model."""
        folder = getattr(self.suite.models[model], "path", None)
        if folder is None or not folder.is_dir():  # a missing one is the job's error
            return []
        return _text(sorted(file for file in folder.iterdir() if file.is_file() and file.name[0] != "."))

    def published_files(self, task: str, split: str) -> list[str]:
        """The user's own copy of the published files that a split is made from, as far as there is one."""
        kind: TaskKind[Any] = make(self.suite.tasks[task])
        return _text(kind.local_files(cast(Split, split)))

    def checkpoint(self, run: str) -> str:
        """Manifest of a run's checkpoint."""
        return str(manifest_of(self.reads.checkpoint(Run.parse(run))))

    def base(self, run: str) -> str:
        """Manifest of the base checkpoint of a run's model."""
        return str(manifest_of(self.paths.base(Run.parse(run).model)))

    def given(self, run: str) -> list[str]:
        """The user's files that a run's checkpoint or predictions are made from."""
        return _text(self.reads.given(Run.parse(run)))

    def refuse_missing(self) -> None:
        """Refuse to start without what an external method names, unless it has been taken in already.

        Raises:
            VistaError: lists every folder and file that is missing.
        """
        runs = grid.evaluations(self.suite)
        fail_if([lacking for run in runs if (lacking := self.lacking(run))], "Not there:")

    def lacking(self, run: Run) -> str:
        """What is missing of what a run's method names; nothing if it is there, or has been taken in."""
        place, adopted = grid.given(self.suite, run), grid.is_adopted(self.suite, run)
        output = self.paths.adopted(run.id) if adopted else self.paths.predictions(run.id)
        if place is None or self.reads.given(run) or manifest_of(output).is_file():
            return ""
        field = f"{'checkpoints' if adopted else 'predictions'}.{run.model}"
        what = "no such folder" if adopted else "no such file, nor a folder with samples of lmms-eval"
        if adopted and place.is_dir():
            what = "no checkpoint or adapter in this folder"
        return f"method {run.method}: {field}: {place}: {what}; correct the path, or put it there"

    def evaluated(self) -> str:
        """A pattern of the runs whose checkpoints are evaluated here."""
        graded = self._methods(grid.is_graded)
        with_weights = self._runs_of(list(self.suite.models))
        return f"(?!{_RUN_OF.format('|'.join(graded))}){with_weights}" if graded else with_weights

    def graded(self) -> str:
        """A pattern of the runs whose responses are given; it fits nothing if there are none."""
        graded = self._methods(grid.is_graded)
        return _RUN_OF.format("|".join(graded)) if graded else "(?!)"

    def _methods(self, is_one: Callable[[Suite, Run], bool]) -> list[str]:
        found = {run.method: None for run in grid.runs(self.suite) if is_one(self.suite, run)}
        return [re.escape(name) for name in found]

    def training_start(self, run: str) -> str:
        """Manifest of the checkpoint that a run's training starts from."""
        return str(manifest_of(self.reads.start(Run.parse(run))))

    def training_budget(self, run: str) -> list[str]:
        """Rollouts of which a run may sample as many tokens."""
        return _text(self.reads.budget(Run.parse(run)))

    def encodable(self, run: str) -> list[str]:
        """What a run's jobs wait for: that its model's processor takes all their queries."""
        model = Run.parse(run).model
        return [str(manifest_of(self.paths.encodable(model)))] if model in self._has_asked else []

    @cached_property
    def _has_asked(self) -> set[str]:
        """The models whose processors have queries to take; kept, since every run's jobs look."""
        return {model for model in self.suite.every_model if self.reads.asked(model)}

    def endpoint_runs(self) -> str:
        """A pattern of the runs of models at endpoints."""
        return self._runs_of(list(self.suite.endpoints))

    def _runs_of(self, models: list[str]) -> str:
        named = "|".join(map(re.escape, models)) or "(?!)"
        return rf"(?:{named})/[^/]+/[^/]+/seed\d+/round\d+"

    def asked(self, model: str) -> list[str]:
        """Every query file that a model's processor has to take."""
        return _text(self.reads.asked(model))

    def checked(self, run: str, training: bool = False) -> list[str]:
        """The check that a run's job waits for: that of its base model, if its weights are not trained here.

        The jobs of other runs wait by way of the weights that they start from.

        Args:
            run: The run.
            training: Whether the job trains the run; otherwise it reads its weights.
        """
        this = Run.parse(run)
        folder = self.reads.start(this) if training else self.reads.checkpoint(this)
        trained = folder.is_relative_to(self.paths.trained(""))
        return [] if trained else self.checks(this.model)

    def checks(self, model: str) -> list[str]:
        """The check of a base model; none of one that is built here, or has no weights here."""
        unchecked = model in self.suite.endpoints or isinstance(self.suite.models[model], BuiltModel)
        return [] if unchecked else [str(manifest_of(self.paths.check(model)))]

    def is_check(self, file: str) -> bool:
        """Whether a file says that something was checked: jobs wait for it, and nothing is made from it."""
        checks = (self.paths.encodable("x").parent, self.paths.check("x").parent)
        path = Path(file)
        return path.parent in checks and path.name.endswith(".json.manifest.json")

    def train_queries(self, run: str) -> list[str]:
        """Train splits of a run's tasks."""
        return _text(self.reads.queries(Run.parse(run), "train"))

    def test_queries(self) -> list[str]:
        """Test splits of every evaluated task."""
        return _text(self.reads.test_queries())

    def responses(self, run: str) -> list[str]:
        """What was answered for a run in another environment, if the suite's engine has one."""
        return _text(self.reads.responses(Run.parse(run)))

    def requests(self) -> list[str]:
        """What lmms-eval's own tasks ask, where another environment has to know."""
        return _text(self.reads.requests())

    def requested_tasks(self) -> str:
        """A pattern of the tasks of ``requests``; it fits nothing if there are none."""
        return "|".join(re.escape(path.stem) for path in self.reads.requests()) or "(?!)"

    def responding(self) -> str:
        """A pattern of the runs that are answered in another environment; it fits nothing without one."""
        return self.evaluated() if self.reads.responds_elsewhere else "(?!)"

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
        pool = self._case_pools[run]
        # No rule declares the critical tokens: they are written beside the resamples, by the same job.
        files = [(kind, name) for kind, name in pool.files() if kind != "critical"]
        return _text(self.reads.named(pool.policy, files))

    @cached_property
    def _case_pools(self) -> dict[str, measured.CasePool]:
        """By policy, what its cases are chosen from; kept, since finding one goes through the whole grid."""
        return {pool.policy.id: pool for pool in measured.case_pools(self.suite)}

    def command(self, kind: str) -> str:
        """The `vista` command for rollouts of a kind, or for responses: that of the engine that samples."""
        engine = self.suite.engine
        samples = kind in ("samples", "resamples", "responses")
        return engine.command if samples and isinstance(engine, VllmEngineSettings) else "vista"


def _text(files: list[Path]) -> list[str]:
    return [str(file) for file in files]


class Outputs(Inputs):
    """Tables, figures and the gallery, with their inputs."""

    def predictions(self) -> list[str]:
        """Predictions of every run that is evaluated."""
        return [str(self.paths.predictions(run.id)) for run in grid.evaluations(self.suite)]

    def statuses(self) -> list[str]:
        """Manifests of the predictions, which say whether a run has any."""
        return [str(manifest_of(Path(path))) for path in self.predictions()]

    def manifests(self) -> list[str]:
        """Manifests that the tables take counts from."""
        trained = [run.id for run in grid.runs(self.suite) if grid.is_trained(self.suite, run)]
        counted = [path + ".manifest.json" for path in self._counted()]
        return [*self.statuses(), *counted, *map(self.checkpoint, trained)]

    def _counted(self) -> list[str]:
        counted = (file for files in self.reads.shared_counts().values() for file in files)
        found = dict.fromkeys(map(str, counted))
        for run in grid.runs(self.suite):
            if grid.is_trained(self.suite, run):
                found[str(self.paths.training_set(run.id))] = None
                read = self.reads.curation(run)
                files = [*(read.seed.samples if read.seed else []), *read.rollouts]
                found.update(dict.fromkeys(map(str, files)))
        return list(found)

    def table_commands(self) -> dict[str, str]:
        """The rules that make tables from scores and rollouts, with the command that each calls."""
        tables = ("ablation", "findings", "resolution", "difficulty", "faithfulness")
        others = ("audit", "prefix", "distributions")
        return {"results": "tables", **{table: table for table in (*tables, *others)}, "training": "history"}

    def table_inputs(self, rule: str) -> list[str]:
        """What the tables of a rule are made from.

        Raises:
            VistaError: they need scenes, which a task does not have.
        """
        long = str(self.paths.long)
        return {
            "results": lambda: [long, *self.manifests(), *self._reported()],
            "ablation": lambda: [long, *self.manifests()],
            "findings": lambda: [str(self.paths.table(name, "csv")) for name in findings_sources(self.suite)],
            "resolution": lambda: [long, *self.manifests()],
            "difficulty": lambda: [long, *self._difficulty_inputs()],
            "faithfulness": lambda: [long, *self._faithfulness_inputs()],
            "audit": self._audit_inputs,
            "prefix": self._prefix_inputs,
            "distributions": self._distribution_inputs,
            "training": self._histories,
        }[rule]()

    def keep_code(self) -> None:
        """Keep the checksums of all code that jobs depend on, before Snakemake asks for those of one.

        It would take an output whose job's code is refused then for up to date.
        """
        for task, settings in self.suite.tasks.items():
            for split in ("seed", "train", "test"):
                if getattr(settings.sizes, split) != 0:
                    self.task_code(task, split)
        for model in self.suite.models:
            self.model_code(model)
            if self.checks(model):
                self.check_code()
        for run in {run.method: run for run in grid.runs(self.suite)}.values():
            method = self.suite.methods[run.method]
            if grid.is_trained(self.suite, run):
                self.curation_code(run.id)
                self.training_code(run.id)
            if grid.is_adopted(self.suite, run):
                self.code("adopt")
            if grid.is_graded(self.suite, run):
                self.grading_code()
            if isinstance(method, SelfImprovement) and (name := grid.rollout_files(method).resamples):
                self.rollout_code("resamples", name)
        for kind in ("samples", "scores", "gains"):
            self.rollout_code(kind, "")
        self.code("encodable")
        for task in self.suite.evaluated_tasks:
            self.task_evaluation_code(task)
            if self.suite.endpoints:
                self.task_evaluation_code(task, "ask")
        if self.reads.responds_elsewhere:
            self.code("respond")
        if self.reads.requests():
            self.code("requests")
        if self.suite.endpoints:
            self.evaluation_code("ask")
        if self.suite.pilot:
            self.code("pilot")
        made = {Path(table).stem for table in self.every_table()}
        for rule in self.table_commands():
            if rule == "results" or rule in made:
                self.table_code(rule)
        for figure in (*figures(self.suite), *(["gallery"] if self.gallery() else [])):
            self.figure_code(figure)

    def table_outputs(self, rule: str) -> list[str]:
        """The tables that a rule makes, each in all its formats, and their manifests."""
        several = {"results": results_names, "ablation": ablation_names}
        names = several[rule](self.suite) if rule in several else [rule]
        return [path for name in names for path in self.table(name)]

    def table_code(self, rule: str) -> str:
        """The code of a rule's tables, with the plug-ins whose decisions they repeat."""
        filters = [] if rule != "audit" else measured.audited_filters(self.suite)
        named = dict.fromkeys(module_of(settings) for settings in filters)
        return self.code(self.table_commands()[rule], *named)

    def every_table(self) -> list[str]:
        """The CSV of every table that the suite can have."""
        return [str(self.paths.table(name, "csv")) for name in table_names(self.suite)]

    def table(self, name: str) -> list[str]:
        """A table in all its formats, and their manifests."""
        files = [self.paths.table(name, suffix) for suffix in TABLE_SUFFIXES]
        return [str(path) for file in files for path in (file, manifest_of(file))]

    def pilot_inputs(self) -> list[str]:
        """What a pilot's table waits for: all that there is to make."""
        return [*self.every_table(), *self.figures(), *self.gallery(), str(self.paths.results / "suite.yaml")]

    def pilot_outputs(self) -> list[str]:
        """A pilot's table and what it measured, with their manifests."""
        measured = self.paths.table("assumptions", "yaml")
        return [*self.table("pilot"), str(measured), str(manifest_of(measured))]

    def _distribution_inputs(self) -> list[str]:
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

    def figure_tables(self, name: str) -> list[str]:
        """The tables that a figure is drawn from."""
        return [str(self.paths.table(table, "csv")) for table in figure_tables(self.suite, name)]

    def _histories(self) -> list[str]:
        """What was logged of every training, with the status of each."""
        files = self.reads.histories().values()
        return [str(path) for file in files for path in (file, manifest_of(file))]

    def _difficulty_inputs(self) -> list[str]:
        """Queries, rollouts and training sets that the table of difficulty is made from."""
        found = dict.fromkeys(self.test_queries())
        for run in grid.runs(self.suite):
            if isinstance(self.suite.methods[run.method], SelfImprovement):
                found.update(dict.fromkeys(self.curation_inputs(run.id)))
                found[str(self.paths.training_set(run.id))] = None
        return list(found)

    def _faithfulness_inputs(self) -> list[str]:
        """Test queries with scenes, and all predictions; an error where there are no scenes."""
        measured.check_scenes(self.suite, "faithfulness")
        queries = [self.paths.queries(task, "test") for task in measured.audited_tasks(self.suite)]
        return [*_text(queries), *self.predictions()]

    def _audit_inputs(self) -> list[str]:
        """Train queries, solutions and scores that the audit reads; an error where there are no scenes."""
        pools = measured.scored_pools(self.suite)
        return [str(file) for file in measured.input_files(self.suite, self.paths, pools)]

    def _prefix_inputs(self) -> list[str]:
        """Train queries, samples, resamples and tokenizers that the table of prefixes reads."""
        items = measured.prefix_resamples(self.suite)
        bases = {str(manifest_of(self.paths.base(item.policy.model))): None for item in items}
        files = measured.input_files(self.suite, self.paths, items)
        return [*bases, *(str(file) for file in files)]

    def _reported(self) -> list[str]:
        """The file of published accuracies, if the suite names one."""
        return [] if self.suite.reported is None else [str(self.suite.reported)]

    def cases(self) -> list[str]:
        """Every file of cases."""
        return [str(self.paths.cases(policy)) for policy in self._case_pools]

    def named_cases(self) -> list[str]:
        """The same, each preceded by the run that wrote them."""
        return [f"{policy}={self.paths.cases(policy)}" for policy in self._case_pools]

    def gallery(self) -> list[str]:
        """The page to browse cases, where the suite has cases."""
        return [str(self.paths.figure("cases", "html"))] if self._case_pools else []
