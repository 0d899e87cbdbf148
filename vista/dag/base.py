"""What every part of the DAG knows: the suite, its paths, and which code an output depends on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from vista import closure, grid, lock, planned
from vista.closure import update
from vista.commit import git_state
from vista.config import OnlineMethod, SelfImprovement, Suite, digest
from vista.config.blind import asked_task
from vista.config.tasks import stated_of_task
from vista.dag.jobs import refuse_leftover_jobs
from vista.dag.stale import Stale
from vista.errors import VistaError
from vista.paths import Paths
from vista.plugins import implementation, module_of
from vista.reads import Reads
from vista.tasks.generate import rationale_source
from vista.versions import version_note


class Base:
    """A suite and where its outputs are."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.paths = Paths(suite.results)
        self.reads = Reads(suite, self.paths)
        self.refused = ""  # why a checksum of the code could not be kept while the rules were read
        self.is_read = False  # whether all rules have been read, so that what is refused is an error at once
        self.known: dict[str, str] = {}  # by file of checksums, what ``code`` answers
        self.entries: dict[str, list[str]] = {}  # by file of checksums, the modules that its jobs enter at
        self.texts: dict[str, str] = {}  # by file of checksums, what it holds
        self.made = Stale(suite.results)
        self.last_turn = lock.last_turn(suite.results)

    def write_suite(self) -> None:
        """Write the resolved suite, unless another ``snakemake`` is at work with its own.

        Raises:
            VistaError: the results folder cannot be written.
        """
        if not lock.is_at_work(self.paths.results):
            update(self.paths.suite, self.suite.model_dump_json(indent=2))

    @cached_property
    def plan(self) -> planned.Plan:
        """What jobs are handed: the suite and the code as they are now.

        Raises:
            VistaError: a module is not Python.
        """
        texts = {Path(file).name: text for file, text in self.texts.items()}
        named = {module for modules in self.entries.values() for module in modules}
        return planned.make(self.suite, texts, named, **git_state())

    @cached_property
    def handed(self) -> str:
        """Path of the plan that jobs are handed."""
        return str(planned.inherited() or self.plan.file(self.paths.results))

    def begin(self, on_cluster: bool = False) -> str | None:
        """Take the results folder, and write there what jobs read.

        Args:
            on_cluster: Whether jobs are sent to other machines.

        Returns:
            A line to print if the results were made with other versions than those installed.

        Raises:
            VistaError: another ``snakemake`` is at work there, or jobs that it left; or was, while this one
                read the rules; the folder cannot be written.
        """
        results = self.paths.results
        planned.hand_down(self.plan.file(results))
        self.taken = lock.take(results, self.last_turn)
        if on_cluster:
            refuse_leftover_jobs(Path.cwd())  # those that wait in a queue as well
        lock.refuse_jobs_left(results)
        for file, text in self.texts.items():
            if not Path(file).is_file() or Path(file).read_text(encoding="utf-8") != text:
                raise VistaError(f"{results}: {lock.OVERTAKEN}")
        update(self.paths.suite, self.suite.model_dump_json(indent=2))
        self.plan.write(results)
        if self.suite.snapshot:
            code = self.plan.copy_code(results).absolute()
            os.environ["PYTHONPATH"] = os.pathsep.join(
                [str(code), *filter(None, [os.environ.get("PYTHONPATH")])]
            )
        return version_note(results)

    def why_stale(self, outputs: list[str], inputs: list[str], settings: str | None, code: str | None) -> str:
        """Why a job has to run again by the manifests of its outputs; nothing if they do not say so.

        Args:
            outputs: The files that it makes.
            inputs: The files that it reads.
            settings: The digest that its rule has of its settings, if it has settings.
            code: The file of the checksums of its code, if it has one.
        """
        known = None if code is None else self.texts.get(code) or Path(code).read_text(encoding="utf-8")
        return self.made.why(outputs, inputs, settings, known)

    def code(self, command: str, *named: str, module: str = "") -> str:
        """The checksums of the code that decides what a command computes.

        Args:
            command: Of ``vista.stages``; with a ``module``, just a name for the file.
            named: Modules of the plug-ins that the job's method, task or model name.
            module: The entry point, where it is not one of ``vista.stages``.

        Raises:
            VistaError: all rules have been read, and a module has no source, or the disk cannot be written.
        """
        # Somebody else's module may be called like one of ours.
        kinds = [name.rpartition(".")[2] if name.startswith("vista.") else f"plugin-{name}" for name in named]
        file = str(self.paths.code("-".join([command, *kinds])))
        if file not in self.known:
            entries = [module] if module else closure.entry_points(command)
            try:
                self.known[file] = self.keep(Path(file), [*entries, *named])
                self.entries[file] = [*entries, *named]
            except VistaError as error:
                if self.is_read:
                    raise
                self.refused = str(error)
        return self.known.get(file, file)

    def keep(self, file: Path, entries: list[str]) -> str:
        """Write the checksums of what ``entries`` compute with, unless another ``snakemake`` is at work.

        Returns:
            What ``code`` answers.

        Raises:
            VistaError: a module has no source, or the disk cannot be written.
        """
        if not planned.inherited():  # else the snakemake that started this process has done it
            self.texts[str(file)] = closure.checksums_text(entries)
            if not lock.is_at_work(self.paths.results):
                update(file, self.texts[str(file)])
        return str(file)

    def task_code(self, task: str, split: str) -> str:
        """The code of a split of a task: that of its kind, and of what adds rationales to it."""
        source = rationale_source(self.suite, task, split)
        settings = self.suite.tasks[task]
        checks = [] if implementation(settings).checks_queries else ["vista.tasks.checks"]
        named = dict.fromkeys([module_of(settings), module_of(asked_task(settings))])
        return self.code("tasks", *named, *([source] if source else []), *checks)

    def model_code(self, model: str) -> str:
        """The code of a base model: how it is built, or how it is fetched."""
        return self.code("models")

    def check_code(self) -> str:
        """The code of the check of a base model: of sampling by transformers, scoring and SFT."""
        return self.code("check")

    def rollout_code(self, kind: str, name: str) -> str:
        """The code of rollouts of a kind and name: with the engine that samples, and the resampler."""
        if kind == "samples":
            return self.code("sample", self._engine())
        if kind == "resamples":
            settings = grid.resampling_named(self.suite, name).settings
            return self.code("resample", module_of(settings), self._engine())
        return self.code("score" if kind == "scores" else "gains")

    def _engine(self) -> str:
        return f"vista.engines.{self.suite.engine.kind}"

    def curation_code(self, run: str) -> str:
        """The code of a training set, with the method's filter."""
        method = self.suite.methods[grid.Run.parse(run).method]
        return self.code(
            "curate", *([module_of(method.filter)] if isinstance(method, SelfImprovement) else [])
        )

    def training_code(self, run: str) -> str:
        """The code of a training, with the method's objective."""
        method = self.suite.methods[grid.Run.parse(run).method]
        named = [module_of(method.objective)] if isinstance(method, SelfImprovement) else []
        if isinstance(method, OnlineMethod):
            named = ["vista.training.online", module_of(method.objective.reward)]
            if self.suite.engine.kind == "vllm":
                named += ["vista.engines.colocated", self._engine()]
        return self.code("train", *named)

    def task_evaluation_code(self, task: str, command: str = "evaluate") -> str:
        """The code of an evaluation on one task, with what asks or scores its kind alone.

        Args:
            task: The task.
            command: ``evaluate``, or ``ask`` where an endpoint answers.
        """
        return self.code(command, *self._evaluators([task]))

    def evaluation_code(self, command: str = "evaluate") -> str:
        """The code of an evaluation, with what asks or scores some kinds of tasks."""
        return self.code(command, *self._evaluators(self.suite.evaluated_tasks))

    def grading_code(self) -> str:
        """The code of the verdicts on responses from elsewhere, with what scores lmms-eval's own tasks."""
        own = [task for task in self.suite.evaluated_tasks if self.suite.tasks[task].evaluator]
        return self.code("grade", *self._evaluators(own))

    def _evaluators(self, tasks: Iterable[str]) -> list[str]:
        """The modules that lmms-eval, or an evaluation, imports for some kinds of tasks."""
        scorers, found = self.scorers(), dict[str, None]()
        for task in tasks:
            evaluator = self.suite.tasks[task].evaluator
            named = scorers[task].rpartition(".")[0] if task in scorers else evaluator
            found |= {named: None} if named else {}
        return list(found)

    @cached_property
    def definitions(self) -> dict[str, str]:
        """By task, the digest of what files outside the config say about it, where there are any.

        With what the config says, but for the number of queries.
        """
        found = {name: spec.definition() for name, spec in self.suite.tasks.items()}
        return {
            name: digest([stated, stated_of_task(self.suite.tasks[name])])
            for name, stated in found.items()
            if stated is not None
        }

    def scorers(self) -> dict[str, str]:
        """By evaluated task, the function that scores as lmms-eval's own task does, where there is one."""
        tasks = {task: self.suite.tasks[task].lmms_scorer for task in self.suite.evaluated_tasks}
        return {task: scorer for task, scorer in tasks.items() if scorer is not None}

    def figure_code(self, figure: str) -> str:
        """The code of one figure."""
        return self.code(f"figure-{figure}", module=f"vista.figures.{figure}")
