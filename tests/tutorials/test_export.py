"""docs/tutorials/export.md, done literally."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.tutorials import Tutorial

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]


def test_the_tutorial_on_export_does_what_it_says(root: Path, tmp_path: Path, finished: Checkout) -> None:
    Tutorial.named(root, "export", tmp_path, finished).follow()
