"""``vista verify``: which outputs are damaged, and what was made from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vista import verify
from vista.config import Suite, load_suite
from vista.errors import VistaError
from vista.manifest import Recorder, read_manifest
from vista.paths import manifest_of
from vista.records import write_text

RUN = "nano-smoke/grids/star/seed0/round1"


@pytest.fixture
def suite(root: Path, tmp_path: Path) -> Suite:
    """The smoke suite, with a text in the place of each of a few outputs."""
    suite = load_suite(root / "config/smoke.yaml", root=root).model_copy(update={"results": tmp_path / "r"})
    make(suite, "tasks/printed/train.parquet")
    make(suite, "models/nano-smoke/weights", "tasks/printed/train.parquet")
    make(suite, f"curation/{RUN}/train.parquet", "tasks/printed/train.parquet")
    make(suite, f"training/{RUN}/weights", f"curation/{RUN}/train.parquet", "models/nano-smoke")
    make(suite, f"evaluation/{RUN}/predictions.parquet", f"training/{RUN}")
    return suite


def make(suite: Suite, name: str, *inputs: str) -> None:
    file = suite.results / name
    write_text(file, f"text of {name}")
    output = file if file.suffix else file.parent
    Recorder("any", {}, [suite.results / each for each in inputs]).write(output, {})


def found(suite: Suite) -> dict[str, str]:
    return {name: str(each[0]) for name, each in verify.verify(suite).damaged.items()}


def test_sound_results_are_counted(suite: Suite) -> None:
    report = verify.verify(suite)
    assert (report.outputs, report.files, report.damaged, report.follow) == (5, 5, {}, [])


def test_a_missing_file_is_named(suite: Suite) -> None:
    (suite.results / "tasks/printed/train.parquet").unlink()
    assert "train.parquet: missing" in found(suite)["tasks/printed/train.parquet"]


def test_a_file_of_the_same_size_with_other_bytes_is_named_with_both_fingerprints(suite: Suite) -> None:
    file = suite.results / "models/nano-smoke/weights"
    expected = read_manifest(file.parent).checksums["weights"]
    file.write_text(file.read_text().upper())
    said = found(suite)["models/nano-smoke"]
    assert f"{file}: other bytes: sha256 " in said
    assert f"expected sha256 {expected}" in said


def test_a_malformed_manifest_is_damage(suite: Suite) -> None:
    (suite.results / f"training/{RUN}/manifest.json").write_text('{"output": ')
    assert "not a manifest" in found(suite)[f"training/{RUN}"]


def test_what_follows_is_what_was_made_from_it_and_nothing_else(suite: Suite) -> None:
    (suite.results / f"curation/{RUN}/train.parquet").write_text("")
    report = verify.verify(suite)
    assert report.follow == [f"evaluation/{RUN}/predictions.parquet", f"training/{RUN}"]
    verify.remove(suite, report)
    assert verify.verify(suite).outputs == 2
    assert not (suite.results / f"training/{RUN}").exists()


def test_the_files_of_one_job_are_removed_together(suite: Suite) -> None:
    """Snakemake makes all outputs of a job or none, and asks only for those that somebody needs."""
    together = verify.jobs_of(suite)
    assert {"tables/main.csv", "tables/main.tex", "tables/runs.csv"} <= set(together("tables/main.md"))
    assert together("tables/cost.md") == ["tables/cost.csv", "tables/cost.md", "tables/cost.tex"]
    critical = "rollouts/a/b/c/seed0/round1/critical/k/0-of-1.parquet"
    assert critical.replace("critical", "resamples") in together(critical)
    assert together("long.csv") == ["long.csv"]


def test_links_are_followed_to_be_checked_and_not_to_be_removed(suite: Suite, tmp_path: Path) -> None:
    """The base folder of a model on disk holds links to files of the user's."""
    own = tmp_path / "mine"
    write_text(own / "weights", "mine")
    folder = suite.results / "models/mine"
    folder.mkdir()
    (folder / "weights").symlink_to(own / "weights")
    Recorder("models", {}, []).write(folder, {})
    assert not found(suite)
    (own / "weights").write_text("more")
    assert "weights" in found(suite)["models/mine"]
    (own / "weights").rename(own / "moved")
    assert f"a link to {own / 'weights'}, which is missing" in found(suite)["models/mine"]
    verify.remove(suite, verify.verify(suite))
    assert not folder.exists()
    assert (own / "moved").read_text() == "more"


def test_a_renamed_copy_is_sound(suite: Suite) -> None:
    file = suite.results / "tasks/printed/train.parquet"
    copy = file.with_name("copy.parquet")
    shutil.copy(file, copy)
    shutil.copy(manifest_of(file), manifest_of(copy))
    assert not found(suite)


def test_another_suites_results_inside_are_left_alone(suite: Suite) -> None:
    make(suite, "smoke/tasks/printed/train.parquet")
    (suite.results / "smoke/tasks/printed/train.parquet").unlink()
    assert not found(suite)


def test_what_is_half_written_or_kept_to_go_on_from_is_no_output(suite: Suite) -> None:
    make(suite, f"training/{RUN.rpartition('/')[0]}/.round1.part/weights")
    assert verify.verify(suite).outputs == 5


def test_manifests_without_sizes_are_still_checked(suite: Suite) -> None:
    output = suite.results / "tasks/printed/train.parquet"
    manifest = read_manifest(output).model_copy(update={"sizes": {}})
    write_text(manifest_of(output), manifest.model_dump_json())
    assert not found(suite)
    output.write_text("")
    assert "other bytes" in found(suite)["tasks/printed/train.parquet"]


def test_one_suite_must_be_named(root: Path) -> None:
    with pytest.raises(VistaError, match="name one suite"):
        verify.open_suite(None, None)
    assert verify.open_suite(None, root / "config/smoke.yaml").name == "smoke"


def test_a_suite_without_results_is_told_apart_from_a_sound_one(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(VistaError, match="has no results yet"):
        verify.verify(suite.model_copy(update={"results": tmp_path / "none"}))


def test_an_input_that_is_damaged_is_refused_before_any_work(suite: Suite) -> None:
    file = suite.results / "tasks/printed/train.parquet"
    write_text(suite.results / "suite.json", "{}")
    file.write_text("short")
    with pytest.raises(VistaError, match="cut short: 5 bytes") as refused:
        Recorder("curation", {}, [suite.results / "models/nano-smoke", file])
    assert f"vista verify {suite.results / 'suite.json'} --remove" in str(refused.value)
    manifest_of(file).unlink()  # a user's own file
    Recorder("curation", {}, [file])
