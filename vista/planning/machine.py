"""The doctor's look at what a suite runs on: GPUs, disk, versions, commands, folders, the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from vista.config import Suite
from vista.planning.assumptions import Assumptions
from vista.planning.findings import Finding, fail, ok, warn
from vista.planning.plan import make_plan
from vista.planning.sizes import parameters

CHECKED = (
    *("torch", "torchvision", "transformers", "trl", "accelerate", "peft", "datasets", "lmms-eval"),
    *("numpy", "pandas", "snakemake", "snakemake-executor-plugin-slurm"),
)
GIGABYTE = 1e9


def check_gpus(suite: Suite, assumptions: Assumptions) -> list[Finding]:
    """GPUs of this machine against what the jobs ask for, and their memory against training's needs."""
    if not suite.gpus:
        return [ok("GPUs", "the suite asks for none")]
    asked = max(suite.gpus * model.training.processes for model in suite.models.values())
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        remedy = "as it should be on a login node; else run the doctor where the jobs run"
        return [warn("GPUs", f"none on this machine; jobs ask for up to {asked}", remedy)]
    found = []
    if count < asked:
        remedy = "right if the jobs go to larger nodes; else lower training.processes in models.yaml"
        found.append(warn("GPUs", f"{count} on this machine; jobs ask for up to {asked}", remedy))
    memory = min(torch.cuda.get_device_properties(index).total_memory for index in range(count))
    for model in suite.models:
        need = training_memory(suite, model, assumptions)
        if need > memory:
            found.append(
                fail(
                    f"GPU memory for {model}",
                    f"training takes some {need / GIGABYTE:.0f} GB a GPU before activations; "
                    f"the smallest here has {memory / GIGABYTE:.0f} GB",
                    "shard it over more processes (training.accelerate, training.processes), or use LoRA",
                )
            )
    return found or [ok("GPUs", f"{count}, at least {memory / GIGABYTE:.0f} GB each")]


def training_memory(suite: Suite, model: str, assumptions: Assumptions) -> float:
    """Bytes of weights, gradients and optimiser state on each GPU; sharded where accelerate is configured."""
    training = suite.models[model].training
    lora = training.tuning.kind == "lora"
    each = assumptions.bytes_per_parameter if lora else assumptions.training_bytes_per_parameter
    whole = parameters(suite, model, assumptions) * each
    return whole / training.processes if training.accelerate is not None else whole


def check_disk(suite: Suite, assumptions: Assumptions) -> list[Finding]:
    """Free disk against the plan's estimate."""
    plan = make_plan(suite, assumptions)
    need = plan.total(lambda work: work.disk_bytes) + plan.state_bytes
    folder = _existing(suite.results)
    free = shutil.disk_usage(folder).free
    message = f"{folder}: {free / GIGABYTE:,.0f} GB free; the plan takes some {need / GIGABYTE:,.0f} GB"
    if free < need:
        remedy = "let `results` be on a larger disk, or run fewer models or methods (`vista plan` says which)"
        return [fail("disk", message, remedy)]
    return [ok("disk", message)]


def check_versions(lock: Path) -> list[Finding]:
    """Installed packages against ``requirements.lock``."""
    if not lock.is_file():
        return [warn("versions", f"{lock}: no such file", "run the doctor in the checkout")]
    locked = dict(
        re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    )
    found = []
    for name in CHECKED:
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(fail("versions", f"{name} is not installed", "make install"))
            continue
        if name in locked and installed.split("+")[0] != locked[name]:
            message = f"{name} {installed} is installed, {locked[name]} is locked"
            found.append(warn("versions", message, "make install, or know why they differ"))
    return found or [ok("versions", f"{len(CHECKED)} packages as in {lock.name}")]


def check_commands(suite: Suite) -> list[Finding]:
    """The vLLM environment and accelerate's config files."""
    found = []
    if suite.engine.kind == "vllm":
        command = suite.engine.command
        if shutil.which(command):
            found.append(ok("vLLM", f"{command} is there"))
        else:
            remedy = "make its environment (docs/paper.md), or name another in engine.command"
            found.append(fail("vLLM", f"{command}: no such command", remedy))
    configs = {model.training.accelerate: name for name, model in suite.models.items()}
    for path, name in configs.items():
        if path is not None and not path.is_file():
            remedy = f"mend training.accelerate of {name} in models.yaml"
            found.append(fail("accelerate", f"{path}: no such file", remedy))
    return found or [ok("commands", "none but those of this environment are needed")]


def check_results(suite: Suite) -> list[Finding]:
    """A results folder that can be written, and the file of reported numbers."""
    folder = _existing(suite.results)
    found = [
        ok("results", f"{folder} can be written")
        if os.access(folder, os.W_OK | os.X_OK)
        else fail("results", f"{folder} cannot be written", "mend its permissions, or `results` in the suite")
    ]
    if suite.reported is not None and not suite.reported.is_file():
        found.append(fail("reported", f"{suite.reported}: no such file", "mend `reported` in the suite file"))
    return found


def check_git() -> list[Finding]:
    """Whether results could be traced to a commit."""
    git = ["git", "-C", str(Path(__file__).parent)]
    asked = [*git, "status", "--porcelain"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    if done.returncode:
        return [warn("git", "no checkout", "results cannot be traced to a commit; run from a clone")]
    if done.stdout.strip():
        changed = len(done.stdout.strip().splitlines())
        return [warn("git", f"{changed} files differ from the last commit", "commit them before a long run")]
    return [ok("git", "no uncommitted changes")]


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
