"""What every part of the DAG knows: the suite, its paths, and which code an output depends on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vista.config import Suite, TeacherRationales
from vista.errors import VistaError, writing
from vista.fingerprints import update, write_fingerprint
from vista.paths import Paths

LOCKS = Path(".snakemake/locks")  # Snakemake's, in the folder that it works in


class Base:
    """A suite and where its outputs lie."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.paths = Paths(suite.results)
        self.refused = ""  # why a checksum of the code could not be kept

    def write_suite(self) -> None:
        """Keep the resolved suite, which jobs read; not while another ``snakemake`` is at work with its own.

        Raises:
            VistaError: the results folder cannot be written.
        """
        locked = LOCKS.is_dir() and any(LOCKS.iterdir())
        if not (locked and self.paths.suite.exists()):
            update(self.paths.suite, self.suite.model_dump_json(indent=2))

    def begin(self) -> None:
        """Once the folder is locked, make sure of the resolved suite and that results can be written.

        Raises:
            VistaError: they cannot.
        """
        update(self.paths.suite, self.suite.model_dump_json(indent=2))
        probe = self.paths.results / f".{os.getpid()}.part"
        with writing(self.paths.results):
            probe.touch()
            probe.unlink()

    def code(self, stage: str, part: str = "**", also: Sequence[str] = (), without: str = "") -> str:
        """A file that changes when code changes that the outputs of ``stage`` depend on."""
        try:
            return str(write_fingerprint(self.paths, stage, part, also, without))
        except VistaError as error:
            self.refused = str(error)
            return self.refused

    def rollout_code(self) -> str:
        """A file that changes when code changes that decides rollouts; which of them are shown does not."""
        return self.code("rollouts", without="cases.py")

    def task_code(self, task: str, split: str) -> str:
        """A file that changes when code changes that decides a split of a task.

        A generated task does not depend on how benchmarks are read. A teacher's replies are
        verified as well.
        """
        asks = split == "seed" and isinstance(self.suite.seed_rationales, TeacherRationales)
        also = ["answers.py", "images.py"] if asks else []
        if not self.suite.tasks[task].has_scene:
            return self.code("tasks", also=also)
        grid = ["tasks/kinds/__init__.py", "tasks/kinds/grid.py", "testbed"]
        return self.code("tasks", "*.py", [*grid, *also])
