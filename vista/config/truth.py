"""Whether methods that need the truth about a scene have tasks with one; part of ``load_suite``."""

from __future__ import annotations

from vista.config.methods import GoldPrefixResample, SelfImprovement
from vista.config.suites import Suite
from vista.config.tasks import GridTask


def truth_problems(suite: Suite, path: str) -> list[str]:
    """Methods that need gold rationales of tasks that have none, a line each.

    Args:
        suite: The resolved suite.
        path: The suite file, named in each line.
    """
    trained = dict.fromkeys(task for tasks in suite.train_sets.values() for task in tasks)
    published = [
        task for task in trained if task in suite.tasks and not isinstance(suite.tasks[task], GridTask)
    ]
    if not published:
        return []
    return [
        f"{path}: method {name}: resample.kind {method.resample.kind!r} needs gold rationales of the train "
        f"queries, which {', '.join(published)} does not have; use it with generated tasks (kind: grid) alone"
        for name, method in suite.methods.items()
        if isinstance(method, SelfImprovement) and isinstance(method.resample, GoldPrefixResample)
    ]
