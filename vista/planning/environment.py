"""Checks of what jobs run in: the driver, vLLM's environment, a compiler, and the profile for Slurm."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vista.config import Suite, load_yaml
from vista.planning.findings import Finding, fail, ok, warn

# The oldest driver that runs programs of each major version of CUDA (NVIDIA's CUDA compatibility guide).
DRIVERS = {11: 450, 12: 525, 13: 580}
SECONDS = 300.0  # that a command may take; vLLM's first import is slow on a network file system
PROFILE = Path("profiles/slurm/config.yaml")
PLACEHOLDER = "my-account"  # as the profile comes
PROBE = """
import json, sysconfig
from pathlib import Path
import torch, vllm, vista.engines.vllm
header = Path(sysconfig.get_paths()["include"], "Python.h")
print(json.dumps({"vllm": vllm.__version__, "torch": torch.__version__, "cuda": torch.version.cuda,
                  "header": str(header), "has_header": header.is_file()}))
"""


def check_driver(suite: Suite) -> list[Finding]:
    """The driver of this machine's GPUs against the CUDA that torch is built for."""
    if not suite.gpus:
        return []
    import torch

    return _driver("torch", torch.__version__, torch.version.cuda)


def _driver(what: str, version: str, cuda: str | None) -> list[Finding]:
    """Whether the driver runs programs of a version of CUDA; nothing on a machine without a driver."""
    driver = driver_version()
    if driver is None:
        return []
    subject = f"driver for {what}"
    if cuda is None:
        remedy = "install a build of torch for CUDA (make install)"
        return [fail(subject, f"{version} is built without CUDA", remedy)]
    needed = DRIVERS.get(int(cuda.split(".")[0]))
    said = f"{version} is built for CUDA {cuda}"
    if needed is None:
        remedy = "compare with NVIDIA's CUDA compatibility guide"
        return [warn(subject, f"{said}, driver {driver}: not known to fit", remedy)]
    if int(driver.split(".")[0]) < needed:
        remedy = f"use nodes with driver {needed} or newer, or ask for one"
        return [fail(subject, f"{said}, which needs driver {needed}; this machine has {driver}", remedy)]
    return [ok(subject, f"{said}, driver {driver}")]


def driver_version() -> str | None:
    """The version of this machine's driver; nothing if it has none, or none that works."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    said = _run([command, "--query-gpu=driver_version", "--format=csv,noheader"])
    found = re.match(r"\s*(\d+(\.\d+)*)\s*$", said.stdout.partition("\n")[0])
    return found[1] if said.returncode == 0 and found else None


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; one that cannot be run has failed."""
    try:
        return subprocess.run(  # noqa: S603 - named by the user's own config
            command, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def check_commands(suite: Suite) -> list[Finding]:
    """The vLLM environment and accelerate's config files."""
    found = check_vllm(suite.engine.command) if suite.engine.kind == "vllm" else []
    configs = {model.training.accelerate: name for name, model in suite.models.items()}
    for path, name in configs.items():
        if path is not None and not path.is_file():
            remedy = f"correct training.accelerate of {name} in models.yaml"
            found.append(fail("accelerate", f"{path}: no such file", remedy))
    return found or [ok("commands", "no other environment is needed")]


def check_vllm(command: str) -> list[Finding]:
    """Whether vLLM's environment runs, and what it needs besides: a driver and a compiler."""
    remedy = "create its environment (docs/paper.md), or correct engine.command"
    where = shutil.which(command)
    if where is None:
        return [fail("vLLM", f"{command}: no such command", remedy)]
    said = _run([where, "--version"])
    if said.returncode:
        return [fail("vLLM", f"{command} --version fails: {_last(said)}", remedy)]
    python = Path(where).parent / "python"
    if not python.is_file():  # a wrapper, such as one that runs a container
        version = re.search(r"(?m)^vllm (\S+)$", said.stdout)
        if version is None:
            return [fail("vLLM", f"{command} --version names no vllm: it is not installed there", remedy)]
        return [ok("vLLM", f"{command} runs; vllm {version[1]} (not imported: no python beside it)")]
    imported = _run([str(python), "-c", PROBE])
    if imported.returncode:
        return [fail("vLLM", f"{python} cannot import it: {_last(imported)}", remedy)]
    about: dict[str, Any] = json.loads(imported.stdout.strip().splitlines()[-1])
    return [
        ok("vLLM", f"{command} runs; vllm {about['vllm']}, torch {about['torch']}"),
        *_driver("vLLM", f"torch {about['torch']}", about["cuda"]),
        _compiler(about),
    ]


def _last(said: subprocess.CompletedProcess[str]) -> str:
    """The last line that a command printed."""
    lines = (said.stderr or said.stdout).strip().splitlines()
    return lines[-1] if lines else f"status {said.returncode}"


def _compiler(about: dict[str, Any]) -> Finding:
    """Whether Triton can compile what it calls kernels with, which it does where the job runs."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    lacks = [] if compiler and shutil.which(compiler) else [f"a C compiler ({compiler or 'gcc'})"]
    if not about["has_header"]:
        lacks.append(f"Python's headers ({about['header']})")
    if not lacks:
        return ok("compiler for Triton", f"{compiler}, {about['header']}")
    remedy = (
        "load a module with gcc; make the environment with a Python that has its headers (python3.11-dev)"
    )
    told = fail if driver_version() else warn  # compute nodes may have what a login node has not
    return told("compiler for Triton", f"vLLM's kernels need {' and '.join(lacks)} on compute nodes", remedy)


def check_slurm(profile: Path = PROFILE) -> list[Finding]:
    """Whether the profile's account and partition are this cluster's, where there is Slurm.

    Warnings, as a suite may run without the profile.
    """
    sinfo = shutil.which("sinfo")
    if sinfo is None or not profile.is_file():
        return []
    asked = load_yaml(profile).get("default-resources") or {}
    found = []
    if asked.get("slurm_account") == PLACEHOLDER:
        remedy = (
            f'write your account into {profile}, or slurm_account: "" if the cluster uses none '
            "(docs/cluster.md)"
        )
        found.append(warn("Slurm", f"{profile}: slurm_account is {PLACEHOLDER}, as it comes", remedy))
    partition, listed = str(asked.get("slurm_partition") or ""), _run([sinfo, "--noheader", "--format=%R"])
    names = listed.stdout.split()
    if listed.returncode:
        found.append(warn("Slurm", f"sinfo fails: {_last(listed)}", "look whether Slurm is up"))
    elif partition and partition not in names:
        remedy = f"write one of {', '.join(names)} into {profile}"
        found.append(warn("Slurm", f"{profile}: no partition {partition} on this cluster", remedy))
    return found or [ok("Slurm", f"account and partition of {profile} are filled in")]
