r"""Short trainings, run by each of several processes; the first one saves what came out.

    accelerate launch --num_processes 2 --config_file config/accelerate/fsdp.yaml --mixed_precision no \
        -m tests.training.two_processes OUTPUT
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import GradientState
from accelerate.utils import DistributedType, broadcast_object_list
from torch.distributed.tensor import DTensor

from tests.training.conftest import WORDS, example, pair, responses
from vista.config import Hyperparameters, LoraTuning, ModelTraining
from vista.engines.checkpoints import wrap
from vista.grid import Run
from vista.models.nano import build_nano
from vista.objectives.dpo import DpoSettings
from vista.objectives.sft import SftSettings
from vista.training import fit, resume, zero
from vista.training.fit import make_trainer
from vista.training.launch import launch_command
from vista.training.resume import States, go_on

# Seven rows in steps of four: the second step of an epoch is smaller, and has fillers.
HYPER = Hyperparameters(epochs=2, learning_rate=1e-3, batch_size=4, warmup=0.0, schedule="constant")
LORA = LoraTuning(kind="lora", r=4)
KINDS = ("sft", "dpo", "lora", "resumed", "resumed lora")
# What was logged at each step, the weights, how many of them were spread
Outcome = tuple[list[dict[str, float]], list[torch.Tensor], int]


class Stopped(Exception):
    """As if the run had been killed."""


def train_a_little(kind: str, training: ModelTraining, folder: Path, stop_at: int | None = None) -> Outcome:
    """What was logged at each step, the weights in the end, and how many of these were spread."""
    torch.set_num_threads(1)
    words = responses(7)
    model, processor = build_nano("internvl", WORDS, 0)
    pairs = kind in ("dpo", "resumed")
    objective = DpoSettings(kind="dpo") if pairs else SftSettings(kind="sft")
    resumed = kind.startswith("resumed")
    rows = [pair(n, words[n], words[n - 1]) if pairs else example(n, words[n]) for n in range(7)]
    if kind.endswith("lora"):
        training = training.model_copy(update={"tuning": LORA})
    trainer = make_trainer(wrap(model.eval(), processor), rows, HYPER, objective, folder, 0, training)
    state = None
    if resumed:
        if not trainer.accelerator.is_main_process:
            resume.time = SimpleNamespace(monotonic=lambda: 0.0)  # a clock that stands still
        state = go_on(States(folder, {}, minutes=1e-9), trainer)
    checked = trainer._check

    def stop(loss: Any) -> None:
        checked(loss)
        if trainer.state.global_step == stop_at:
            raise Stopped

    trainer._check = stop
    trainer.train(resume_from_checkpoint=None if state is None else str(state))
    spread = sum(is_spread(weight) for weight in trainer.model.parameters())
    whole = trainer.whole.of(trainer)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    weights = [] if whole is None else [weight.detach() for weight in whole.parameters()]
    return logged, weights, spread


def is_spread(weight: torch.Tensor) -> bool:
    """Whether other processes have parts of a weight, with FSDP or DeepSpeed."""
    return isinstance(weight, DTensor) or hasattr(weight, "ds_tensor")


def run(kind: str, training: ModelTraining) -> Outcome:
    """``train_a_little``; a resumed one is stopped in the middle of the second epoch."""
    folder = [tempfile.mkdtemp()]
    if training.processes > 1:
        broadcast_object_list(folder)
    if kind.startswith("resumed"):
        try:
            train_a_little(kind, training, Path(folder[0]), stop_at=3)
        except Stopped:
            GradientState._reset_state()  # a new process would know nothing of the half-made step
            zero.forget()
        else:
            raise AssertionError("the run was to stop")
    return train_a_little(kind, training, Path(folder[0]))


def take_processors_for_gpus() -> None:
    """accelerate spreads weights over GPUs only. PyTorch can do it on processors as well."""
    make = fit.trainer_config

    def and_then_rename(*args: Any) -> Any:
        made = make(*args)
        PartialState._shared_state |= {"distributed_type": DistributedType.MULTI_GPU, "_cpu": False}
        os.environ["ACCELERATE_USE_CPU"] = "false"
        return made

    fit.trainer_config = and_then_rename


def main(output: Path) -> None:
    """Everything, in the ways that the launcher's config allows."""
    two = ModelTraining(processes=2, device_batch_size=1)
    found = {(how, kind): run(kind, two) for how in ways() for kind in KINDS}
    if torch.distributed.get_rank() == 0:
        torch.save(found, output)


def launched(root: Path, folder: Path, module: str, *options: str) -> dict[tuple[str, str], Any]:
    """What two processes of a module saved, launched with FSDP's and with DeepSpeed's config at once."""
    started = []
    for name in ("fsdp", "zero3"):
        training = ModelTraining(processes=2, accelerate=root / f"config/accelerate/{name}.yaml")
        launcher = launch_command(training, Path(), Run.parse("m/t/a/seed0/round1"))
        command = [
            *launcher[: launcher.index("vista.cli") - 1],
            *options,
            "-m",
            module,
            str(folder / f"{name}.pt"),
        ]
        with (folder / f"{name}.log").open("w") as log:
            environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
            started.append(subprocess.Popen(command, cwd=root, stdout=log, stderr=log, env=environment))
    found: dict[tuple[str, str], Any] = {}
    for name, process in zip(("fsdp", "zero3"), started, strict=True):
        assert process.wait(timeout=400) == 0, (folder / f"{name}.log").read_text()[-3000:]
        found |= torch.load(folder / f"{name}.pt")
    return found


def ways() -> Iterator[str]:
    """How processes share a model: each has the whole, then a part of it; with DeepSpeed only a part."""
    asked = os.environ.pop("ACCELERATE_USE_FSDP", None)
    if asked is not None:
        PartialState(cpu=True)
        yield "ddp"
        os.environ["ACCELERATE_USE_FSDP"] = asked
    take_processors_for_gpus()
    yield "zero3" if asked is None else "fsdp"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
