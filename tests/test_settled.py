"""Bytes are on the disk before the name that they count by, and a manifest is the last of all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from tests.figures.test_gallery import DROPPED
from tests.nano import checkpoint
from vista.config import Loading
from vista.engines.checkpoints import save_checkpoint
from vista.errors import VistaError
from vista.figures import drawing
from vista.figures.gallery import make_gallery
from vista.manifest import Recorder, manifest_of
from vista.models.build import link_files
from vista.records import CASE, QUERY, atomic_path, settle, write_json, write_rows, write_text
from vista.training.resume import States

Call = tuple[str, Path]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What is flushed and named, in its order."""
    found: list[Call] = []
    flush, name = os.fsync, os.replace

    def fsync(opened: int) -> None:
        found.append(("flush", Path(os.readlink(f"/proc/self/fd/{opened}"))))
        flush(opened)

    def replace(source: Path, target: Path) -> None:
        source = Path(source)
        inside = [file for file in source.rglob("*") if not file.is_symlink()] if source.is_dir() else []
        for file in (source, *inside):
            assert ("flush", file) in found, f"{file} is named before it is on the disk"
        name(source, target)
        found.append(("name", Path(target)))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return found


def text(folder: Path) -> Path:
    write_text(folder / "a.csv", "a")
    return folder / "a.csv"


def json_(folder: Path) -> Path:
    write_json(folder / "a.json", {})
    return folder / "a.json"


def rows(folder: Path) -> Path:
    write_rows(folder / "a.parquet", [], QUERY)
    return folder / "a.parquet"


def table(folder: Path) -> Path:
    with atomic_path(folder / "long.csv") as temporary:
        pd.DataFrame({"a": [1]}).to_csv(temporary)
    return folder / "long.csv"


def weights(folder: Path) -> Path:
    made = checkpoint("internvl")
    save_checkpoint(made.model, made.processor, folder / "round1")
    return folder / "round1"


def links(folder: Path) -> Path:
    source = folder / "published"
    source.mkdir()
    (source / "config.json").write_text("{}")
    link_files(source, folder / "mine", Loading())
    return folder / "mine"


def gallery(folder: Path) -> Path:
    write_rows(folder / "cases.parquet", [DROPPED], CASE)
    make_gallery([["nano", str(folder / "cases.parquet")]], folder / "cases.html")
    return folder / "cases.html"


def figure(folder: Path) -> Path:
    drawing.save(Figure(), folder / "shown", Recorder("analysis", {}, []))
    return folder / "shown.pdf"


KINDS: list[Callable[[Path], Path]] = [text, json_, rows, table, weights, links, gallery, figure]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_an_output_is_on_the_disk_before_it_has_its_name_and_the_name_before_the_manifest(
    tmp_path: Path, calls: list[Call], make: Callable[[Path], Path]
) -> None:
    output = make(tmp_path)
    if not manifest_of(output).exists():
        Recorder("analysis", {}, []).write(output, {})
    manifest = manifest_of(output)
    named = calls.index(("name", output))
    assert ("flush", tmp_path) in calls[named:]
    last = calls.index(("name", manifest))
    assert ("flush", manifest.parent) in calls[last:]
    assert calls.index(("flush", tmp_path), named) < last


def test_a_state_is_on_the_disk_before_it_counts(tmp_path: Path, calls: list[Call]) -> None:
    state = tmp_path / "checkpoint-100"
    state.mkdir()
    (state / "model.safetensors").write_bytes(b"weights")
    States(tmp_path, {}, 100).finish(100)
    named = calls.index(("name", state / "whole.json"))
    assert calls.index(("flush", state / "model.safetensors")) < named


def test_a_disk_that_fails_in_flushing_leaves_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(VistaError, match=r"a\.csv: Input/output error; have the disk looked at"):
        text(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_flush_folders_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    assert text(tmp_path).read_text() == "a"


def test_nothing_is_named_in_another_way(root: Path) -> None:
    ways = re.compile(r"os\.(?:replace|renames?)\(|\.rename\(\w+\)|\.replace\(\w+\)|shutil\.move\(")
    found = [
        f"{file.name}: {line.strip()}"
        for file in root.glob("vista/**/*.py")
        for line in file.read_text().splitlines()
        if ways.search(line)
    ]
    assert found == ["records.py: os.replace(temporary, path)"]
    assert settle.__module__ == "vista.records"
