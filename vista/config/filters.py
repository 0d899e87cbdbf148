"""Problems between the filters of a suite's methods and the rest of it. Serves ``load_suite``."""

from __future__ import annotations

from vista.config.methods import SelfImprovement
from vista.config.suites import Suite
from vista.config.tasks import GridTask
from vista.filters.random_drop import RandomDropSettings
from vista.filters.vas import VasSettings


def filter_problems(suite: Suite, path: str) -> list[str]:
    """Layers that nobody scores, and tasks without the scene that a filter looks at."""
    problems = []
    for name, method in suite.methods.items():
        if not isinstance(method, SelfImprovement):
            continue
        rule = method.filter
        if isinstance(rule, VasSettings | RandomDropSettings) and suite.scoring.layers != "all":
            missing = sorted(set(rule.layers) - set(suite.scoring.layers))
            if missing:
                problems.append(
                    f"{path}: method {name}: filter.layers {missing} are not scored; "
                    "add them to scoring.layers"
                )
        if rule.needs_scene:
            problems += [
                f"{path}: method {name}: filter {rule.kind!r} looks at the scene, but task {task!r} "
                f"(kind: {kind}) has none; only generated tasks (kind: grid) do: take the method or the "
                "task out of the suite"
                for task, kind in _tasks_without_scene(suite)
            ]
    return problems


def _tasks_without_scene(suite: Suite) -> list[tuple[str, str]]:
    """Name and kind of every task that is trained on and shows no known scene."""
    trained = dict.fromkeys(task for tasks in suite.train_sets.values() for task in tasks)
    specs = [(task, suite.tasks[task]) for task in trained if task in suite.tasks]
    return [(task, spec.kind) for task, spec in specs if not isinstance(spec, GridTask)]
