"""Manifests of a stranger's results: they decide neither what is opened nor how long it takes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.test_provenance import made, told
from vista import verify
from vista.config import Suite, load_suite
from vista.damage import sha256
from vista.errors import VistaError
from vista.manifest import LARGEST, Recorder, check_inputs, read_manifest
from vista.paths import Paths, manifest_of
from vista.records import write_json, write_text
from vista.versions import version_note

__all__ = ["made"]  # a fixture

PATIENCE = 60  # seconds; all of it takes milliseconds, or for ever
RUN = "nano-smoke/grids/star/seed0/round1"


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """End a test that waits for a pipe or a device."""

    def give_up(*_: object) -> None:
        raise AssertionError("it waits for what never comes")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def suite(root: Path, tmp_path: Path) -> Suite:
    """A base checkpoint, a trained one, and predictions."""
    suite = load_suite(root / "config/smoke.yaml", root=root).model_copy(update={"results": tmp_path / "r"})
    paths = Paths(suite.results)
    write_text(paths.suite, suite.model_dump_json())
    outputs = {"models": paths.base("nano-smoke"), "training": paths.trained(RUN)}
    for stage, folder in outputs.items():
        write_text(folder / "weights", stage)
        Recorder(stage, {}, []).write(folder, {})
    predictions = paths.predictions(RUN)
    write_text(predictions, "predictions")
    Recorder("evaluation", {}, list(outputs.values())).write(predictions, {})
    return suite


def outputs(suite: Suite) -> dict[str, Path]:
    paths = Paths(suite.results)
    found = {"models": paths.base("nano-smoke"), "training": paths.trained(RUN)}
    return found | {"evaluation": paths.predictions(RUN)}


def change(output: Path, **fields: Any) -> None:
    write_json(manifest_of(output), read_manifest(output).model_dump() | fields)


def assert_refused(suite: Suite, output: Path, match: str) -> None:
    """By ``vista verify``, and by a job that reads it."""
    found = verify.verify(suite).damaged[str(output.relative_to(suite.results))]
    assert any(match in str(each) for each in found), found
    with pytest.raises(VistaError, match=match):
        check_inputs([output])


@pytest.mark.parametrize("stage", ["models", "training", "evaluation"])
@pytest.mark.parametrize("field", ["checksums", "sizes"])
@pytest.mark.parametrize("name", ["/dev/zero", "../../etc/passwd", "a/../../b", "/", "", ".", "..", "a\0b"])
def test_names_that_lead_out_of_the_output_make_it_no_manifest(
    suite: Suite, stage: str, field: str, name: str
) -> None:
    output = outputs(suite)[stage]
    change(output, **{field: {name: "0" * 64 if field == "checksums" else 0}})
    assert_refused(suite, output, "not a manifest")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def log_of_the_kernel(path: Path) -> None:
    path.symlink_to("/proc/kmsg")


ODD: list[Callable[[Path], None]] = [pipe, folder, device, circle, log_of_the_kernel]


@pytest.mark.parametrize("stage", ["models", "training", "evaluation"])
@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_regular_file_is_not_opened(suite: Suite, stage: str, odd: Callable[[Path], None]) -> None:
    output = outputs(suite)[stage]
    file = output if output.suffix else output / "weights"
    file.unlink()
    odd(file)
    change(output, sizes={})
    assert_refused(suite, output, file.name)


@pytest.mark.parametrize("stage", ["models", "training", "evaluation"])
@pytest.mark.parametrize("odd", [*ODD, lambda path: path.symlink_to("none")])
def test_a_manifest_that_is_no_regular_file_is_not_opened(
    suite: Suite, stage: str, odd: Callable[[Path], None]
) -> None:
    output = outputs(suite)[stage]
    manifest_of(output).unlink()
    odd(manifest_of(output))
    version_note(suite.results)
    if odd is folder and output.suffix:
        assert not verify.verify(suite).damaged, "no manifest at all"
    else:
        assert_refused(suite, output, "manifest")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"output": 1}',
        "[]",
        "null",
        "\\ud800",
        '{"a": ' + "9" * 5000 + "}",
        b"\xff\xfe".decode("latin-1"),
    ],
    ids=["deep", "types", "list", "null", "surrogate", "digits", "bytes"],
)
def test_a_manifest_that_says_something_else_is_named(suite: Suite, text: str) -> None:
    output = outputs(suite)["evaluation"]
    manifest_of(output).write_bytes(text.encode("latin-1"))
    version_note(suite.results)
    assert_refused(suite, output, "not a manifest")


def test_a_manifest_of_any_length_is_not_read(suite: Suite) -> None:
    output = outputs(suite)["evaluation"]
    os.truncate(manifest_of(output), LARGEST * 1000)  # on disk it takes nothing
    version_note(suite.results)
    assert_refused(suite, output, "bytes long")


def test_only_a_base_checkpoint_may_have_links_that_lead_out(suite: Suite, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    for output in outputs(suite).values():
        file = output if output.suffix else output / "weights"
        secret.write_bytes(file.read_bytes())
        file.unlink()
        file.symlink_to(secret)
        if output == outputs(suite)["models"]:
            assert check_inputs([output]) == {}
        else:
            assert_refused(suite, output, "which is not read")


def test_a_stage_on_another_disk_may_be_linked(suite: Suite, tmp_path: Path) -> None:
    for stage in ("training", "evaluation"):
        (suite.results / stage).rename(tmp_path / stage)
        (suite.results / stage).symlink_to(tmp_path / stage)
    report = verify.verify(suite)
    assert (report.damaged, report.outputs) == ({}, 3)


@pytest.mark.parametrize("to", ["..", ".", "../../training"])
def test_folders_that_links_lead_to_twice_are_refused(suite: Suite, to: str) -> None:
    for name in ("first", "second"):
        (suite.results / "evaluation/nano-smoke" / name).symlink_to(to)
    with pytest.raises(VistaError, match="hold already; delete it"):
        verify.verify(suite)


def test_inputs_that_a_manifest_names_elsewhere_are_not_opened(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipe(tmp_path / "pipe")
    pipe(suite.results / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    names = [
        "/dev/zero",
        "/etc/passwd",
        "../../etc/passwd",
        "pipe",
        "link",
        str(suite.results / "pipe"),
        "a\0b",
    ]
    names += [f"{suite.results}/evaluation/../../../../dev/zero", f"{suite.results}/..", ".", ""]
    output = outputs(suite)["training"]
    change(output, inputs=dict.fromkeys(names, "0" * 64))
    report = verify.verify(suite)
    assert (report.damaged, report.edited) == ({}, {})


def test_vista_show_opens_nothing_outside_the_results(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipe(tmp_path / "pipe")
    write_text(tmp_path / "x.parquet.manifest.json", manifest_of(made.paths.long).read_text())
    write_text(tmp_path / "x.parquet", "")
    predictions = made.paths.predictions("nano-b/both/dpo/seed0/round1")
    before = manifest_of(predictions).read_bytes()
    names = ["/dev/zero", "pipe", "/etc/passwd", str(tmp_path / "x.parquet"), "a\x1b[31mb", "a\0b"]
    names += [f"{made.paths.results}/../x.parquet"]
    change(predictions, inputs=dict.fromkeys(names, "0" * 64))
    try:
        text = told(made.paths.table("main", "csv"), "model=nano-b,method=dpo,round=1", "overall")
    finally:
        manifest_of(predictions).write_bytes(before)
    assert all(name in text for name in names[:4])
    assert "\x1b" not in text
    assert "\\x1b[31m" in text
    marked = [line for line in text.splitlines() if "changed since" in line]
    assert [str(tmp_path / "x.parquet") in line for line in marked] == [True], "in the working directory"
    assert text.count("commit ") == 3, "and even that is not followed"


def test_control_characters_of_names_do_not_reach_the_terminal(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(outputs(suite)["training"] / "a\x1b[31mb", "")
    os.close(os.open(os.fsencode(outputs(suite)["training"]) + b"/\xff", os.O_CREAT))
    verify.tell(verify.verify(suite), suite, Path("c.yaml"), Console(width=9000, color_system=None))
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "a\\x1b[31mb" in said


def test_a_pipe_among_the_files_of_a_checkpoint_is_an_added_file(suite: Suite) -> None:
    output = outputs(suite)["training"]
    pipe(output / "model.safetensors")
    (output / "templates").symlink_to("/etc")
    found = verify.verify(suite).damaged[f"training/{RUN}"]
    assert {each.file.name for each in found if each.is_added} == {"model.safetensors", "templates"}


def test_the_fingerprint_of_nothing_is_that_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
