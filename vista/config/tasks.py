"""The tasks of a suite as it is resolved: those of lmms-eval that it names, and those that blind ones ask."""

from __future__ import annotations

import difflib
import re
from typing import Any

from vista.config.blind import BLIND, asked_task
from vista.config.suites import LMMS_EVAL, SuiteFile
from vista.settings import NAME
from vista.task_kinds import TaskSettings


def stated_of_task(task: TaskSettings, split: str | None = None) -> dict[str, Any]:
    """What the config says of a task but for its sizes: all of it, or what decides a split."""
    asked = asked_task(task)

    def stated(each: TaskSettings) -> dict[str, Any]:
        unused = each.for_training if split == "test" else ()
        said: dict[str, Any] = each.model_dump(mode="json", exclude={"sizes", *unused})
        return said

    return stated(task) if asked is task else {**stated(task), "original": stated(asked)}


def named_tasks(suite: SuiteFile, path: str, problems: list[str]) -> dict[str, Any]:
    """The fields of a suite that name tasks, with an entry for each task that lmms-eval is to have.

    Its name in the suite is lmms-eval's, in small letters, with hyphens for underscores.
    """
    entries: dict[str, Any] = {}

    def in_suite(task: str) -> str:
        if not task.startswith(LMMS_EVAL):
            return task
        theirs = task.removeprefix(LMMS_EVAL)
        name = theirs.lower().replace("_", "-")
        entry = {"kind": "lmms-eval", "task": theirs}
        other = entries.get(name, suite.tasks.get(name))
        if not re.fullmatch(NAME, name):
            problems.append(
                f"{path}: {task!r}: {name!r} cannot be a name in a suite; choose one: tasks: {{my-name: "
                f"{{kind: lmms-eval, task: {theirs}}}}}, out_of_domain: [my-name]"
            )
        elif other not in (None, entry):
            problems.append(f"{path}: {task!r}: there is another task {name!r} already; rename that one")
        else:
            entries[name] = entry
        return name

    train_sets = {name: [in_suite(task) for task in tasks] for name, tasks in suite.train_sets.items()}
    out_of_domain = [in_suite(task) for task in suite.out_of_domain]
    tasks = {name: spec.model_dump() for name, spec in suite.tasks.items()} | entries
    for name, spec in suite.tasks.items():
        if spec.kind == BLIND:
            tasks[name] = _with_original(tasks[name], name, suite.tasks, path, problems)
    return {"train_sets": train_sets, "out_of_domain": out_of_domain, "tasks": tasks}


def _with_original(
    entry: dict[str, Any], name: str, known: dict[str, TaskSettings], path: str, problems: list[str]
) -> dict[str, Any]:
    """The entry of a blind task with the settings of the task whose questions it asks."""
    of, where = entry["of"], f"{path}: tasks.{name}.of: {entry['of']!r}"
    original = known.get(of)
    if original is None:
        close = difflib.get_close_matches(of, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "name another entry of tasks"
        problems.append(f"{where}: unknown task, or one of lmms-eval's; {hint}")
        return entry
    if original.kind == BLIND or original.evaluator is not None:
        problems.append(f"{where} is of kind {original.kind}, whose images are not replaced; name another")
        return entry
    sizes = entry["sizes"]
    if sizes["test"] is None:
        sizes = {**sizes, "test": original.sizes.test}
    if sizes["test"] == 0:
        problems.append(f"{path}: tasks.{name}.sizes.test: {of!r} has no test queries; say how many it asks")
        return entry
    return {**entry, "sizes": sizes, "original": original.model_dump()}
