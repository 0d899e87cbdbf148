"""Which tasks of a suite ask another's questions about other images, and which tasks these are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vista.task_kinds import TaskSettings

if TYPE_CHECKING:
    from vista.config.suites import Suite

# By its name, since a suite without such a task need not load its kind.
BLIND = "blind"


def asked_task(task: TaskSettings) -> TaskSettings:
    """The task whose questions a task asks: of a blind one the other, of any other itself."""
    return getattr(task, "asked", task) if task.kind == BLIND else task


def blind_tasks(suite: Suite) -> dict[str, str]:
    """The blind tasks that runs are evaluated on, by name, and the task of each one's questions.

    Only those whose questions are asked about their own images, too.
    """
    evaluated = {name: suite.tasks[name] for name in suite.evaluated_tasks if name in suite.tasks}
    asked = {name: getattr(task, "of", "") for name, task in evaluated.items() if task.kind == BLIND}
    return {name: of for name, of in asked.items() if of in evaluated}
