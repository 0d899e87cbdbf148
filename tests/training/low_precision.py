"""First steps in bfloat16 over float32 weights, by each of several processes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from tests.training.conftest import WORDS, example, pair, responses
from tests.training.two_processes import LORA, is_spread
from vista.config import Hyperparameters, ModelTraining
from vista.engines.checkpoints import Checkpoint, save_checkpoint, wrap
from vista.models.nano import Architecture, build_nano
from vista.objectives.dpo import DpoSettings
from vista.objectives.sft import SftSettings
from vista.records import Row
from vista.training import zero
from vista.training.fit import fit, make_trainer

# Seven rows in one step, which has fillers, so the second step is of another epoch. Nothing is clipped.
HYPER = Hyperparameters(
    epochs=2, learning_rate=1e-3, batch_size=8, warmup=0.0, schedule="constant", max_grad_norm=1e6
)
CASES = ("internvl sft", "internvl dpo", "qwen2.5-vl dpo", "qwen3-vl sft lora", "internvl dpo lora")
Measured = dict[str, Any]  # types, losses, gradient


class Gradient(TrainerCallback):  # type: ignore[misc]
    """The whole gradient of the first step, in float32."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.types: set[str] = set()
        self.found: list[torch.Tensor] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """DeepSpeed takes a step itself, so it is asked just before."""
        engine = self.trainer.model_wrapped
        if state.global_step == 0 and self.trainer.is_deepspeed_enabled:
            step = engine.step

            def measured(*args: Any) -> None:
                if engine.is_gradient_accumulation_boundary():
                    self.take()
                step(*args)

            engine.step = measured

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.trainer.is_deepspeed_enabled:
            self.take()

    def take(self) -> None:
        if self.found:
            return
        weights = sorted(self.trainer.model.named_parameters())
        for _, weight in weights:
            if weight.requires_grad:
                gradient = self.of(weight)
                self.types.add(str(gradient.dtype))
                self.found.append(gradient.detach().float().flatten())

    def of(self, weight: Any) -> torch.Tensor:
        if self.trainer.is_deepspeed_enabled:
            from deepspeed.utils import safe_get_full_grad

            return cast(torch.Tensor, safe_get_full_grad(weight))
        gradient = weight.grad
        return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient


def rows_of(kind: str) -> list[Row]:
    words = responses(7)
    return [pair(n, words[n], words[n - 1]) if kind == "dpo" else example(n, words[n]) for n in range(7)]


def stored(architecture: str) -> Checkpoint:
    """A random model with weights that bfloat16 can hold."""
    model, processor = build_nano(cast(Architecture, architecture), WORDS, 0)
    return wrap(model.bfloat16().eval(), processor)


def measure(case: str, training: ModelTraining, weights: torch.dtype, low_precision: bool) -> Measured:
    """Train for two steps on weights that are kept in a type (adapters always in float32)."""
    torch.set_num_threads(1)
    architecture, kind, *tuning = case.split()
    checkpoint = stored(architecture)
    checkpoint.model.to(weights)
    if tuning:
        training = training.model_copy(update={"tuning": LORA})
    objective = DpoSettings(kind="dpo") if kind == "dpo" else SftSettings(kind="sft")
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            checkpoint, rows_of(kind), HYPER, objective, Path(folder), 0, training, low_precision
        )
        gradient = Gradient(trainer)
        trainer.add_callback(gradient)
        forward, types = trainer._forward, set()

        def noted(*args: Any) -> Any:
            outputs = forward(*args)
            types.add(str(outputs.log_probs.dtype))
            return outputs

        trainer._forward = noted
        trainer.train()
    zero.forget()
    return {
        "log_probs": types,
        "gradient types": gradient.types,
        "gradient": torch.cat(gradient.found),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "spread": sum(is_spread(weight) for weight in trainer.model.parameters()),
    }


def train_and_save(folder: Path, training: ModelTraining) -> None:
    """What ``vista train`` does; the first process saves the checkpoint."""
    checkpoint = stored("internvl")
    checkpoint.model.float()
    objective = SftSettings(kind="sft")
    fit(checkpoint, rows_of("sft"), HYPER, objective, "a run", training, dtype=torch.bfloat16)
    if checkpoint.model is not None:
        save_checkpoint(checkpoint.model, checkpoint.processor, folder)
