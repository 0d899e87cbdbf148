"""What the disk refused, in words, whichever library passed it on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors import SafetensorError

from vista.errors import CACHES, VistaError, refusal, told, writing


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "raise the quota"),
        (errno.EROFS, "mount it writable"),
        (errno.EACCES, "permissions"),
    ],
)
def test_a_refusal_names_the_file_the_reason_and_the_remedy(tmp_path: Path, number: int, remedy: str) -> None:
    file = tmp_path / "x.parquet"
    with pytest.raises(VistaError) as found, writing(file):
        raise OSError(number, os.strerror(number))
    assert str(found.value).startswith(f"{file}: {os.strerror(number)}")
    assert remedy in str(found.value)
    assert (" MB free on the disk at " in str(found.value)) == (number in (errno.ENOSPC, errno.EDQUOT))


@pytest.mark.parametrize(
    "error",
    [
        pa.ArrowInvalid("Error writing bytes to file. Detail: [errno 28] No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
    ],
)
def test_libraries_that_pass_on_words_are_understood(error: Exception) -> None:
    assert "No space left on device" in str(refusal(error))


def test_a_refusal_behind_another_error_is_found(tmp_path: Path) -> None:
    file = tmp_path / "cache.arrow"
    error = ValueError("generating the dataset failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", str(file))
    assert str(refusal(error)).startswith(f"{file}: No space left on device")


def test_a_file_elsewhere_is_not_mistaken_for_the_one_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(VistaError, match=r"^/elsewhere/read: Permission denied"), writing(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/read")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        RuntimeError("shapes do not match"),
        VistaError("x: row 3: no answer"),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert refusal(error) is None
    with pytest.raises(type(error), match=str(error).replace("[", r"\[")), writing(Path("y")):
        raise error


def test_an_error_of_the_code_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), told():
        raise KeyError("a bug")


def test_a_command_ends_with_status_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, told():
        raise OSError(errno.EROFS, "Read-only file system", "/mnt/x")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: /mnt/x: Read-only file system; mount it writable")


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_that_cannot_be_written_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    for other in CACHES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "/proc/nowhere")
    with pytest.raises(OSError, match="nowhere") as caught:
        os.makedirs("/proc/nowhere/deep")
    caught.value.filename = "/proc/nowhere/deep"
    said = str(refusal(caught.value))
    assert said.startswith("/proc/nowhere/deep: ")
    assert f"variable {name} names this folder: set it" in said
    monkeypatch.setenv(name, str(tmp_path))
    assert refusal(FileNotFoundError(2, "No such file", str(tmp_path / "x"))) is None


@pytest.mark.parametrize("path", ["x" * 300, "file/below"])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(VistaError, match=r"choose a folder with a shorter name|choose another folder"),
        writing(tmp_path / path),
    ):
        (tmp_path / path).mkdir()
