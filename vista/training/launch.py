"""Several training processes, through ``accelerate launch``. ``vista train`` calls it first.

Where a model asks for more than one process, or for a way to spread its weights, this process becomes
the launcher, which starts ``vista train`` in each of them. Imports no torch.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from vista.config import ModelTraining, Suite, load_yaml
from vista.errors import VistaError
from vista.grid import Run

# accelerate's names for the ways in which processes share a training.
KINDS = (
    *("NO", "MULTI_CPU", "MULTI_GPU", "FSDP", "DEEPSPEED", "MEGATRON_LM", "TP", "XLA"),
    *("MULTI_NPU", "MULTI_MLU", "MULTI_SDAA", "MULTI_MUSA", "MULTI_XPU"),
)
# Of these accelerate starts one process (more of MULTI_CPU only through MPI), does not tell it that it did,
# and leaves it to itself when it is killed.
SINGLE = ("NO", "MULTI_CPU")
ARITHMETIC = ("no", "bf16", "fp16")  # accelerate's names


def is_launched() -> bool:
    """Whether a launcher started this process."""
    return "LOCAL_RANK" in os.environ


def forget_environment() -> None:
    """Leave how accelerate trains to the config: an exported variable would decide it, in no digest."""
    for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_"))]:
        del os.environ[name]


def told_arithmetic() -> str:
    """What the launcher's config says that products are computed in, by accelerate's names."""
    return os.environ.get("ACCELERATE_MIXED_PRECISION", "no")


def launch_command(training: ModelTraining, suite_file: Path, run: Run) -> list[str]:
    """The command that trains ``run`` in all its processes; empty if this process is enough."""
    if training.processes == 1 and (training.accelerate is None or _is_single(training.accelerate)):
        return []
    kind = ["--multi_gpu"] if training.accelerate is None else ["--config_file", str(training.accelerate)]
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--num_processes", str(training.processes), "--num_machines", "1"),
        # A free port: two trainings on one machine would both want a fixed one.
        *("--main_process_port", "0", "--dynamo_backend", "no", *kind),
        *("-m", "vista.cli", "train", str(suite_file), run.id),
    ]


def check_launch(training: ModelTraining, model: str) -> None:
    """Refuse what the launcher or a later resume would fail on, and say how to fix it.

    States to resume from are read as weights only. FSDP's version 1 stores ``ShardedTensor`` objects, and
    DeepSpeed's stages below 3 objects that say where weights are.

    Raises:
        VistaError: the config file is missing or is not one of accelerate's; it is about one process and
            several are asked for; it asks for DeepSpeed, which is not installed, or for an arithmetic that is
            not supported; or states are asked for that could only be unpickled.
    """
    if training.accelerate is None:
        return
    config = load_yaml(training.accelerate)
    kind = config.get("distributed_type")
    if kind is None:
        raise VistaError(
            f"{training.accelerate}: no distributed_type, so this is not a config file of accelerate; name "
            f"another under training.accelerate of model {model}"
        )
    remove = f"or remove save_every and save_minutes from training of model {model}"
    if kind == "DEEPSPEED" and training.saves and _zero_stage(config) != "3":
        raise VistaError(
            f"{training.accelerate}: states below ZeRO-3 could only be unpickled and could run code; "
            f"set zero_stage: 3 under deepspeed_config, {remove}"
        )
    if kind == "FSDP" and training.saves and _fsdp_version(config) == "1":
        raise VistaError(
            f"{training.accelerate}: states of FSDP version 1 could only be unpickled and could run code; "
            f"set fsdp_version: 2 under fsdp_config, {remove}"
        )
    if kind not in KINDS:
        raise VistaError(
            f"{training.accelerate}: distributed_type: {kind!r} is not known to accelerate; write one of "
            f"{', '.join(KINDS)} (training.accelerate of model {model})"
        )
    if kind in SINGLE and training.processes > 1:
        raise VistaError(
            f"{training.accelerate}: distributed_type: {kind} is one process, but model {model} asks for "
            f"training.processes: {training.processes}; name config/accelerate/ddp.yaml instead, or set "
            "processes to 1"
        )
    arithmetic = config.get("mixed_precision", "no")
    if arithmetic not in ARITHMETIC:
        raise VistaError(
            f"{training.accelerate}: mixed_precision: {arithmetic!r} is not supported; write one of "
            f"{', '.join(ARITHMETIC)} (training.accelerate of model {model})"
        )
    if kind == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise VistaError(
            f"{training.accelerate}: DeepSpeed is not installed; `pip install 'vista-bench[deepspeed]'`, or "
            f"set training.accelerate of model {model} to config/accelerate/fsdp.yaml, which works without it"
        )


def _is_single(file: Path) -> bool:
    """Whether a config file of accelerate is about one process, which shares nothing."""
    return load_yaml(file).get("distributed_type") in SINGLE


def _fsdp_version(config: dict[str, Any]) -> str:
    """FSDP's version in a config file of accelerate, whose default is 1."""
    return str((config.get("fsdp_config") or {}).get("fsdp_version", 1))


def _zero_stage(config: dict[str, Any]) -> str:
    """ZeRO's stage in a config file of accelerate; one that is left to a file of DeepSpeed's is not known."""
    return str((config.get("deepspeed_config") or {}).get("zero_stage", "unknown"))


def become_launcher(suite: Suite, suite_file: Path, run: Run) -> None:
    """Replace this process by the launcher if the training needs one; else do what it would, and return.

    Raises:
        VistaError: as ``check_launch``; TRL is missing; the launcher started another number of processes.
    """
    if importlib.util.find_spec("trl") is None:
        raise VistaError(
            "vista train needs TRL, which is not installed: `pip install 'vista-bench[training]'`"
        )
    training = suite.models[run.model].training
    command = launch_command(training, suite_file, run)
    if is_launched():
        check_world(training, run.model)
        return
    forget_environment()
    if training.accelerate is not None:
        check_launch(training, run.model)
        if not command:
            config = load_yaml(training.accelerate)
            os.environ["ACCELERATE_MIXED_PRECISION"] = config.get("mixed_precision", "no")
            os.environ["ACCELERATE_USE_CPU"] = str(config.get("use_cpu", False))
    if command:
        print(" ".join(command), file=sys.stderr, flush=True)
        os.execv(command[0], command)  # noqa: S606 - no shell is intended


def check_world(training: ModelTraining, model: str) -> None:
    """Refuse to train in a number of processes other than the one that a step is divided among."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != training.processes:
        raise VistaError(
            f"{started} processes were started, but model {model} asks for training.processes: "
            f"{training.processes}; change one of them, or run `vista train` without a launcher"
        )
