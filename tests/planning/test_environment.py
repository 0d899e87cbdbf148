"""What the doctor finds of the driver, vLLM's environment, a compiler, and the profile for Slurm."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.planning.conftest import make_suite
from vista.planning import environment
from vista.planning.environment import (
    DRIVERS,
    PLACEHOLDER,
    check_commands,
    check_driver,
    check_gpus,
    check_memory,
    check_slurm,
    check_vllm,
    driver_version,
    main_memory,
)
from vista.planning.estimate import Assumptions
from vista.planning.findings import Finding, has_failed

Write = Callable[[str, str], Path]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write commands, the only ones on PATH besides the system's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("CC", raising=False)

    def write(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return write


def told(findings: list[Finding]) -> dict[str, str]:
    return {finding.subject: finding.verdict for finding in findings}


# --- main memory ---


@pytest.mark.parametrize(("gigabytes", "verdict"), [(64, "ok"), (7, "warn")])
def test_a_machine_with_less_memory_than_a_job_may_take_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gigabytes: int, verdict: str
) -> None:
    monkeypatch.setattr(environment, "main_memory", lambda: gigabytes * 1e9)
    suite = make_suite(tmp_path)
    (name, *_) = suite.models
    entry = suite.models[name]
    asks = entry.resources.model_copy(
        update={"training": entry.resources.training.model_copy(update={"memory_gb": 48.5})}
    )
    grown = suite.model_copy(
        update={"models": {**suite.models, name: entry.model_copy(update={"resources": asks})}}
    )
    (finding,) = check_memory(grown)
    assert (finding.subject, finding.verdict) == ("memory", verdict)
    assert f"{gigabytes} GB" in finding.message
    if verdict == "warn":
        assert f"resources.training.memory_gb of {name} is 48.5" in finding.message


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, None),
        ({"memory.max": "max\n"}, None),
        ({"memory.max": "2000000000\n"}, 2e9),
        ({"memory/memory.limit_in_bytes": "3000000000\n"}, 3e9),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_a_container_has_no_more_memory_than_its_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], found: float | None
) -> None:
    monkeypatch.setattr(environment, "CGROUPS", tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert main_memory() == min(machine, machine if found is None else found)


# --- the driver ---


@pytest.mark.parametrize(
    ("cuda", "driver", "verdict"),
    [
        ("13.0", "580.65.06", "ok"),
        ("13.0", "590.1", "ok"),
        ("13.0", "575.57.08", "fail"),
        ("12.8", "550.54.14", "ok"),
        ("12.8", "470.82.01", "fail"),
        ("99.0", "999.1", "warn"),
        (None, "580.65.06", "fail"),
    ],
)
def test_a_driver_that_is_too_old_for_torchs_cuda_fails(
    cuda: str | None,
    driver: str,
    verdict: str,
    tmp_path: Path,
    command: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command("nvidia-smi", f"echo {driver}; echo {driver}")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    (found,) = check_driver(make_suite(tmp_path))
    assert found.verdict == verdict
    if verdict == "fail" and cuda:
        needed = DRIVERS[int(cuda.split(".")[0])]
        assert f"needs driver {needed}; this machine has {driver}" in found.message


@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA-SMI has failed because …'", "echo oops; exit 1"])
def test_a_machine_without_a_driver_says_nothing_of_it(script: str, tmp_path: Path, command: Write) -> None:
    assert check_driver(make_suite(tmp_path)) == []
    command("nvidia-smi", script)
    assert driver_version() is None
    assert check_driver(make_suite(tmp_path)) == []


def test_a_suite_without_gpus_needs_no_driver(tmp_path: Path, command: Write) -> None:
    command("nvidia-smi", "echo 1.0")
    assert check_driver(make_suite(tmp_path, gpus=0)) == []


def test_gpus_that_torch_does_not_see_are_no_login_node(
    tmp_path: Path, command: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert told(check_gpus(make_suite(tmp_path), Assumptions())) == {"GPUs": "warn"}
    command("nvidia-smi", "echo 535.104.05")
    (found,) = check_gpus(make_suite(tmp_path), Assumptions())
    assert (found.verdict, "driver 535.104.05" in found.message) == ("fail", True)


# --- vLLM's environment ---

ABOUT = {"vllm": "0.32.0", "torch": "2.13.0+cu130", "cuda": "13.0", "header": "/x/Python.h"}


def vllm(command: Write, **about: Any) -> str:
    """An environment whose Python says what a test wants of what it imports."""
    said = json.dumps(ABOUT | {"has_header": True} | about)
    command("python", f"echo 'a warning of some library'\necho '{said}'")
    return str(command("vista", 'test "$1" = --version && echo "vllm 0.32.0"'))


def test_an_environment_that_runs_and_has_a_compiler_is_well(command: Write) -> None:
    found = check_vllm(vllm(command))
    assert told(found) == {"vLLM": "ok", "compiler for Triton": "ok"}
    assert "vllm 0.32.0, torch 2.13.0+cu130" in found[0].message


def test_the_driver_is_held_against_vllms_own_torch(command: Write) -> None:
    command("nvidia-smi", "echo 570.1")
    found = {finding.subject: finding for finding in check_vllm(vllm(command))}
    assert found["driver for vLLM"].verdict == "fail"
    assert "torch 2.13.0+cu130 is built for CUDA 13.0, which needs driver 580" in (
        found["driver for vLLM"].message
    )


@pytest.mark.parametrize(("driver", "verdict"), [(False, "warn"), (True, "fail")])
def test_a_lack_of_compiler_and_headers_is_told_before_triton_misses_them(
    driver: bool, verdict: str, command: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = vllm(command, has_header=False)
    monkeypatch.setenv("CC", "no-such-compiler")
    if driver:
        command("nvidia-smi", "echo 580.1")
    found = next(each for each in check_vllm(named) if each.subject == "compiler for Triton")
    assert found.verdict == verdict
    assert "a C compiler (no-such-compiler) and Python's headers (/x/Python.h)" in found.message


@pytest.mark.parametrize(
    ("vista", "python", "said"),
    [
        ("echo Traceback >&2; echo 'ImportError: no vista' >&2; exit 1", "true", "ImportError: no vista"),
        ("true", "echo 'ImportError: libcudart.so.13' >&2; exit 1", "libcudart.so.13"),
        ("true", None, "names no vllm"),
    ],
)
def test_an_environment_that_does_not_run_fails_with_what_it_says(
    vista: str, python: str | None, said: str, command: Write
) -> None:
    named = str(command("vista", vista))
    if python:
        command("python", python)
    (found,) = check_vllm(named)
    assert (found.verdict, said in found.message) == ("fail", True), found


def test_a_wrapper_without_a_python_beside_it_is_asked_for_its_version(command: Write) -> None:
    (found,) = check_vllm(str(command("vista", "echo 'vllm 0.32.0'")))
    assert (found.verdict, "vllm 0.32.0" in found.message) == ("ok", True)


def test_a_file_that_is_no_program_fails(tmp_path: Path, command: Write) -> None:
    empty = tmp_path / "vista"
    empty.write_bytes(b"\x00\x01")
    empty.chmod(0o755)
    assert told(check_vllm(str(empty))) == {"vLLM": "fail"}


def test_missing_commands_and_config_files_fail(tmp_path: Path, command: Write) -> None:
    model = {"kind": "path", "path": "/m-1b", "training": {"accelerate": str(tmp_path / "fsdp.yaml")}}
    engine = {"kind": "vllm", "command": str(tmp_path / "bin/vista")}
    suite = make_suite(tmp_path, models={"m-1b": model}, engine=engine)
    assert [finding.verdict for finding in check_commands(suite)] == ["fail", "fail"]
    vllm(command)
    (tmp_path / "fsdp.yaml").write_text("")
    assert not has_failed(check_commands(suite))


# --- the profile for Slurm ---


def profile(root: Path, tmp_path: Path, **asked: str) -> Path:
    """The profile as it comes, with some values filled in."""
    value = yaml.safe_load((root / "profiles/slurm/config.yaml").read_text())
    value["default-resources"] |= asked
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def test_the_profile_as_it_comes_is_no_cluster_of_anybody(root: Path, tmp_path: Path, command: Write) -> None:
    if shutil.which("sinfo") is None:
        assert check_slurm(root / "profiles/slurm/config.yaml") == []
    command("sinfo", "echo debug; echo long")
    account, partition = check_slurm(root / "profiles/slurm/config.yaml")
    assert account.verdict == partition.verdict == "warn"
    assert f"slurm_account is {PLACEHOLDER}" in account.message
    assert "no partition gpu" in partition.message
    assert "debug, long" in partition.remedy


@pytest.mark.parametrize("account", ["ours", ""])
def test_a_profile_that_is_filled_in_is_well(
    root: Path, tmp_path: Path, command: Write, account: str
) -> None:
    command("sinfo", "echo debug; echo long")
    filled = profile(root, tmp_path, slurm_account=account, slurm_partition="long")
    assert told(check_slurm(filled)) == {"Slurm": "ok"}
    command("sinfo", "echo 'slurm_load_partitions: Unable to contact' >&2; exit 1")
    (found,) = check_slurm(filled)
    assert (found.verdict, "Unable to contact" in found.message) == ("warn", True)
