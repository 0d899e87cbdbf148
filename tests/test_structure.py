"""The structure holds: stages stand apart, the shared part is light, every stage is in five places."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.structure import STAGES, Structure, circles, measure

# What `python benchmarks/structure.py` prints must stay within these; of imports there must be fewer.
MOST_MODULES = 266
FEWER_IMPORTS_PER_1000_LINES = 30
MOST_LINES_OF_A_MODULE = 450

LIGHT = (
    "config",
    "grid",
    "paths",
    "records",
    "seeding",
    "errors",
    "manifest",
    "verify",
    "dag",
    "closure",
    "plugins",
    "reads",
    "scores",
    "images",
    "answers",
    "testbed",
    "cli",
    "stages",
    "suites",
    "chat",
    "segments",
    "engines.folders",
    "engines.endpoint",
    "engines.replies",
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


@pytest.fixture(scope="module")
def structure(root: Path) -> Structure:
    return measure(root / "vista")


def test_there_are_few_modules_and_few_imports_between_them(structure: Structure) -> None:
    assert len(structure.lines) <= MOST_MODULES
    assert structure.imports_per_1000_lines < FEWER_IMPORTS_PER_1000_LINES
    assert structure.lines[structure.longest] <= MOST_LINES_OF_A_MODULE, structure.longest


def test_nothing_imports_itself_by_way_of_others(structure: Structure) -> None:
    assert structure.module_circles() == []
    assert structure.package_circles() == []
    assert structure.stage_arrows() == []


def test_circles_statements_and_stages_are_found_where_there_are_some(tmp_path: Path) -> None:
    package = tmp_path / "vista"
    files = {
        "__init__.py": "",
        "one.py": "from vista.tasks import a\nfrom vista import two\n",
        "two.py": "import vista.three\nimport os\n",
        "three.py": "if True:\n    from vista.one import x\n\n\ndef f():\n    from vista.two import g\n",
        "four.py": (
            "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from vista.five import x\n"
            "\n\ndef f():\n    import vista.five\n"
        ),
        "five.py": "from vista.four import f\n",
        "tasks/__init__.py": "",
        "tasks/a.py": "def f():\n    from vista.models.b import g\n",
        "models/__init__.py": "",
        "models/b.py": '"""No module but from vista import this."""\n',
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    found = measure(package)
    assert found.import_statements == 9
    assert found.module_circles() == [["vista.one", "vista.three", "vista.two"]]
    assert found.stage_arrows() == [("vista.tasks.a", "vista.models.b")]
    assert found.longest == "vista.four"


def test_circles_are_the_strongly_connected_components() -> None:
    graph = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"e"}, "e": {"c"}, "f": {"a"}}
    assert circles(graph) == [["c", "d", "e"], ["a", "b"]]
