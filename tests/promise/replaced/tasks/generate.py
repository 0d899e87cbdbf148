"""Stands in for the work of ``vista tasks``."""

from __future__ import annotations

from vista import standin
from vista.config import Suite
from vista.paths import Paths

CODE = 1


def generate_split(suite: Suite, paths: Paths, task: str, split: str) -> None:
    codes = {"standin": standin.CODE, "tasks.generate": CODE}
    standin.do(standin.tasks(suite, paths, task, split), lambda: codes)


def rationale_source(suite: Suite, task: str, split: str) -> str | None:
    """None: no split of these tasks has rationales added."""
    return None
