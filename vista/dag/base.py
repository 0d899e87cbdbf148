"""What every part of the DAG knows: the suite, its paths, and which code an output depends on."""

from __future__ import annotations

from collections.abc import Sequence

from vista.config import GridTask, Suite, TeacherRationales
from vista.fingerprints import write_fingerprint
from vista.paths import Paths


class Base:
    """A suite and where its outputs lie."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.paths = Paths(suite.results)

    def code(self, stage: str, part: str = "**", also: Sequence[str] = (), without: str = "") -> str:
        """A file that changes when code changes that the outputs of ``stage`` depend on."""
        return str(write_fingerprint(self.paths, stage, part, also, without))

    def rollout_code(self) -> str:
        """A file that changes when code changes that decides rollouts; which of them are shown does not."""
        return self.code("rollouts", without="cases.py")

    def task_code(self, task: str, split: str) -> str:
        """A file that changes when code changes that decides a split of a task.

        A generated task does not depend on how benchmarks are read. A teacher's replies are
        verified as well.
        """
        generated = isinstance(self.suite.tasks[task], GridTask)
        asks = split == "seed" and isinstance(self.suite.seed_rationales, TeacherRationales)
        also = [*(["testbed"] if generated else []), *(["answers.py", "images.py"] if asks else [])]
        return self.code("tasks", also=also, without="benchmarks" if generated else "testbed")
