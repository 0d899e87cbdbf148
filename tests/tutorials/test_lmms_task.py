"""The tutorial on tasks of lmms-eval does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tutorials import Tutorial

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]


def test_ones_own_task_of_lmms_eval_is_evaluated_on_as_the_page_says(root: Path, tmp_path: Path) -> None:
    Tutorial.named(root, "lmms-task", tmp_path).follow()
