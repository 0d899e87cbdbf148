"""The key of a teacher's endpoint is in the environment and in requests, and nowhere else."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.conftest import suite
from tests.tasks.test_teacher import KEY, VARIABLE, FakeEndpoint, endpoint, settings
from vista.config import Suite, TeacherRationales
from vista.errors import VistaError
from vista.paths import Paths
from vista.tasks.generate import generate_split

__all__ = ["endpoint", "suite"]  # fixtures

RIGHT = (200, "answer: yes", "stop")


def holding(folder: Path, key: str) -> list[str]:
    """Files below a folder that hold the key."""
    return [str(file) for file in folder.rglob("*") if file.is_file() and key.encode() in file.read_bytes()]


@pytest.mark.parametrize(
    "reply", [RIGHT, (401, f"wrong key {KEY}", ""), (400, KEY, ""), (200, "?", "length")], ids=str
)
def test_the_key_stands_in_no_file_message_or_log(
    endpoint: FakeEndpoint, suite: Suite, tmp_path: Path, capfd: Any, reply: tuple[int, str, str]
) -> None:
    endpoint.script = lambda text, before: reply
    seed = {"seed_rationales": settings(endpoint, tmp_path, attempts=1, parallel=1)}
    with_teacher, paths = suite.model_copy(update=seed), Paths(tmp_path / "results")
    paths.results.mkdir()
    paths.suite.write_text(with_teacher.model_dump_json())
    refused = pytest.raises(VistaError) if reply[0] != 200 else nullcontext()
    with refused as caught:
        generate_split(with_teacher, paths, "grid-closed", "seed")
    assert caught is None or KEY not in str(caught.value)
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    assert holding(tmp_path, KEY) == []
    printed = capfd.readouterr()
    assert KEY not in printed.out + printed.err


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\r\nx: y"])
def test_a_key_that_cannot_be_sent_is_not_shown(
    endpoint: FakeEndpoint,
    suite: Suite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    monkeypatch.setenv(VARIABLE, key)
    monkeypatch.setattr("vista.tasks.teacher.SENDS", 1)
    seed = {"seed_rationales": settings(endpoint, tmp_path, attempts=1, parallel=1)}
    with pytest.raises(VistaError) as caught:
        generate_split(suite.model_copy(update=seed), Paths(tmp_path / "results"), "grid-closed", "seed")
    assert KEY not in str(caught.value)
    assert holding(tmp_path, KEY) == []


@pytest.mark.parametrize(
    "address", ["http://user:secret@host/v1", "https://secret@host", "http://a:b@c:1/v1?x"]
)
def test_the_address_of_an_endpoint_holds_no_password(address: str) -> None:
    values = {"kind": "teacher", "model": "m", "cache": "c", "max_requests": 1}
    with pytest.raises(ValueError, match="must not contain a user name or password"):
        TeacherRationales.model_validate_json(json.dumps({**values, "endpoint": address}))
    TeacherRationales.model_validate({**values, "endpoint": "https://host/v1/@team"})
