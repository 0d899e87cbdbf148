"""The filter that docs/adding.md adds works in a copy of the package, added as the document says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.curation.conftest import Folder, rollout
from tests.documents import code, section
from vista.config import Suite
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import EXAMPLE, read_rows


def insert(file: Path, before: str, text: str) -> None:
    source = file.read_text()
    assert source.count(before) == 1
    file.write_text(source.replace(before, text + before))


def add_the_filter(root: Path, copy: Path) -> str:
    """Copy the package and the config, and do what the document says; returns the method's name."""
    shutil.copytree(root / "vista", copy / "vista", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "config", copy / "config")
    shutil.copy(root / "models.yaml", copy)
    rule, line, settings, entry = code(section(root, "adding.md", "A filter"))
    assert (len(re.findall(r"^class ", rule, re.MULTILINE)), len(line.splitlines())) == (1, 1)
    filters, methods = copy / "vista/curation/filters.py", copy / "vista/config/methods.py"
    insert(filters, "\nFILTERS: ", rule + "\n")
    insert(filters, '    "none": KeepAll,\n', line)
    insert(methods, "\nFilter = Annotated[", settings + "\n")
    (name,) = re.findall(r"^class (\w+)", settings, re.MULTILINE)
    source = methods.read_text()
    methods.write_text(re.sub(r"(Filter = Annotated\[\s+NoFilterSettings)", rf"\1 | {name}", source))
    with (copy / "config/methods.yaml").open("a") as file:
        file.write(entry)
    (method,) = yaml.safe_load(entry)
    return str(method)


def vista(copy: Path, *arguments: str) -> str:
    """Run a command of the copied package."""
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "vista.cli", *arguments]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_filter_of_the_document_trains_on_what_it_keeps(root: Path, tmp_path: Path, suite: Suite) -> None:
    copy = tmp_path / "checkout"
    method = add_the_filter(root, copy)
    value = yaml.safe_load((copy / "config/testbed.yaml").read_text())
    value |= {"methods": ["sft-seed", method], "results": str(copy / "results"), "shards": suite.shards}
    (copy / "config/mine.yaml").write_text(yaml.safe_dump(value))

    paths = Paths(copy / "results")
    folder = Folder(suite, paths)
    for split in ("seed", "train"):
        folder.queries(split)
    samples = [rollout("grid-open-1", n, True) for n in range(4)]
    samples[2]["token_ids"] = [5, 6, 7, 8, 2]
    run = Run("nano-internvl", "grids", method, 0, 1)
    folder.rollouts(Run(run.model, run.train_set, "rest-em", 0, 1), samples)  # the same samples

    paths.suite.write_text(vista(copy, "config", "config/mine.yaml"))
    vista(copy, "curate", str(paths.suite), run.id)
    rows = [row for row in read_rows(paths.training_set(run.id), EXAMPLE) if row["source"] == "sample"]
    assert [row["completion_ids"] for row in rows] == [[5, 6, 0], [5, 6, 1], [5, 6, 3]]
    assert read_manifest(paths.training_set(run.id)).counts["dropped_by_filter"] == 1
