"""docs/security.md names tests for each thing that is done; and no test of safety is left out."""

from __future__ import annotations

import re
from pathlib import Path


def rows(root: Path) -> list[str]:
    lines = (root / "docs/security.md").read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| What")]


def test_every_claim_names_tests_that_exist(root: Path) -> None:
    assert len(rows(root)) > 10
    for row in rows(root):
        named = re.findall(r"`(tests/[\w/]+\.py)`", row.split("|")[2])
        assert named, row
        assert all((root / name).is_file() for name in named), row


def test_every_test_of_safety_stands_behind_a_claim(root: Path) -> None:
    text = "\n".join(rows(root))
    here = {f"tests/safety/{file.name}" for file in (root / "tests/safety").glob("test_*.py")}
    assert {name for name in here if name not in text} == {f"tests/safety/{Path(__file__).name}"}


def test_the_readme_leads_to_the_page(root: Path) -> None:
    assert "docs/security.md" in (root / "README.md").read_text()


def test_make_lint_runs_the_static_checks(root: Path) -> None:
    assert re.search(r"^\t.*ruff check \.$", (root / "Makefile").read_text(), flags=re.M)
    selected = re.search(r"^select = (.*)$", (root / "pyproject.toml").read_text(), flags=re.M)
    assert selected is not None
    assert '"S"' in selected[1]
