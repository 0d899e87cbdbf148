"""Kinds of tasks from a package of the user's: found, checked, written and named in the manifest."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter

from tests.documents import code, section
from tests.tasks import published as files
from vista import plugins
from vista.config import Suite, Task
from vista.config.checks import consistency_problems
from vista.dag import Dag
from vista.damage import sha256
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.planning.estimate import queries
from vista.records import Split, read_queries
from vista.tasks.generate import generate_split

# The examples of the page, as they stand there.
LETTERS, COLOURS = code(section(Path(__file__).parents[2], "adding.md", "A task"), "python")


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes a module of a user's package, which a suite then names."""

    def name(text: str) -> None:
        (tmp_path / "my_lab_tasks.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        plugins.name_modules(["my_lab_tasks"])

    yield name
    plugins.name_modules([])
    sys.modules.pop("my_lab_tasks", None)


def with_entry(suite: Suite, name: str, **entry: object) -> Suite:
    """The suite with one task more."""
    return suite.model_copy(update={"tasks": {**suite.tasks, name: TypeAdapter(Task).validate_python(entry)}})


def colours(suite: Suite, size: int = 5) -> Suite:
    return with_entry(suite, "colours", kind="colours", sizes={"seed": 3, "test": size})


def make(suite: Suite, folder: Path, task: str, split: Split) -> Path:
    generate_split(suite, Paths(folder), task, split)
    return Paths(folder).queries(task, split)


def test_a_kind_of_ones_own_makes_queries_and_its_module_is_in_the_manifest(
    named: Callable[[str], None], suite: Suite, tmp_path: Path
) -> None:
    named(COLOURS)
    file = make(colours(suite), tmp_path / "results", "colours", "test")
    assert [row["answer"] for row in read_queries(file)] == ["red", "green", "blue", "red", "green"]
    manifest = read_manifest(file)
    assert manifest.settings["plugins"] == [
        {"kind": "colours", "module": "my_lab_tasks", "sha256": sha256(tmp_path / "my_lab_tasks.py")}
    ]
    assert manifest.settings["side"] == 8
    assert queries(colours(suite), "colours", "test") == 5
    wider = with_entry(suite, "colours", kind="colours", sizes={"test": 5}, side=9)
    digests = [Dag(each).task_settings("colours", "test") for each in (colours(suite), wider)]
    assert digests[0] != digests[1]


def test_a_kind_of_this_package_is_no_plug_in_from_outside(suite: Suite, tmp_path: Path) -> None:
    assert "plugins" not in read_manifest(make(suite, tmp_path, "grid-open", "test")).settings


@pytest.mark.parametrize(
    ("line", "instead", "named_in_error"),
    [
        ('"answer": colour', '"answer": "maybe", "x": 1', "row 0: columns ['x'] are missing or unknown"),
        ('"answer": colour', '"answer": " "', "row 0: query 'colours-test-0': answer is empty"),
        ('"answer_type": "term"', '"answer_type": "choice"', "row 0: query 'colours-test-0': "),
        ('"answer_type": "term"', '"answer_type": "word"', "answer_type is 'word', expected one of closed"),
        ("buffer.getvalue()", "b'GIF89a'", "query 'colours-test-0': image 0: corrupt image"),
        ('"images": [', '"images": [] and [', "row 0: query 'colours-test-0': there is no image"),
        ("-{index}", "", "row 1: query_id 'colours-test' is that of an earlier row"),
        ('"cluster_id": colour', '"cluster_id": None', "row 0: cluster_id is None, expected text"),
        ('"answer": colour', '"answer": 7', "row 0: a value does not fit its column: "),
        ('{"bytes": buffer.getvalue(), "path": None}', '{"file": "red.png"}', "image 0: nothing where the"),
        ('{"bytes": buffer.getvalue(), "path": None}', '"red.png"', "row 0: a value does not fit its column"),
        ('"split": split', '"split": "train"', "split is 'train', but this is the file of 'test'"),
        ("range(size)", "range(size - 1)", "sizes.test asks for 5 queries, but the kind makes 4"),
    ],
)
def test_what_nobody_can_be_asked_is_refused_with_the_row_before_anything_is_written(
    line: str,
    instead: str,
    named_in_error: str,
    named: Callable[[str], None],
    suite: Suite,
    tmp_path: Path,
) -> None:
    assert line in COLOURS
    named(COLOURS.replace(line, instead))
    with pytest.raises(VistaError) as raised:
        make(colours(suite), tmp_path / "results", "colours", "test")
    assert named_in_error in str(raised.value)
    assert "task 'colours': the test split that kind 'colours' makes has errors" in str(raised.value)
    assert not (tmp_path / "results").exists()


def test_a_benchmark_of_ones_own_is_one_module(
    named: Callable[[str], None], suite: Suite, tmp_path: Path
) -> None:
    named(LETTERS)
    files.write_scienceqa(tmp_path / "published")
    source = {"kind": "path", "path": tmp_path / "published"}
    extended = with_entry(suite, "letters", kind="my-letters", source=source, sizes={"seed": 2})
    rows = read_queries(make(extended, tmp_path / "results", "letters", "test"))
    assert [row["answer"] for row in rows] == ["A", "C"]
    assert all('"Answer: X", where X is the letter of the right choice' in row["instruction"] for row in rows)
    manifest = read_manifest(make(extended, tmp_path / "results", "letters", "train"))
    assert manifest.counts["duplicates"] == manifest.counts["shared_images"] == 1
    assert [plugin["kind"] for plugin in manifest.settings["plugins"]] == ["my-letters"]
    assert [queries(extended, "letters", split) for split in get_args(Split)] == [2, 5, 2]
    assert extended.tasks["letters"].lmms_scorer is None


def test_a_task_that_brings_no_rationales_needs_a_source_of_them(
    named: Callable[[str], None], suite: Suite
) -> None:
    named(COLOURS)
    trained = colours(suite).model_copy(update={"train_sets": {"colours": ["colours"]}})
    problems = consistency_problems(trained, "suite.yaml")
    assert any("files.colours: missing; this task brings no rationales" in line for line in problems)
    assert not [line for line in consistency_problems(suite, "suite.yaml") if "rationales" in line]


def test_an_installed_package_serves_the_command_by_its_entry_point(suite: Suite, tmp_path: Path) -> None:
    site = tmp_path / "site"
    about = site / "my_lab-1.2.dist-info"
    about.mkdir(parents=True)
    (site / "my_lab.py").write_text(COLOURS)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text("[vista.tasks]\ncolours = my_lab\n")
    (about / "RECORD").write_text("my_lab.py,,\nmy_lab-1.2.dist-info/RECORD,,\n")
    value = suite.model_dump(mode="json")
    value["tasks"]["colours"] = {"kind": "colours", "sizes": {"test": 4}}
    value["results"] = str(tmp_path / "results")
    resolved = tmp_path / "results/suite.json"
    resolved.parent.mkdir()
    resolved.write_text(json.dumps(value))
    search = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from vista.cli import main; main()",
            "tasks",
            str(resolved),
            "colours",
            "test",
        ],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    file = Paths(tmp_path / "results").queries("colours", "test")
    assert len(read_queries(file)) == 4
    (plugin,) = read_manifest(file).settings["plugins"]
    assert (plugin["module"], plugin["package"], plugin["version"]) == ("my_lab", "my-lab", "1.2")
