"""The testbed suite with splits small enough to generate in a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from vista.config import GridTask, Sizes, Suite, load_suite


def shrunk(task: GridTask, most: int) -> GridTask:
    """The task with at most ``most`` queries per split."""
    sizes = Sizes(**{split: min(size, most) for split, size in task.sizes.model_dump().items()})
    return task.model_copy(update={"sizes": sizes})


@pytest.fixture(scope="session")
def suite(root: Path) -> Suite:
    """The default suite, at most 120 queries a split."""
    full = load_suite(root / "config/testbed.yaml", root=root)
    tasks = {name: shrunk(task, 120) for name, task in full.tasks.items()}
    return full.model_copy(update={"tasks": tasks})
