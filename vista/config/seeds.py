"""Whether a suite's seed rationales fit its tasks and methods; part of ``load_suite``."""

from __future__ import annotations

import difflib

from vista.config.methods import BaseMethod
from vista.config.suites import AnnotatedRationales, SelfRationales, Suite
from vista.config.tasks import BenchmarkTask


def seed_problems(suite: Suite, path: str) -> list[str]:
    """Everything that is wrong with ``seed_rationales``, a line each.

    Args:
        suite: The resolved suite.
        path: The suite file, named in each line.
    """
    settings = suite.seed_rationales
    where = f"{path}: seed_rationales"
    if isinstance(settings, AnnotatedRationales):
        return _file_problems(suite, settings, where) + _lacking_files(suite, settings, where)
    if isinstance(settings, SelfRationales) and not any(
        isinstance(method, BaseMethod) for method in suite.methods.values()
    ):
        return [
            f"{where}: kind self samples the base model, but no method of the suite is of kind base; "
            "add zero-shot to methods"
        ]
    return []


def _file_problems(suite: Suite, settings: AnnotatedRationales, where: str) -> list[str]:
    """Files of tasks that do not exist, or that have no seed split."""
    problems = []
    for task in settings.files:
        if task not in suite.tasks:
            close = difflib.get_close_matches(task, suite.tasks, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(suite.tasks))}"
            problems.append(f"{where}.files: unknown task {task!r}; {hint}")
        elif suite.tasks[task].sizes.seed == 0:
            problems.append(
                f"{where}.files.{task}: the task has no seed split (tasks.{task}.sizes.seed is 0); "
                "give it one, or remove the file"
            )
    return problems


def _lacking_files(suite: Suite, settings: AnnotatedRationales, where: str) -> list[str]:
    """Benchmarks that are trained on and bring no rationales."""
    if not any(method.trains_on_seed for method in suite.methods.values()):
        return []
    trained = dict.fromkeys(task for tasks in suite.train_sets.values() for task in tasks)
    return [
        f"{where}.files.{task}: missing; this benchmark brings no rationales: name a file with them, "
        "or let a teacher (kind: teacher) or the base model (kind: self) write them"
        for task in trained
        if isinstance(suite.tasks.get(task), BenchmarkTask) and task not in settings.files
    ]
