"""The testbed suite with splits small enough to generate in a test, and published benchmarks to add."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.published import WRITERS, benchmark
from vista.config import Suite, load_suite
from vista.task_kinds import Sizes, TaskSettings


def shrunk(task: TaskSettings, most: int) -> TaskSettings:
    """The task with at most ``most`` queries per split."""
    sizes = Sizes(**{split: min(size, most) for split, size in task.sizes.model_dump().items()})
    return task.model_copy(update={"sizes": sizes})


@pytest.fixture(scope="session")
def suite(root: Path) -> Suite:
    """The default suite, at most 120 queries a split."""
    full = load_suite(root / "config/testbed.yaml", root=root)
    tasks = {name: shrunk(task, 120) for name, task in full.tasks.items()}
    return full.model_copy(update={"tasks": tasks})


@pytest.fixture(scope="session")
def samples() -> Path:
    """Real records and answers, where there are some."""
    folder = os.environ.get("VISTA_SAMPLES")
    if not folder:
        pytest.skip("VISTA_SAMPLES names no folder with real records")
    return Path(folder)


@pytest.fixture
def published(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the published files of a benchmark, small, and gives their folder."""

    def write(kind: str) -> Path:
        folder = tmp_path / "published" / kind
        WRITERS[kind](folder)
        return folder

    return write


@pytest.fixture
def with_task(suite: Suite) -> Callable[..., Suite]:
    """The suite with one task more, a benchmark in a local folder."""

    def add(kind: str, folder: Path, sizes: dict[str, int | None] | None = None, **settings: Any) -> Suite:
        entry = {
            "kind": kind,
            "source": {"kind": "path", "path": folder},
            "sizes": sizes or {"seed": 2},
            **settings,
        }
        return suite.model_copy(update={"tasks": {**suite.tasks, kind: benchmark(**entry)}})

    return add
