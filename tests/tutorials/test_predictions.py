"""The tutorial docs/tutorials/predictions.md does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tutorials import Tutorial

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]


def test_the_tutorial_can_be_followed(root: Path, tmp_path: Path) -> None:
    Tutorial.named(root, "predictions", tmp_path).follow()
