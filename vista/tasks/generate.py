"""Stage ``tasks``: write the queries of one task. Run by ``vista tasks``.

The module of a task's kind decides which queries it has (``vista.task_kinds``).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vista import plugins, records
from vista.config import Suite
from vista.errors import VistaError
from vista.manifest import Recorder
from vista.paths import Paths
from vista.records import Row, Split
from vista.task_kinds import Prepared, TaskKind


def generate_split(suite: Suite, paths: Paths, task_name: str, split: Split) -> None:
    """Write one split of a task, with its manifest.

    Raises:
        VistaError: the suite has no such task, the split has no size, the task's published files are
            missing or wrong, or its kind makes queries that cannot be asked.
    """
    if task_name not in suite.tasks:
        close = difflib.get_close_matches(task_name, suite.tasks, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(suite.tasks))}"
        raise VistaError(f"suite {suite.name!r} has no task {task_name!r}; {hint}")
    task = suite.tasks[task_name]
    size = getattr(task.sizes, split)
    if size == 0:
        raise VistaError(f"suite {suite.name!r}: tasks.{task_name}.sizes.{split} is 0; give it a size")
    settings: dict[str, Any] = {"task": task_name, "split": split, **task.model_dump(mode="json")}
    if split == "seed":
        settings["seed_rationales"] = suite.seed_rationales.model_dump(mode="json")
    if (definition := task.definition()) is not None:
        settings["definition"] = definition
    origin = plugins.origin(task)
    if origin is not None:
        settings["plugins"] = [origin]
    recorder = Recorder("tasks", settings, _annotations(suite, task_name, split))
    output = paths.queries(task_name, split)
    kind: TaskKind[Any] = plugins.make(task)
    prepared: Prepared = kind.prepare(task_name, split)
    recorder.inputs += prepared.files
    settings |= prepared.found
    rows: Iterable[Row] = prepared.rows
    if not kind.checks_queries:
        rows = importlib.import_module("vista.tasks.checks").checked(rows, task.kind, task_name, split, size)
    counts: dict[str, float] = {}
    source = rationale_source(suite, task_name, split)
    if source is not None:
        # A pilot has a few of the queries that somebody wrote rationales for.
        more = {"more": True} if suite.pilot and suite.seed_rationales.kind == "annotated" else {}
        rows, counts = importlib.import_module(source).with_rationales(
            suite.seed_rationales, task_name, list(rows), **more
        )
    count = records.write_rows(output, rows, records.QUERY)
    prepared.pictures.note(output)
    recorder.write(output, {**prepared.counts, "queries": count, **counts})


def rationale_source(suite: Suite, task: str, split: str) -> str | None:
    """The module that adds rationales to a split; ``None`` where queries stay as they are.

    It is imported by name, since the queries of other splits do not depend on its code.
    """
    if split == "seed" and suite.seed_rationales.kind == "teacher":
        return "vista.tasks.teacher"
    return "vista.tasks.rationales" if _annotations(suite, task, split) else None


def _annotations(suite: Suite, task: str, split: str) -> list[Path]:
    """The user's file with a task's annotated rationales, if this split takes them from one."""
    settings = suite.seed_rationales
    if split != "seed" or settings.kind != "annotated" or task not in settings.files:
        return []
    return [settings.files[task]]
