"""``vista verify`` along the chain: what each output was made from is what is there, in its place."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from vista import verify
from vista.cli import app
from vista.config import Suite, load_suite
from vista.errors import VistaError
from vista.manifest import STAGES, Recorder, read_manifest
from vista.paths import manifest_of
from vista.records import write_json, write_text

SEED, STAR = "nano-smoke/grids/sft-seed/seed0/round0", "nano-smoke/grids/star/seed0/round1"
SAMPLES, PREFIX = "k6-t1-n80", "k6-t1-n80+prefix-j3-top1-swapped"
TRAIN, TEST = "tasks/grid-closed/train.parquet", "tasks/grid-closed/test.parquet"
DRAWN = [
    f"rollouts/{SEED}/{kind}/{name}/0-of-1.parquet"
    for kind, name in (("samples", SAMPLES), ("resamples", PREFIX), ("critical", PREFIX))
]
# Outputs of the smoke suite in the order in which they are made, with what they are made from.
CHAIN = {
    "tasks/printed/train.parquet": [],
    TRAIN: [],
    TEST: [],
    "models/nano-smoke": ["tasks/printed/train.parquet"],
    f"curation/{SEED}/train.parquet": [TRAIN],
    f"training/{SEED}": [f"curation/{SEED}/train.parquet", "models/nano-smoke"],
    DRAWN[0]: [f"training/{SEED}", TRAIN],
    DRAWN[1]: [f"training/{SEED}", TRAIN, DRAWN[0]],
    DRAWN[2]: [f"training/{SEED}", TRAIN, DRAWN[0]],
    f"curation/{STAR}/train.parquet": [TRAIN, *DRAWN[:2]],
    f"rollouts/{SEED}/cases.parquet": [f"training/{SEED}", *DRAWN],
    f"training/{STAR}": [f"curation/{STAR}/train.parquet", f"training/{SEED}"],
    f"evaluation/{SEED}/predictions.parquet": [f"training/{SEED}", TEST],
    f"evaluation/{STAR}/predictions.parquet": [f"training/{STAR}", TEST],
    "long.csv": [TEST, f"evaluation/{SEED}/predictions.parquet", f"evaluation/{STAR}/predictions.parquet"],
    "tables/main.csv": ["long.csv"],
    "tables/runs.csv": ["long.csv"],
}
FOLDERS = [name for name in CHAIN if not Path(name).suffix]
FILES = [name for name in CHAIN if Path(name).suffix]
READ = sorted({name for inputs in CHAIN.values() for name in inputs})
CLOCK = itertools.count(10**9, 10)


def make(suite: Suite, name: str, text: str = "") -> None:
    """Make one output, ten seconds after the one before."""
    output = suite.results / name
    file = output if output.suffix else output / "model.safetensors"
    write_text(file, text or f"text of {name}")
    inputs = [suite.results / each for each in CHAIN[name]]
    Recorder(STAGES[name.partition("/")[0]], {}, inputs).write(output, {})
    later = next(CLOCK)
    for each in (file, manifest_of(output)):
        os.utime(each, (later, later))


def made(root: Path, results: Path, text: str = "") -> Suite:
    suite = load_suite(root / "config/smoke.yaml", root=root).model_copy(update={"results": results})
    for name in CHAIN:
        make(suite, name, text and f"{text} of {name}")
    return suite


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return made(root, tmp_path_factory.mktemp("whole") / "results")


@pytest.fixture(scope="module")
def other(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The same outputs of another run: other bytes under the same names."""
    return made(root, tmp_path_factory.mktemp("other") / "results", "another text")


def copied(suite: Suite, folder: Path) -> Suite:
    shutil.copytree(suite.results, folder / "copy")
    return suite.model_copy(update={"results": folder / "copy"})


@pytest.fixture
def suite(whole: Suite, tmp_path: Path) -> Suite:
    return copied(whole, tmp_path)


def parts_of(suite: Suite, name: str) -> list[Path]:
    output = suite.results / name
    return [output] if name in FOLDERS else [output, manifest_of(output)]


def remove(suite: Suite, name: str) -> None:
    for path in parts_of(suite, name):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def put(source: Suite, name: str, suite: Suite, place: str) -> None:
    """Put an output in the place of another, with its manifest."""
    remove(suite, place)
    for path, to in zip(parts_of(source, name), parts_of(suite, place), strict=True):
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(path, to) if path.is_dir() else shutil.copy2(path, to)


def touch(suite: Suite, name: str, later: bool) -> None:
    when = next(CLOCK) if later else 1
    for path in parts_of(suite, name):
        os.utime(manifest_of(path) if path.is_dir() else path, (when, when))


def lines(suite: Suite, capsys: pytest.CaptureFixture[str]) -> list[str]:
    verify.tell(
        verify.verify(suite), suite, Path("config/smoke.yaml"), Console(width=9000, color_system=None)
    )
    return capsys.readouterr().out.splitlines()


def forced(suite: Suite, capsys: pytest.CaptureFixture[str]) -> list[str]:
    (line,) = [line for line in lines(suite, capsys) if line.startswith("  snakemake ")]
    return [name.removeprefix(f"{suite.results}/") for name in line.partition("--forcerun ")[2].split()]


def test_what_nobody_touched_is_sound_wherever_it_lies(
    whole: Suite, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for each in (whole, suite, suite.model_copy(update={"results": Path("copy")})):
        report = verify.verify(each)
        assert (report.damaged, report.waiting, report.edited) == ({}, {}, {})
        assert report.outputs == len(CHAIN)


def test_moved_results_may_be_gone_on_with(suite: Suite) -> None:
    """Inputs are then named under both places."""
    make(suite, f"evaluation/{STAR}/predictions.parquet", "made after the move")
    report = verify.verify(suite)
    assert (report.damaged, set(report.waiting)) == ({}, {"long.csv"})


def test_part_of_the_suite_is_sound(suite: Suite) -> None:
    for name in reversed(CHAIN):
        remove(suite, name)
        report = verify.verify(suite)
        assert (report.damaged, report.waiting) == ({}, {}), name


@pytest.mark.parametrize("name", READ)
def test_an_input_that_is_gone_is_made_again(
    suite: Suite, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    remove(suite, name)
    users = [output for output, inputs in CHAIN.items() if name in inputs]
    said = lines(suite, capsys)
    for output in users:
        assert any(f"{output}: made from {suite.results / name}, which is gone" in line for line in said)
    assert sorted(verify.verify(suite).damaged) == sorted(users)
    file = name.replace("/critical/", "/resamples/") + ("/manifest.json" if name in FOLDERS else "")
    assert forced(suite, capsys) == [file], "Snakemake makes it, and from it those made from it"


def test_several_that_are_gone_are_made_again(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the checkpoint that is gone as well tells of the training set; Snakemake makes it for that."""
    for name in (f"curation/{STAR}/train.parquet", f"training/{STAR}", TEST):
        remove(suite, name)
    assert sorted(forced(suite, capsys)) == sorted([f"training/{STAR}/manifest.json", TEST])


def test_an_input_without_its_manifest_is_made_again(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest_of(suite.results / DRAWN[0]).unlink()
    assert any("which has no manifest" in line for line in lines(suite, capsys))
    assert forced(suite, capsys) == [DRAWN[0]]


def test_what_the_suite_cannot_make_again_is_to_be_deleted(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = suite.model_copy(update={"methods": {n: m for n, m in suite.methods.items() if n != "star"}})
    remove(fewer, f"training/{STAR}")
    said = lines(fewer, capsys)
    assert said[-1].endswith(f"delete them: {fewer.results}/evaluation/{STAR}/predictions.parquet")
    assert not any("snakemake" in line or "make " in line for line in said)


@pytest.mark.parametrize("name", ["tables/main.csv", f"evaluation/{STAR}/predictions.parquet", DRAWN[1]])
def test_what_is_made_again_waits_for_what_is_made_from_it(suite: Suite, name: str) -> None:
    """As Snakemake itself compares times, it makes those again: there is nothing to mend."""
    make(suite, name, "made again")
    report = verify.verify(suite)
    users = [output for output, inputs in CHAIN.items() if name in inputs]
    assert (report.damaged, sorted(report.waiting)) == ({}, sorted(users))
    for output in CHAIN:
        if set(CHAIN[output]) & {name, *users} or output in users:
            users.append(output)
            make(suite, output, "made from it")
    report = verify.verify(suite)
    assert (report.damaged, report.waiting) == ({}, {})


def test_what_the_suite_no_longer_has_may_wait_for_ever(suite: Suite) -> None:
    """Whoever takes the method back into the suite has it made again."""
    fewer = suite.model_copy(update={"methods": {n: m for n, m in suite.methods.items() if n != "star"}})
    make(fewer, TEST, "made again")
    report = verify.verify(fewer)
    assert not report.damaged
    assert f"evaluation/{STAR}/predictions.parquet" in report.waiting


def test_waiting_is_told_and_is_no_damage(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    make(suite, TEST, "made again")
    said = lines(suite, capsys)
    assert said[0].endswith("all are what was made")
    assert said[1].startswith("Not yet made again")
    assert f"  {suite.results}/long.csv: {TEST}" in said
    write_text(suite.results / "suite.json", suite.model_dump_json())
    assert CliRunner().invoke(app, ["verify", str(suite.results / "suite.json")]).exit_code == 0


@pytest.mark.parametrize("name", READ)
def test_outputs_of_another_results_folder_are_found(suite: Suite, other: Suite, name: str) -> None:
    """Even if nothing but the checksums of what was made tells them apart: same names, same places, older."""
    put(other, name, suite, name)
    touch(suite, name, later=False)
    found = verify.verify(suite).damaged
    users = {output for output, inputs in CHAIN.items() if name in inputs}
    assert users <= found.keys()
    assert all("made from another" in str(found[output][0]) for output in users)


def test_a_whole_stage_of_another_results_folder_is_found_even_if_newer(suite: Suite, other: Suite) -> None:
    shutil.rmtree(suite.results / "evaluation")
    shutil.copytree(other.results / "evaluation", suite.results / "evaluation")
    for run in (SEED, STAR):
        touch(suite, f"evaluation/{run}/predictions.parquet", later=True)
    assert set(verify.verify(suite).damaged) == {
        f"evaluation/{SEED}/predictions.parquet",
        f"evaluation/{STAR}/predictions.parquet",
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"evaluation/{SEED}/predictions.parquet", f"evaluation/{STAR}/predictions.parquet"),
        (f"training/{SEED}", f"training/{STAR}"),
        (f"curation/{SEED}/train.parquet", f"curation/{STAR}/train.parquet"),
        (DRAWN[1], DRAWN[2]),
        (DRAWN[0], DRAWN[1]),
        (TRAIN, "tasks/printed/train.parquet"),
        (TRAIN, TEST),
        ("tables/main.csv", "tables/runs.csv"),
    ],
)
def test_outputs_that_changed_places_are_both_made_again(
    suite: Suite, first: str, second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    swap(suite, first, second)
    report = verify.verify(suite)
    assert set(report.damaged) == {first, second}
    again = {name.replace("/critical/", "/resamples/") for name in (first, second)}
    assert {name.removesuffix("/manifest.json") for name in forced(suite, capsys)} == again
    write_text(suite.results / "suite.json", suite.model_dump_json())
    with pytest.raises(VistaError, match="the manifest of"):
        Recorder("analysis", {}, [suite.results / first])


def swap(suite: Suite, first: str, second: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = copied(suite, Path(folder))
        put(before, first, suite, second)
        put(before, second, suite, first)


def test_manifests_that_have_only_the_outputs_name_tell_runs_apart_by_their_settings(suite: Suite) -> None:
    """As they had before they had its path."""
    files = [suite.results / f"evaluation/{run}/predictions.parquet" for run in (SEED, STAR)]
    for file, run in zip(files, (SEED, STAR), strict=True):
        value = read_manifest(file).model_dump() | {"output": file.name, "settings": {"run": run}}
        write_json(manifest_of(file), value)
    assert not verify.verify(suite).damaged
    swap(suite, *(f"evaluation/{run}/predictions.parquet" for run in (SEED, STAR)))
    found = verify.verify(suite).damaged
    assert f"the manifest of {STAR}" in str(found[f"evaluation/{SEED}/predictions.parquet"][0])


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", ["adapter_config.json", "model-2.safetensors", "additional/chat.jinja"])
def test_a_file_added_to_a_checkpoint_is_named_and_refused(
    suite: Suite, folder: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    added = suite.results / folder / name
    write_text(added, "{}")
    said = lines(suite, capsys)
    assert f"{added}: was not made here; expected no such file: delete it" in said
    assert said[-1] == f"Delete what was added: {added}"
    with pytest.raises(VistaError, match="was not made here"):
        Recorder("training", {}, [suite.results / folder])
    added.unlink()
    assert not verify.verify(suite).damaged


def test_a_checkpoint_with_an_added_file_is_still_followed(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(suite.results / f"training/{STAR}/adapter_config.json", "{}")
    remove(suite, f"curation/{STAR}/train.parquet")
    assert [each.is_added for each in verify.verify(suite).damaged[f"training/{STAR}"]] == [True, False]
    assert forced(suite, capsys) == [f"curation/{STAR}/train.parquet"]


def test_hidden_files_in_a_checkpoint_say_nothing(suite: Suite) -> None:
    for name in (".nfs0001", ".cache/lock", ".model.safetensors.part"):
        write_text(suite.results / FOLDERS[0] / name, "")
    assert not verify.verify(suite).damaged


def test_a_manifest_in_a_folder_of_others_hides_none_of_them(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    stray = suite.results / "training/nano-smoke/manifest.json"
    shutil.copy(manifest_of(suite.results / f"training/{STAR}"), stray)
    report = verify.verify(suite)
    assert (list(report.damaged), report.outputs) == (["training/nano-smoke"], len(CHAIN) + 1)
    assert lines(suite, capsys)[-1].endswith(f"delete them: {stray}"), "and not the checkpoints below it"


def test_a_users_file_that_was_edited_is_told_and_is_no_damage(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = [Path("rationales.jsonl"), suite.results / "published.csv"]
    outside = tmp_path.parent / f"{tmp_path.name}.jsonl"
    for file in (*own, outside):
        write_text(file, "as read")
    output = suite.results / TRAIN
    Recorder("tasks", {}, [*own, outside]).write(output, {})
    assert not verify.verify(suite).edited
    for file in (*own, outside):
        write_text(file, "edited")
    report = verify.verify(suite)
    assert (report.damaged, set(report.edited)) == ({}, set(own)), "what lies elsewhere is not read"
    assert any("was edited since" in line for line in lines(suite, capsys))
    for file in own:
        file.unlink()
    assert not verify.verify(suite).edited, "a file that is gone says nothing"


def tampered(suite: Suite, other: Suite, data: st.DataObject) -> set[str]:
    """Do one thing to results; gives the outputs of which one has to be named for it."""
    what = data.draw(st.sampled_from(["swap", "remove", "add", "flip", "manifest", "exchange"]))
    if what == "swap":
        kind = data.draw(st.sampled_from([FILES, FOLDERS]))
        pair = data.draw(st.lists(st.sampled_from(kind), min_size=2, max_size=2, unique=True))
        swap(suite, *pair)
        return set(pair)
    if what == "remove":
        name = data.draw(st.sampled_from(READ))
        remove(suite, name)
        return {output for output, inputs in CHAIN.items() if name in inputs}
    if what == "add":
        name = data.draw(st.sampled_from(FOLDERS))
        write_text(suite.results / name / data.draw(st.sampled_from(["a.json", "b/c", "x y"])), "")
        return {name}
    if what == "exchange":
        name = data.draw(st.sampled_from(READ))
        put(other, name, suite, name)
        touch(suite, name, data.draw(st.booleans()))
        return {name, *(output for output, inputs in CHAIN.items() if name in inputs)}
    name = data.draw(st.sampled_from(list(CHAIN)))
    output = suite.results / name
    if what == "flip":
        file = output / "model.safetensors" if name in FOLDERS else output
        content = bytearray(file.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(content)
        return {name}
    source, taken = data.draw(
        st.sampled_from([(s, n) for s in (suite, other) for n in CHAIN if s is other or n != name])
    )
    shutil.copy(manifest_of(source.results / taken), manifest_of(output))
    return {name}


@given(data=st.data())
@settings(max_examples=60)
def test_whatever_is_done_to_sound_results_is_named(whole: Suite, other: Suite, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        suite = copied(whole, Path(folder))
        expected = tampered(suite, other, data)
        report = verify.verify(suite)
        assert expected & {*report.damaged, *report.waiting}
