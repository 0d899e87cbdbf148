"""``vista verify``: which outputs are damaged or of other versions, and the command that makes them again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from vista import verify
from vista.cli import app
from vista.config import Suite, load_suite
from vista.dag import Dag
from vista.errors import VistaError
from vista.manifest import STAGES, SUFFIX, Recorder, installed, read_manifest
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
    stage = STAGES[name.partition("/")[0]]
    Recorder(stage, {}, [suite.results / each for each in inputs]).write(output, {})


def found(suite: Suite) -> dict[str, str]:
    return {name: str(each[0]) for name, each in verify.verify(suite).damaged.items()}


def test_sound_results_are_counted(suite: Suite) -> None:
    report = verify.verify(suite)
    assert (report.outputs, report.files, report.damaged, report.mixed) == (5, 5, {}, [])


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


@pytest.mark.parametrize("name", ["suite.yaml", "suite.html"])
def test_the_suite_as_it_was_run_is_an_output_like_others(suite: Suite, name: str) -> None:
    make(suite, name)
    assert found(suite) == {}
    (suite.results / name).write_text("name: another")
    assert set(found(suite)) == {name}
    assert verify.files_to_make(suite, [name]) == {name: name}


def test_the_command_makes_the_damaged_files_again(suite: Suite) -> None:
    """Of a folder its manifest, which the rule makes; critical tokens come with their resamples."""
    policy = "nano-smoke/grids/vista-sft/seed0/round1"
    (resamples,) = (
        name for name in verify.outputs_of(suite) if name.startswith(f"rollouts/{policy}/resamples")
    )
    made = {
        "tasks/printed/train.parquet": "tasks/printed/train.parquet",
        "models/nano-smoke": "models/nano-smoke/manifest.json",
        f"training/{RUN}": f"training/{RUN}/manifest.json",
        resamples.replace("/resamples/", "/critical/"): resamples,
        "long.csv": "long.csv",
        "tables/main.md": "tables/main.md",
    }
    assert verify.files_to_make(suite, made) == made


def test_what_the_suite_no_longer_has_is_not_made_again(suite: Suite) -> None:
    gone = [
        "tasks/other/train.parquet",
        "models/other",
        f"training/{RUN.replace('star', 'other')}",
        f"rollouts/{RUN}/samples/k999-t1-n80/0-of-1.parquet",
        "tables/other.csv",
    ]
    assert verify.files_to_make(suite, gone) == dict.fromkeys(gone)


@pytest.mark.parametrize("name", ["smoke", "testbed", "testbed-full", "testbed-online", "paper"])
def test_whatever_a_table_is_made_from_can_be_made_again(root: Path, name: str) -> None:
    suite = load_suite(root / f"config/{name}.yaml", root=root)
    dag = Dag(suite)
    made_from = [
        *dag.manifests(),
        *dag.predictions(),
        *dag.table_inputs("difficulty"),
        *dag.table_inputs("distributions"),
    ]
    if "audit" in map(stem, dag.every_table()):
        made_from += [*dag.table_inputs("audit"), *dag.table_inputs("prefix")]
    files = {str(Path(file).relative_to(suite.results)).removesuffix(SUFFIX) for file in made_from}
    named = {file.removesuffix("/manifest.json") for file in files}
    assert {name for name, file in verify.files_to_make(suite, named).items() if file is None} == set()


def stem(file: str) -> str:
    return Path(file).stem


def told(suite: Suite, capsys: pytest.CaptureFixture[str]) -> list[str]:
    report = verify.verify(suite)
    verify.tell(report, suite, Path("config/smoke.yaml"), Console(width=4000, color_system=None))
    return capsys.readouterr().out.splitlines()


def test_the_command_names_targets_first_and_only_those_that_are_there(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = suite.results / f"curation/{RUN}/train.parquet"
    damaged.write_text("")
    line = told(suite, capsys)[-1].strip()
    forced = f"--configfile config/smoke.yaml --forcerun {damaged}"
    assert line == f"snakemake --cores all {forced}"
    make(suite, "tables/main.csv")
    make(suite, "tables/other.csv")
    (suite.results / f"training/{RUN}/weights").unlink()
    assert told(suite, capsys)[-1].strip() == (
        f"snakemake --cores all {suite.results}/tables/main.csv {forced} "
        f"{suite.results}/training/{RUN}/manifest.json"
    )


def test_damaged_outputs_that_the_suite_no_longer_has_are_to_be_deleted(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    make(suite, "models/other/weights")
    (suite.results / "models/other/weights").write_text("")
    lines = told(suite, capsys)
    assert lines[-1].endswith(f"delete them: {suite.results}/models/other")
    assert not any("snakemake" in line for line in lines)


def test_mixed_versions_are_listed_and_are_no_damage(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not any("versions" in line for line in told(suite, capsys))
    for name in ("training", "evaluation"):
        for manifest in (suite.results / name).rglob("*manifest.json"):
            value = json.loads(manifest.read_text())
            value["packages"]["torch"] = "2.0.0"
            manifest.write_text(json.dumps(value))
    lines = told(suite, capsys)
    assert lines[-2] == "The outputs were made with different versions of packages:"
    assert lines[-1].strip() == (
        f"torch: {installed()['torch']} (3 outputs), "
        f"2.0.0 (2 outputs: evaluation/{RUN}/predictions.parquet, training/{RUN})"
    )
    write_text(suite.results / "suite.json", suite.model_dump_json())
    done = CliRunner().invoke(app, ["verify", str(suite.results / "suite.json")])
    assert done.exit_code == 0


def test_nothing_is_removed(suite: Suite) -> None:
    write_text(suite.results / "suite.json", suite.model_dump_json())
    done = CliRunner().invoke(app, ["verify", str(suite.results / "suite.json"), "--remove"])
    assert (done.exit_code, "No such option" in done.output) == (2, True)


def test_links_are_followed(suite: Suite, tmp_path: Path) -> None:
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


def test_a_renamed_copy_is_no_output_and_is_to_be_deleted(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    file = suite.results / "tasks/printed/train.parquet"
    copy = file.with_name("copy.parquet")
    shutil.copy(file, copy)
    shutil.copy(manifest_of(file), manifest_of(copy))
    assert f"the manifest of {file}" in found(suite)["tasks/printed/copy.parquet"]
    assert told(suite, capsys)[-1].endswith(f"delete them: {copy}")


def test_another_suites_results_inside_are_left_alone(suite: Suite) -> None:
    shutil.copytree(suite.results / "tasks", suite.results / "smoke/tasks")
    (suite.results / "smoke/tasks/printed/train.parquet").unlink()
    assert not found(suite)


def test_what_is_half_written_or_kept_to_go_on_from_is_no_output(suite: Suite) -> None:
    shutil.copytree(
        suite.results / f"training/{RUN}", suite.results / f"training/{RUN.rpartition('/')[0]}/.round1.part"
    )
    assert verify.verify(suite).outputs == 5


def test_manifests_without_sizes_are_still_checked(suite: Suite) -> None:
    output = suite.results / "tasks/printed/train.parquet"
    manifest = read_manifest(output).model_copy(update={"sizes": {}})
    write_text(manifest_of(output), manifest.model_dump_json())
    assert not found(suite)
    output.write_text("")
    assert "other bytes" in found(suite)["tasks/printed/train.parquet"]


def test_a_suite_without_results_is_told_apart_from_a_sound_one(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(VistaError, match="has no results yet"):
        verify.verify(suite.model_copy(update={"results": tmp_path / "none"}))


def test_an_input_that_is_damaged_is_refused_before_any_work(suite: Suite) -> None:
    file = suite.results / "tasks/printed/train.parquet"
    write_text(suite.results / "suite.json", "{}")
    file.write_text("short")
    with pytest.raises(VistaError, match="cut short: 5 bytes") as refused:
        Recorder("curation", {}, [suite.results / "models/nano-smoke", file])
    assert f"vista verify {suite.results / 'suite.json'}`" in str(refused.value)
    manifest_of(file).unlink()  # a user's own file
    Recorder("curation", {}, [file])
