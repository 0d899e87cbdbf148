"""The plan that jobs are handed: its suite, and the code that they are held to."""

from __future__ import annotations

import json
import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from vista import closure, planned
from vista.config import Suite, load_suite
from vista.dag import Dag
from vista.errors import VistaError

JOB = """
import sys
from pathlib import Path
from vista import closure, planned
from vista.errors import VistaError
closure.SOURCES["lab"] = Path("lab").absolute()
import lab
_, plan = planned.read(Path(sys.argv[1]))
try:
    planned.Guard(plan).install()
    Path("ready").touch()
    while not Path("go").exists():
        pass
    from lab import late
    print("imported", late.X)
except VistaError as error:
    print("refused", error)
"""


@pytest.fixture
def suite(root: Path, tmp_path: Path) -> Suite:
    suite = load_suite(root / "config/smoke.yaml", root=root)
    return suite.model_copy(update={"results": tmp_path / "results"})


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of plug-ins with a data file, in a folder of its own."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "__init__.py").write_text("from lab import early\n")
    (folder / "early.py").write_text("X = 1\n")
    (folder / "late.py").write_text(
        "from pathlib import Path\n\nX = Path(__file__).with_name('n.txt').read_text()\n"
    )
    (folder / "n.txt").write_text("1")
    monkeypatch.setitem(closure.SOURCES, "lab", folder)
    return folder


def make(suite: Suite) -> planned.Plan:
    dag = Dag(suite)
    dag.code("curate", "lab", "lab.late")
    return dag.plan


def job(suite: Suite, lab: Path) -> str:
    """What a job says that was planned before ``lab`` was edited, and imports it now."""
    (lab.parent / "go").touch()
    file = next((suite.results / planned.FOLDER).glob("*.json"))
    path = f"{lab.parent}:{Path(planned.__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(file)],
        cwd=lab.parent,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_job_runs_on_the_code_it_was_planned_with(suite: Suite, lab: Path) -> None:
    make(suite).write(suite.results)
    assert job(suite, lab) == "imported 1"


@pytest.mark.parametrize("module", ["__init__", "early", "late"])
def test_a_job_refuses_edited_code_whether_it_was_imported_before_or_not(
    suite: Suite, lab: Path, module: str
) -> None:
    make(suite).write(suite.results)
    file = lab / f"{module}.py"
    file.write_text(file.read_text() + "Y = 2\n")
    said = job(suite, lab)
    assert said.startswith(f"refused {file}: was edited since snakemake started")
    assert "snapshot: true" in said


def test_a_job_refuses_an_edited_data_file(suite: Suite, lab: Path) -> None:
    make(suite).write(suite.results)
    (lab / "n.txt").write_text("2")
    assert "a data file beside it was edited" in job(suite, lab)


def test_a_job_refuses_a_module_that_was_not_there(suite: Suite, lab: Path) -> None:
    late = (lab / "late.py").read_text()
    make(suite).write(suite.results)
    (lab / "late.py").write_text("from lab import new\n" + late)
    (lab / "new.py").write_text("X = 1\n")
    assert "was edited since" in job(suite, lab)
    (lab / "late.py").write_text(late)
    (lab / "late").mkdir()  # a package of that name comes first
    (lab / "late/__init__.py").write_text(late)
    assert "late/__init__.py: " in job(suite, lab)


def test_comments_and_layout_may_be_edited(suite: Suite, lab: Path) -> None:
    make(suite).write(suite.results)
    for file in lab.glob("*.py"):
        file.write_text('"""New words."""\n\n' + file.read_text() + "\n\n# A thought.\n")
    assert job(suite, lab) == "imported 1"


def test_code_that_was_compiled_in_the_second_of_an_edit_is_compiled_again(suite: Suite, lab: Path) -> None:
    """Python takes compiled code for that of a source of the same size and second."""
    file = lab / "late.py"
    before = file.read_text()
    make(suite).write(suite.results)
    file.write_text("X = 'edited'".ljust(len(before) - 1) + "\n")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    compiled = py_compile.compile(str(file), doraise=True)
    assert compiled is not None
    os.utime(compiled, (1_700_000_001, 1_700_000_001))
    file.write_text(before)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert job(suite, lab) == "imported 1"


def test_a_job_has_the_suite_it_was_planned_with_whatever_has_become_of_it(suite: Suite) -> None:
    plan = Dag(suite).plan
    plan.write(suite.results)
    other = suite.model_copy(update={"eval_max_new_tokens": 5})
    (suite.results / "suite.json").write_text(other.model_dump_json())
    found, _ = planned.read(plan.file(suite.results))
    assert found == suite


def test_a_plan_that_is_not_what_was_written_is_refused(suite: Suite) -> None:
    plan = Dag(suite).plan
    plan.write(suite.results)
    file = plan.file(suite.results)
    shorter = file.rename(file.with_name(f"{file.name[0]}.json"))
    with pytest.raises(VistaError, match="is not what snakemake wrote"):
        planned.read(shorter)
    plan.write(suite.results)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": "another"}))
    with pytest.raises(VistaError, match="is not what snakemake wrote"):
        planned.read(file)
    file.unlink()
    with pytest.raises(VistaError, match="the snakemake of this job has ended"):
        planned.read(file)


def test_plans_of_earlier_starts_are_removed(suite: Suite) -> None:
    Dag(suite).plan.write(suite.results)
    other = Dag(suite.model_copy(update={"eval_max_new_tokens": 5})).plan
    other.write(suite.results)
    assert list((suite.results / planned.FOLDER).glob("*.json")) == [other.file(suite.results)]


def test_a_snapshot_is_of_the_code_of_the_plan(suite: Suite, lab: Path) -> None:
    plan = make(suite)
    folder = plan.copy_code(suite.results)
    assert (folder / "lab/n.txt").read_text() == "1"
    assert (folder / "vista/figures/gallery.html.j2").is_file()
    assert not list(folder.rglob("__pycache__"))
    (lab / "early.py").write_text("X = 2\n")
    with pytest.raises(VistaError, match="was edited since snakemake started"):
        plan.copy_code(suite.results)
