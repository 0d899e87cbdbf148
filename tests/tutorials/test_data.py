"""The tutorial on own data does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tutorials import Tutorial

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]


def test_a_file_and_a_folder_of_pictures_become_a_row_of_the_table(root: Path, tmp_path: Path) -> None:
    tutorial = Tutorial.named(root, "data", tmp_path)
    tutorial.follow()
    header, row = (tutorial.folder / "results/mine/tables/main.csv").read_text().splitlines()
    assert "zero-shot" in row
    assert "mine" in header
    suite = (tutorial.folder / "mine.yaml").read_text()
    assert len(suite.splitlines()) <= 12
