"""The tutorial on comparing systems, followed to the letter."""

from __future__ import annotations

from pathlib import Path

from tests.tutorials import Tutorial


def test_the_tutorial_on_comparing_is_true(root: Path, tmp_path: Path) -> None:
    Tutorial.named(root, "compare", tmp_path).follow()
