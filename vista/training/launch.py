"""Several training processes, through ``accelerate launch``. ``vista train`` calls it first.

Free of torch: where a model asks for more than one process, or for a config file of accelerate,
this process becomes the launcher, and the launcher starts ``vista train`` in each of them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from vista.config import ModelTraining, Suite, load_yaml
from vista.errors import VistaError
from vista.grid import Run

# What accelerate calls ways of sharing a training among processes.
KINDS = (
    *("NO", "MULTI_CPU", "MULTI_GPU", "FSDP", "DEEPSPEED", "MEGATRON_LM", "TP", "XLA"),
    *("MULTI_NPU", "MULTI_MLU", "MULTI_SDAA", "MULTI_MUSA", "MULTI_XPU"),
)


def is_launched() -> bool:
    """Whether a launcher started this process."""
    return "LOCAL_RANK" in os.environ


def launch_command(training: ModelTraining, suite_file: Path, run: Run) -> list[str]:
    """The command that trains ``run`` in all its processes; empty where this process is enough."""
    if training.processes == 1 and training.accelerate is None:
        return []
    kind = ["--multi_gpu"] if training.accelerate is None else ["--config_file", str(training.accelerate)]
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--num_processes", str(training.processes), "--num_machines", "1"),
        # A free port: two trainings on one machine would meet at a fixed one.
        *("--main_process_port", "0", "--dynamo_backend", "no", *kind),
        *("-m", "vista.cli", "train", str(suite_file), run.id),
    ]


def check_launch(training: ModelTraining, model: str) -> None:
    """Refuse what the launcher would stumble over, each with a remedy.

    Raises:
        VistaError: the config file is missing or is none of accelerate's; it asks for DeepSpeed,
            which is not installed, or whose states would have to be unpickled.
    """
    if training.accelerate is None:
        return
    kind = load_yaml(training.accelerate).get("distributed_type")
    if kind is None:
        raise VistaError(
            f"{training.accelerate}: no distributed_type; this is no config file of accelerate: name another "
            f"(training.accelerate of model {model})"
        )
    if kind == "DEEPSPEED" and training.save_every is not None:
        raise VistaError(
            f"training.save_every of model {model}: DeepSpeed unpickles the states that it goes on from, and "
            "nothing is unpickled here; remove it, or train with config/accelerate/fsdp.yaml"
        )
    if kind not in KINDS:
        raise VistaError(
            f"{training.accelerate}: distributed_type: {kind!r} is none of accelerate's; write one of "
            f"{', '.join(KINDS)}; take one of them (training.accelerate of model {model})"
        )
    if kind == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise VistaError(
            f"{training.accelerate}: DeepSpeed is not installed; `pip install 'vista-bench[deepspeed]'`, or "
            f"set training.accelerate of model {model} to config/accelerate/fsdp.yaml, which needs no more"
        )


def become_launcher(suite: Suite, suite_file: Path, run: Run) -> None:
    """Replace this process by the launcher, where there is need for one; else return.

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
    elif command:
        check_launch(training, run.model)
        print(" ".join(command), file=sys.stderr, flush=True)
        os.execv(command[0], command)  # noqa: S606 - without a shell is how it should be


def check_world(training: ModelTraining, model: str) -> None:
    """Refuse to train in another number of processes than a step is cut for."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != training.processes:
        raise VistaError(
            f"{started} processes were started, but model {model} asks for training.processes: "
            f"{training.processes}; change one of them, or run `vista train` without a launcher"
        )
