"""Checks of what jobs run in: GPUs, driver, vLLM's environment, a compiler, and the profile for Slurm."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vista.config import OnlineMethod, Suite, load_yaml
from vista.planning.assumptions import Assumptions
from vista.planning.estimate import parameters, stored_bytes
from vista.planning.findings import Finding, fail, ok, warn

# The oldest driver that runs programs of each major version of CUDA (NVIDIA's CUDA compatibility guide).
DRIVERS = {11: 450, 12: 525, 13: 580}
SECONDS = 300.0  # that a command may take; vLLM's first import is slow on a network file system
PROFILE = Path("profiles/slurm/config.yaml")
PLACEHOLDER = "my-account"  # as the profile comes
GIGABYTE = 1e9
WHOLE_BYTES = 4.0  # a parameter of a further copy of the weights
PROBE = """
import json, sysconfig
from pathlib import Path
import torch, vllm, vista.engines.vllm
header = Path(sysconfig.get_paths()["include"], "Python.h")
print(json.dumps({"vllm": vllm.__version__, "torch": torch.__version__, "cuda": torch.version.cuda,
                  "header": str(header), "has_header": header.is_file()}))
"""


def check_gpus(suite: Suite, assumptions: Assumptions) -> list[Finding]:
    """GPUs of this machine against what the jobs ask for, and their memory against training's needs."""
    if not suite.gpus:
        return [ok("GPUs", "the suite needs none")]
    asked = max((suite.gpus * model.training.processes for model in suite.models.values()), default=0)
    if not asked:
        return [ok("GPUs", "no model of the suite runs here")]
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count and (driver := driver_version()):
        remedy = "see the driver's finding, `nvidia-smi` and CUDA_VISIBLE_DEVICES"
        return [fail("GPUs", f"this machine has some (driver {driver}), but torch sees none", remedy)]
    if not count:
        remedy = "fine on a login node; otherwise run the doctor where the jobs run"
        return [warn("GPUs", f"none on this machine; a job needs up to {asked}", remedy)]
    found = []
    if count < asked:
        remedy = "fine if the jobs run on larger nodes; otherwise lower training.processes in models.yaml"
        found.append(warn("GPUs", f"{count} on this machine; a job needs up to {asked}", remedy))
    memory = min(torch.cuda.get_device_properties(index).total_memory for index in range(count))
    for model in suite.models:
        found += _memory_problems(suite, model, memory, assumptions)
    return found or [ok("GPUs", f"{count}, at least {memory / GIGABYTE:.0f} GB each")]


def _memory_problems(suite: Suite, model: str, memory: float, assumptions: Assumptions) -> list[Finding]:
    """What of a training does not fit on a GPU of so many bytes, vLLM included where it samples beside it."""
    need, beside, shared = training_memory(suite, model, assumptions), 0.0, ""
    if suite.engine.kind == "vllm" and _online_methods(suite, model):
        beside = suite.engine.colocated_memory * memory
        shared = f", of which vLLM takes {beside / GIGABYTE:.0f} (engine.colocated_memory)"
    found = []
    if need > memory - beside:
        found.append(
            fail(
                f"GPU memory for {model}",
                f"training needs about {need / GIGABYTE:.0f} GB per GPU before activations; "
                f"the smallest GPU here has {memory / GIGABYTE:.0f} GB{shared}",
                "shard it over more processes (training.accelerate, training.processes), or use LoRA"
                + (", or lower engine.colocated_memory" if beside else ""),
            )
        )
    weights = parameters(suite, model, assumptions) * stored_bytes(suite.models[model], assumptions)
    if beside and weights > beside:
        found.append(
            fail(
                f"GPU memory for {model}",
                f"its weights take {weights / GIGABYTE:.0f} GB; the smallest GPU here has "
                f"{memory / GIGABYTE:.0f} GB{shared}",
                "raise engine.colocated_memory, or take larger GPUs",
            )
        )
    return found


CGROUPS = Path("/sys/fs/cgroup")


def check_memory(suite: Suite) -> list[Finding]:
    """Main memory of this machine against what a job may take, which jobs keep to."""
    asked = [
        (getattr(model.resources, stage).memory_gb, name, stage)
        for name, model in suite.models.items()
        for stage in type(model.resources).model_fields
    ]
    if not asked:
        return [ok("memory", "no model of the suite runs here")]
    (most, name, stage), here = max(asked), main_memory() / GIGABYTE
    if most <= here:
        return [ok("memory", f"{here:.0f} GB; a job takes at most {most:g}")]
    remedy = (
        "fine if the jobs run on larger nodes; otherwise lower that number, which jobs keep to, in "
        "models.yaml, or take a smaller model"
    )
    return [
        warn(
            "memory",
            f"{here:.0f} GB on this machine; resources.{stage}.memory_gb of {name} is {most:g}",
            remedy,
        )
    ]


def main_memory() -> float:
    """Bytes of main memory that this process can have: the machine's, or less where a cgroup says so."""
    found = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for file in (CGROUPS / "memory.max", CGROUPS / "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # not there, or "max"
            found.append(float(file.read_text()))
    return min(found)


def training_memory(suite: Suite, model: str, assumptions: Assumptions) -> float:
    """Bytes of weights, gradients and optimiser state on each GPU; sharded where accelerate shards them.

    Where a method samples as it trains all weights, each GPU has whole copies as well: of the first weights
    if it is held to them (``beta``), and of the current ones, to sample with transformers, where these are
    spread.
    """
    training = suite.models[model].training
    lora = training.tuning.kind == "lora"
    stored = stored_bytes(suite.models[model], assumptions)
    each = stored if lora else assumptions.training_bytes_per_parameter
    config = {} if training.accelerate is None else load_yaml(training.accelerate)
    kind, zero = config.get("distributed_type"), config.get("deepspeed_config") or {}
    if kind == "DEEPSPEED":  # keeps weights in 2 bytes as well, on the GPU or in the node's memory
        optimizer, weights = (
            zero.get(f"offload_{what}_device", "none") == "none" for what in ("optimizer", "param")
        )
        each = each * optimizer + 2.0 * weights
    spread = training.processes if kind in ("FSDP", "DEEPSPEED") else 1
    online = _online_methods(suite, model)
    whole = 0.0
    if online and not lora:
        whole += WHOLE_BYTES * any(method.objective.beta > 0 for method in online)
        whole += WHOLE_BYTES * (kind == "FSDP" and suite.engine.kind == "hf")
    return parameters(suite, model, assumptions) * (each / spread + whole)


def _online_methods(suite: Suite, model: str) -> list[OnlineMethod]:
    """The methods that sample from a model as they train it."""
    return [
        method
        for name, method in suite.methods.items()
        if isinstance(method, OnlineMethod) and model in suite.where(name)[0]
    ]


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
