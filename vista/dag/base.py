"""What every part of the DAG knows: the suite, its paths, and which code an output depends on."""

from __future__ import annotations

import os
from pathlib import Path

from vista import closure, grid
from vista.closure import update
from vista.config import SelfImprovement, Suite
from vista.errors import VistaError, writing
from vista.manifest import version_note
from vista.paths import Paths
from vista.plugins import implementation, module_of
from vista.reads import Reads
from vista.tasks.generate import rationale_source

LOCKS = Path(".snakemake/locks")  # Snakemake's, in the folder that it works in


def _at_work() -> bool:
    """Whether a ``snakemake`` runs jobs in this folder."""
    return LOCKS.is_dir() and any(LOCKS.iterdir())


class Base:
    """A suite and where its outputs are."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.paths = Paths(suite.results)
        self.reads = Reads(suite, self.paths)
        self.refused = ""  # why a checksum of the code could not be kept while the rules were read
        self.is_read = False  # whether all rules have been read, so that what is refused is an error at once
        self.entries: dict[str, list[str]] = {}  # by file of checksums, the modules that its jobs enter at

    def write_suite(self) -> None:
        """Write the resolved suite, which jobs read, unless another ``snakemake`` is running with its own.

        Raises:
            VistaError: the results folder cannot be written.
        """
        if not (self.paths.suite.exists() and _at_work()):
            update(self.paths.suite, self.suite.model_dump_json(indent=2))

    def begin(self, main: bool = True) -> str | None:
        """Once the folder is locked, write the resolved suite and check that results can be written.

        Args:
            main: Whether this is the process that the user started, and not one of its jobs.

        Returns:
            A line to print if the results were made with other versions than those installed.

        Raises:
            VistaError: they cannot.
        """
        update(self.paths.suite, self.suite.model_dump_json(indent=2))
        probe = self.paths.results / f".{os.getpid()}.part"
        with writing(self.paths.results):
            probe.touch()
            probe.unlink()
        return version_note(self.paths.results) if main else None

    def code(self, command: str, *named: str, module: str = "") -> str:
        """The checksums of the code that decides what a command computes.

        Args:
            command: Of ``vista.cli``; with a ``module``, just a name for the file.
            named: Modules of the plug-ins that the job's method, task or model name.
            module: The entry point, where it is not one of ``vista.cli``.

        Raises:
            VistaError: all rules have been read, and a module has no source, or the disk cannot be written.
        """
        # Somebody else's module may be called like one of ours.
        kinds = [name.rpartition(".")[2] if name.startswith("vista.") else f"plugin-{name}" for name in named]
        file = self.paths.code("-".join([command, *kinds]))
        if str(file) in self.entries:
            return str(file)
        entries = [module] if module else closure.entry_points(command)
        try:
            # The jobs under way began with the code that the file tells of.
            if not (file.exists() and _at_work()):
                closure.write_checksums(file, [*entries, *named])
            self.entries[str(file)] = [*entries, *named]
        except VistaError as error:
            if self.is_read:
                raise
            self.refused = str(error)
        return str(file)

    def task_code(self, task: str, split: str) -> str:
        """The code of a split of a task: that of its kind, and of what adds rationales to it."""
        source = rationale_source(self.suite, task, split)
        settings = self.suite.tasks[task]
        checks = [] if implementation(settings).checks_queries else ["vista.tasks.checks"]
        return self.code("tasks", module_of(settings), *([source] if source else []), *checks)

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
        return self.code("train", *named)

    def evaluation_code(self) -> str:
        """The code of an evaluation, with the scorers that lmms-eval imports for some kinds of tasks."""
        scorers = {name.rpartition(".")[0]: None for name in self.scorers().values()}
        return self.code("evaluate", *scorers)

    def scorers(self) -> dict[str, str]:
        """By evaluated task, the function that scores as lmms-eval's own task does, where there is one."""
        tasks = {task: self.suite.tasks[task].lmms_scorer for task in self.suite.evaluated_tasks}
        return {task: scorer for task, scorer in tasks.items() if scorer is not None}

    def figure_code(self, figure: str) -> str:
        """The code of one figure."""
        return self.code(f"figure-{figure}", module=f"vista.figures.{figure}")
