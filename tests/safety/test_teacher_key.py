"""The key of a teacher's endpoint is in the environment and in requests, and nowhere else."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tasks.conftest import suite
from tests.tasks.test_teacher import KEY, VARIABLE, FakeEndpoint, endpoint, settings
from vista.config import Suite, TeacherRationales, load_suite
from vista.errors import VistaError
from vista.paths import Paths
from vista.shown import holds_secret
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
    monkeypatch.setattr("vista.engines.endpoint.SENDS", 1)
    seed = {"seed_rationales": settings(endpoint, tmp_path, attempts=1, parallel=1)}
    with pytest.raises(VistaError) as caught:
        generate_split(suite.model_copy(update=seed), Paths(tmp_path / "results"), "grid-closed", "seed")
    assert KEY not in str(caught.value)
    assert holding(tmp_path, KEY) == []


SECRET = "sk-5cR3t"  # noqa: S105
ADDRESSES = [
    f"http://user:{SECRET}@host/v1",
    f"https://{SECRET}@host/v1",
    f"https://host/v1?api-key={SECRET}",
    f"https://host/v1?version=2&access_token={SECRET}&x=1",
    f"https://host/v1#sig={SECRET}",
    f"https://host/v1?X-Amz-Signature={SECRET}",
    f"https://host/v1?AUTHORIZATION={SECRET}",
]
TEACHER = {"kind": "teacher", "model": "m", "cache": "c", "max_requests": 1}
# Where a suite or models.yaml may have an address, with the key that the error names.
PLACES = {
    "seed_rationales.endpoint": lambda url: {"seed_rationales": {**TEACHER, "endpoint": url}},
    "seed_rationales.model": lambda url: {
        "seed_rationales": {**TEACHER, "endpoint": "http://h", "model": url}
    },
    "seed_rationales.files.grid": lambda url: {
        "seed_rationales": {"kind": "annotated", "files": {"grid": url}}
    },
    "results": lambda url: {"results": url},
    "reported": lambda url: {"reported": url},
    "engine.command": lambda url: {"engine": {"kind": "vllm", "command": url}},
    "wording.hint": lambda url: {"wording": {"hint": f"see {url}"}},
    "tasks.slake.source.path": lambda url: {
        "tasks": {"slake": {"kind": "slake", "source": {"kind": "path", "path": url}}}
    },
    "methods.1": lambda url: {"methods": ["star", url]},
}


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("key", PLACES)
def test_a_secret_in_an_address_of_the_config_is_refused_and_shown_nowhere(
    root: Path, tmp_path: Path, key: str, address: str
) -> None:
    written = yaml.safe_load((root / "config/smoke.yaml").read_text())
    written |= PLACES[key](address)
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(written))
    for value in (None, written):  # as the commands read it, and as Snakemake does
        with pytest.raises(VistaError) as caught:
            load_suite(file, value=value, root=root)
        said = str(caught.value)
        assert SECRET not in said
        assert f"suite.yaml: {key}: the address must not contain a user name or password" in said
        assert "api_key_variable" in said
    assert not (root / "results" / address).exists()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("file", ["models", "methods"])
def test_nor_may_the_other_files_of_the_config_hold_one(
    root: Path, tmp_path: Path, file: str, address: str
) -> None:
    written = yaml.safe_load((root / "config/smoke.yaml").read_text())
    entries = yaml.safe_load((root / f"{'' if file == 'models' else 'config/'}{file}.yaml").read_text())
    entries["nano-smoke" if file == "models" else "star"]["corpus"] = address
    (tmp_path / "entries.yaml").write_text(yaml.safe_dump(entries))
    written[f"{file}_file"] = str(tmp_path / "entries.yaml")
    with pytest.raises(VistaError, match=r"\.corpus: the address must not contain") as caught:
        load_suite(tmp_path / "suite.yaml", value=written, root=root)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("query", ["?api-version=2024-10-21", "#here"])
def test_the_address_of_an_endpoint_ends_with_its_path(query: str) -> None:
    with pytest.raises(ValueError, match=r"must not contain \? or #"):
        TeacherRationales.model_validate({**TEACHER, "endpoint": f"https://host/v1{query}"})


HARMLESS = [
    "https://x/?q=1&author=me&keywords=a&design=2",
    "https://x/#tokenizer=3",
    "http://localhost:8000/v1",
    "https://host/v1/@team",
    "https://hf.co/a/b@main",
    "a@b:c",
    "x?key=y",
]


@pytest.mark.parametrize("harmless", HARMLESS)
def test_other_texts_are_no_secrets(harmless: str) -> None:
    assert not holds_secret(harmless)


def test_no_error_repeats_a_password_of_an_address() -> None:
    said = str(
        VistaError(f"cannot reach http://user:{SECRET}@proxy:3128 (http://host/v1?token={SECRET}&x=1)")
    )
    assert said == "cannot reach http://…@proxy:3128 (http://host/v1?token=…&x=1)"
