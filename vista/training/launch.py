"""Several training processes, through ``accelerate launch``. ``vista train`` calls it first.

Where a model asks for more than one process, or for a way to spread its weights, this process becomes
the launcher, which starts ``vista train`` in each of them. Imports no torch.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from vista.config import ModelTraining, Suite, load_yaml
from vista.config.launchers import SINGLE, launcher_problems
from vista.errors import VistaError
from vista.grid import Run


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

    Raises:
        VistaError: a problem of the config file, which may have changed since the suite was read; or it asks
            for DeepSpeed, which is not installed.
    """
    if training.accelerate is None:
        return
    for problem in launcher_problems(training, model):
        raise VistaError(problem)
    kind = load_yaml(training.accelerate).get("distributed_type")
    if kind == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise VistaError(
            f"{training.accelerate}: DeepSpeed is not installed; `pip install 'vista-bench[deepspeed]'`, or "
            f"set training.accelerate of model {model} to config/accelerate/fsdp.yaml, which works without it"
        )


def _is_single(file: Path) -> bool:
    """Whether a config file of accelerate is about one process, which shares nothing."""
    return load_yaml(file).get("distributed_type") in SINGLE


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
