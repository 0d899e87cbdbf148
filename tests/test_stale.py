"""Whether an output was made from what it would be made from now, by its manifest alone."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vista.dag.stale import Stale
from vista.damage import Pictures
from vista.manifest import ORIGIN, Recorder, fingerprint
from vista.paths import manifest_of

CODE = "checksums"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Queries, a checkpoint made from them, predictions made from both, and a table."""
    monkeypatch.setattr(ORIGIN, "digests", lambda: {"settings": "s", "code": fingerprint(CODE)})
    monkeypatch.setattr(ORIGIN, "results", None)
    folder = tmp_path / "results"
    queries, checkpoint = folder / "tasks/t/test.parquet", folder / "training/run"
    make(queries, "tasks", [])
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_text("weights")
    Recorder("training", {}, [queries]).write(checkpoint, {})
    make(folder / "evaluation/run/predictions.parquet", "evaluation", [checkpoint, queries])
    make(folder / "tables/main.csv", "analysis", [folder / "evaluation/run/predictions.parquet"])
    return folder


def make(file: Path, stage: str, inputs: list[Path], text: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text or f"made by {stage}")
    Recorder(stage, {}, inputs).write(file, {})


def test_queries_are_stale_once_a_picture_that_they_were_made_of_is_another(results: Path) -> None:
    queries, pictures = results / "tasks/t/test.parquet", Pictures()
    files = [results.parent / name for name in ("a.png", "b.png")]
    for file in files:
        file.write_bytes(b"drawn")
        pictures.read(file)
    assert why(results, "tasks/t/test.parquet") == "", "made before there were notes"
    pictures.note(queries)
    assert why(results, "tasks/t/test.parquet") == ""
    later = time.time_ns() + 10**10
    os.utime(files[1], ns=(later, later))
    assert why(results, "tasks/t/test.parquet") == "", "copied, and the same"
    files[1].write_bytes(b"drawm")
    os.utime(files[1], ns=(later, later))
    assert why(results, "tasks/t/test.parquet") == f"{queries}: made from another {files[1]}"
    files[1].write_bytes(b"drawn anew")
    os.utime(files[1], ns=(0, 0))
    assert why(results, "tasks/t/test.parquet") == f"{queries}: made from another {files[1]}"
    files[1].unlink()
    assert why(results, "tasks/t/test.parquet") == "", "it may well be gone"
    Pictures().note(queries)
    files[0].write_bytes(b"another")
    assert why(results, "tasks/t/test.parquet") == "", "no longer made of any"


# What each rule declares.
RULES = {
    "tasks/t/test.parquet": [],
    "training/run/manifest.json": ["tasks/t/test.parquet"],
    "evaluation/run/predictions.parquet": ["training/run/manifest.json", "tasks/t/test.parquet"],
    "tables/main.csv": ["evaluation/run/predictions.parquet"],
}


def why(results: Path, output: str, settings: str | None = "s", code: str | None = CODE) -> str:
    file = results / output
    outputs = [str(file), str(manifest_of(file))] if file.suffix != ".json" else [str(file)]
    return Stale(results).why(outputs, [str(results / name) for name in RULES[output]], settings, code)


def stale(results: Path) -> set[str]:
    return {output for output in RULES if why(results, output)}


def test_what_was_made_from_what_it_would_be_made_from_is_fresh(results: Path) -> None:
    assert stale(results) == set()


@pytest.mark.parametrize("output", RULES)
def test_other_settings_and_other_code_make_an_output_stale(results: Path, output: str) -> None:
    assert why(results, output, settings="t").endswith("made with other settings")
    assert why(results, output, code="edited").endswith("made with other code")
    assert why(results, output, settings=None) == "", "a rule without settings"


def test_a_manifest_that_tells_nothing_is_stale(results: Path) -> None:
    file = results / "tables/main.csv.manifest.json"
    untold = json.dumps(json.loads(file.read_text()) | {"digests": {}})
    for content, said in {"": "cannot be read", "[]": "cannot be read", untold: "untold settings"}.items():
        file.write_text(content)
        assert said in why(results, "tables/main.csv")


def test_an_output_without_its_manifest_is_stale(results: Path) -> None:
    """A job that is killed between the two leaves it, and Snakemake elsewhere does not know."""
    for output in RULES:
        if not output.endswith("manifest.json"):
            manifest_of(results / output).unlink()
            assert "has no manifest" in why(results, output)
            (results / output).unlink()
            assert why(results, output) == "", "what is missing is Snakemake's business"


def test_an_output_that_is_gone_is_stale_by_the_copy_of_its_manifest(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made from it is still there, and Snakemake does not look further."""
    monkeypatch.setattr(ORIGIN, "results", results)
    checkpoint, queries = results / "training/run", results / "tasks/t/test.parquet"
    Recorder("training", {}, [queries]).write(checkpoint, {})
    shutil.rmtree(checkpoint)
    name = "training/run/manifest.json"
    assert why(results, name) == "", "it would be what it was"
    assert why(results, name, settings="t").endswith("made with other settings")
    assert why(results, name, code="edited").endswith("made with other code")
    make(queries, "tasks", [], "other queries")
    assert "made from another" in why(results, name)


def test_an_output_under_another_ones_name_is_stale(results: Path) -> None:
    table = results / "tables/main.csv"
    other = table.with_name("tasks.csv")
    shutil.copy2(table, other)
    shutil.copy2(manifest_of(table), manifest_of(other))
    read = [str(results / name) for name in RULES["tables/main.csv"]]
    assert "its manifest is that of" in Stale(results).why([str(manifest_of(other))], read, "s", CODE)


def test_results_may_be_copied_and_moved(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "elsewhere/smoke")
    shutil.rmtree(results)
    assert stale(tmp_path / "elsewhere/smoke") == set()


def remake(results: Path, **_: Any) -> set[str]:
    make(results / "tasks/t/test.parquet", "tasks", [], "other queries")
    return {"training/run/manifest.json", "evaluation/run/predictions.parquet"}


def spoil_a_table(results: Path) -> set[str]:
    (results / "tables/main.csv").write_text("95.0")
    return {"tables/main.csv"}


def spoil_predictions(results: Path) -> set[str]:
    """The job that reads them says so; a copy may be at hand."""
    (results / "evaluation/run/predictions.parquet").write_text("95.0")
    return set()


def put_in_another_runs(results: Path) -> set[str]:
    checkpoint = results / "training/other"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_text("other weights")
    Recorder("training", {}, [results / "tasks/t/test.parquet"]).write(checkpoint, {})
    inputs = [checkpoint, results / "tasks/t/test.parquet"]
    make(results / "evaluation/run/predictions.parquet", "evaluation", inputs)
    return {"evaluation/run/predictions.parquet"}


def put_in_another_checkpoint(results: Path) -> set[str]:
    checkpoint = results / "training/run"
    (checkpoint / "model.safetensors").write_text("other weights")
    Recorder("training", {}, [results / "tasks/t/test.parquet"]).write(checkpoint, {})
    return {"evaluation/run/predictions.parquet"}


def put_in_another_checkpoint_and_lose_it(results: Path) -> set[str]:
    """Made again for something else, then deleted to save space: its manifest's copy knows."""
    ORIGIN.results = results
    stale_now = put_in_another_checkpoint(results)
    shutil.rmtree(results / "training/run")
    return stale_now


def make_other_queries_and_lose_them(results: Path) -> set[str]:
    ORIGIN.results = results
    stale_now = remake(results)
    for file in (results / "tasks/t").iterdir():
        file.unlink()
    return stale_now


def draw_from_a_file_of_elsewhere(results: Path) -> set[str]:
    """By hand, from a table that somebody sent."""
    elsewhere = results.parent / "sent.csv"
    elsewhere.write_text("95.0")
    make(results / "tables/main.csv", "analysis", [elsewhere])
    return {"tables/main.csv"}


def take_queries_from_a_cache(results: Path) -> set[str]:
    """No rule declares what lies there, and nobody reads gigabytes before each run."""
    published = results.parent / "cache.parquet"
    published.write_text("published")
    make(results / "tasks/t/test.parquet", "tasks", [published])
    published.write_text("edited")
    return set()


def lose_an_input(results: Path) -> set[str]:
    """What was made from it was made from it."""
    shutil.rmtree(results / "training/run")
    return set()


@pytest.mark.parametrize(
    "happen",
    [
        remake,
        spoil_a_table,
        spoil_predictions,
        put_in_another_runs,
        put_in_another_checkpoint,
        put_in_another_checkpoint_and_lose_it,
        make_other_queries_and_lose_them,
        draw_from_a_file_of_elsewhere,
        take_queries_from_a_cache,
        lose_an_input,
    ],
)
def test_what_is_made_from_another_input_is_stale(results: Path, happen: Callable[[Path], set[str]]) -> None:
    expected = happen(results)
    assert stale(results) == expected


def test_a_model_whose_folder_is_a_link_is_stale_once_it_leads_elsewhere(results: Path) -> None:
    """Its files may be older than the base checkpoint, whose own links still lead to the former folder."""
    first, second, link = (results.parent / name for name in ("v1", "v2", "qwen"))
    for folder in (first, second):
        folder.mkdir()
        (folder / "model.safetensors").write_text("weights")
    link.symlink_to(first)
    base = results / "models/qwen"
    base.mkdir(parents=True)
    (base / "model.safetensors").symlink_to(link.resolve() / "model.safetensors")
    Recorder("models", {"model": "qwen"}, []).write(base, {})
    asked = [str(base / "manifest.json")], [str(link / "model.safetensors")], "s", CODE
    assert Stale(results).why(*asked) == ""
    link.unlink()
    link.symlink_to(second)
    assert "which is no file of its model now" in Stale(results).why(*asked)
