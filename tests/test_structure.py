"""The structure holds: stages stand apart, the shared part is light, every stage is in five places."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

STAGES = ("tasks", "models", "rollouts", "curation", "training", "evaluation", "analysis")
LIGHT = (
    "config",
    "grid",
    "paths",
    "records",
    "seeding",
    "errors",
    "checksums",
    "manifest",
    "verify",
    "versions",
    "dag",
    "fingerprints",
    "images",
    "answers",
    "testbed",
    "cli",
    "alignment",
    "chat",
    "segments",
    "planning.plan",
    "planning.doctor",
)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(root: Path, stage: str) -> None:
    others = {f"vista.{name}" for name in STAGES if name != stage}
    for path in (root / "vista" / stage).rglob("*.py"):
        wrong = {name for name in imports(path) if ".".join(name.split(".")[:2]) in others}
        assert not wrong, f"{path} imports {wrong}"


def test_engines_import_no_stage(root: Path) -> None:
    stages = {f"vista.{name}" for name in STAGES}
    for path in (root / "vista/engines").rglob("*.py"):
        assert not {name for name in imports(path) if ".".join(name.split(".")[:2]) in stages}


def test_the_shared_modules_are_free_of_torch() -> None:
    code = (
        "; ".join([f"import vista.{name}" for name in LIGHT]) + "; import sys; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name_in_five_places(root: Path, stage: str) -> None:
    assert (root / "vista" / stage / "__init__.py").is_file()
    assert (root / "workflow/rules" / f"{stage}.smk").is_file()
    assert (root / "tests" / stage).is_dir()
    assert f"`{stage}`" in (root / "docs/design.md").read_text()
    assert f'"{stage}"' in (root / "vista/paths.py").read_text() or stage == "analysis"


def test_every_module_says_what_it_is_for(root: Path) -> None:
    for path in (root / "vista").rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"
