"""Short trainings in float32, run by each of several processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import GradientState
from accelerate.utils import DistributedType, broadcast_object_list
from torch.distributed.tensor import DTensor

from tests.training.colocated import make_command
from tests.training.conftest import WORDS, example, pair, responses
from tests.training.groups import asked, online
from vista.config import Hyperparameters, LoraTuning, ModelTraining, VllmEngineSettings
from vista.engines.checkpoints import save_checkpoint, wrap
from vista.models.nano import build_nano
from vista.objectives.dpo import DpoSettings
from vista.objectives.sft import SftSettings
from vista.training import fit, resume, zero
from vista.training import online as online_training
from vista.training.fit import make_trainer
from vista.training.resume import States, go_on

# Seven rows in steps of four: the second step of an epoch is smaller, and has fillers.
HYPER = Hyperparameters(epochs=2, learning_rate=1e-3, batch_size=4, warmup=0.0, schedule="constant")
LORA = LoraTuning(kind="lora", r=4)
KINDS = ("sft", "dpo", "lora", "resumed", "resumed lora")
# Which sample with all weights, in every process or in one beside each; not with DeepSpeed.
ONLINE = ("grpo", "grpo lora", "grpo colocated")
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
    objective: Any = DpoSettings(kind="dpo") if pairs else SftSettings(kind="sft")
    resumed = kind.startswith("resumed")
    rows = [pair(n, words[n], words[n - 1]) if pairs else example(n, words[n]) for n in range(7)]
    if kind in ONLINE:
        objective, rows = online(k=2), [asked(n) for n in range(4)]
    if kind == "grpo colocated":
        with PartialState(cpu=True).main_process_first():
            if not (folder / "start").is_dir():
                save_checkpoint(model, processor, folder / "start")
        engine = VllmEngineSettings(
            kind="vllm", batch_size=64, command=make_command(Path(tempfile.mkdtemp()))
        )
        objective = replace(objective, engine=engine, start=folder / "start")
    if kind.endswith("lora"):
        training = training.model_copy(update={"tuning": LORA})
    trainer = make_trainer(
        wrap(model.eval(), processor), rows, HYPER, objective, folder, 0, training, title="run"
    )
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
    make = fit.on_one_gpu

    def and_then_rename(*args: Any) -> Any:
        made = make(*args)
        PartialState._shared_state |= {"distributed_type": DistributedType.MULTI_GPU, "_cpu": False}
        os.environ["ACCELERATE_USE_CPU"] = "false"
        return made

    for module in (fit, online_training):
        vars(module)["on_one_gpu"] = and_then_rename


def ways() -> Iterator[str]:
    """How processes share a model: each has the whole, then a part of it; with DeepSpeed only a part."""
    asked = os.environ.pop("ACCELERATE_USE_FSDP", None)
    if asked is not None:
        PartialState(cpu=True)
        yield "ddp"
        os.environ["ACCELERATE_USE_FSDP"] = asked
    take_processors_for_gpus()
    yield "zero3" if asked is None else "fsdp"
