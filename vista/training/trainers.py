"""What all trainers share beyond transformers' own, and what ends a run that diverges. For ``vista train``.

How a model is spread over processes, saved and loaded: weights are read from a state by the names of their
files, and parts of a spread model without being unpickled. ``offline`` and ``online`` have the trainers.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import load_fsdp_model, load_fsdp_optimizer, save_fsdp_model, save_fsdp_optimizer
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.distributed.fsdp import MixedPrecision, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback

from vista.errors import VistaError
from vista.training import zero

SCHEDULER = "scheduler.pt"  # transformers' name in a state
PART = 0.05  # of a run's steps, over whose mean losses are told


def window(steps: int) -> int:
    """How many steps ``PART`` of a run is."""
    return max(1, math.ceil(PART * steps))


def as_here(error: VistaError) -> VistaError:
    """An error as if it had been raised in this process: torch puts a worker's traceback into the text."""
    return VistaError(str(error).rpartition(f"{VistaError.__name__}: ")[2].strip() or str(error))


class SharedTrainer(Trainer):  # type: ignore[misc]
    """A part of every trainer: it goes before one of TRL's among the base classes."""

    what_diverged = "this run"
    used = False  # whether anything has gone through the model
    # Whether states keep what the first weights say of the training set, as ``data_collator.reference``.
    needs_reference = False
    sampler: Any  # of the indices of a training set

    def create_accelerator_and_postprocess(self) -> None:
        """Create the accelerator, with sums and log-probabilities in float32 whatever multiplies."""
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if self.is_fsdp_enabled:
            keep_sums_exact(state.fsdp_plugin)
        if self.is_deepspeed_enabled:
            zero.keep_sums_exact(state.deepspeed_plugin)

    def counts(self) -> dict[str, float]:
        """What the training's manifest counts besides steps and tokens."""
        return {}

    def _send_telemetry(self) -> None:
        """Send nothing."""

    def take_reference(self) -> None:
        """Compute what is measured with the weights before the first step; nothing by default."""

    def _check(self, loss: Tensor) -> None:
        if not is_finite(loss):
            raise self.diverged(f"the loss is {loss.item()}", self.state.global_step + 1)

    def diverged(self, what: str, step: int) -> VistaError:
        """The error that ends a run whose training has diverged, as seen at ``step``."""
        return VistaError(
            f"{self.what_diverged}: {what} at step {step} of {self.state.max_steps}; lower the learning rate "
            f"(now {self.args.learning_rate:g}), lengthen the warm-up, or look for broken rows in the "
            "training set; no checkpoint was saved"
        )

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any
    ) -> Any:
        """Spread the model over the processes, and load a state if there is one.

        DeepSpeed makes its float32 weights from rounded ones, and would unpickle states of its own.
        """
        if not self.is_deepspeed_enabled:
            return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        exact = zero.exact_weights(self.model, self.accelerator.state.deepspeed_plugin.hf_ds_config.dtype())
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        zero.restore(self.model, exact)
        self._load_optimizer_and_scheduler(resume_from_checkpoint)
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights of a state.

        transformers looks for the names that weights have in memory. Files name some of them differently
        (InternVL's, for example), and transformers leaves those weights as they are, with a warning.
        """
        if self.is_fsdp_enabled:
            parts = self.accelerator.state.fsdp_plugin, self.accelerator, model or self.model
            load_fsdp_model(*parts, resume_from_checkpoint, adapter_only=True, use_dcp=False)
            return
        if isinstance(self.model, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        stored = type(self.model).from_pretrained(
            resume_from_checkpoint, dtype=self.model.dtype, use_safetensors=True, local_files_only=True
        )
        self.model.load_state_dict(stored.state_dict())

    # Parts of FSDP and DeepSpeed are written and read with torch.save and torch.load(weights_only=True), a
    # file for each process. The defaults are unpickled when they are read.

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights of a state; DeepSpeed's are in the parts that are saved with the optimiser."""
        if not self.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save what a state holds beside random states and counts; spread weights as well."""
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        if self.is_deepspeed_enabled:
            zero.save_part(self.model_wrapped, Path(output_dir))
        else:
            plugin, model = self.accelerator.state.fsdp_plugin, self.model
            save_fsdp_model(plugin, self.accelerator, model, output_dir, adapter_only=True, use_dcp=False)
            save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, model, output_dir, use_dcp=False)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimiser and the schedule of a state, if there is one."""
        if checkpoint is None or not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        if self.is_deepspeed_enabled:
            zero.load_part(self.model_wrapped, Path(checkpoint))
        else:
            plugin, model = self.accelerator.state.fsdp_plugin, self.model
            load_fsdp_optimizer(plugin, self.accelerator, self.optimizer, model, checkpoint, use_dcp=False)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER, weights_only=True))

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted, since Trainer would walk through all modules at every step."""
        return 0


def keep_sums_exact(plugin: Any) -> None:
    """Leave to the low precision of FSDP only what it makes cheaper: weights, activations and products.

    accelerate would also sum gradients over processes in it, and cast what leaves the model: the
    log-probabilities, and with them the loss. FSDP would cast what enters each layer, such as the angles of
    rotary positions, and version 1 the buffers that these are made from.
    """
    policy = plugin.mixed_precision_policy
    if isinstance(policy, MixedPrecisionPolicy):
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            policy.param_dtype, torch.float32, cast_forward_inputs=False
        )
    elif isinstance(policy, MixedPrecision):
        plugin.mixed_precision_policy = MixedPrecision(policy.param_dtype, torch.float32, torch.float32)


class Start(TrainerCallback):  # type: ignore[misc]
    """What happens once the model is ready on all processes, and at each epoch."""

    def __init__(self, trainer: SharedTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compute what is measured with the weights before the first step."""
        self.trainer.take_reference()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Order the examples for this epoch; accelerate forgets the epoch when a run is resumed."""
        self.trainer.sampler.set_epoch(int(state.epoch or 0))


class Watch(TrainerCallback):  # type: ignore[misc]
    """Ends a run that has diverged although its loss is still a number."""

    def __init__(self, trainer: SharedTrainer) -> None:
        self.trainer = trainer

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Every ``PART`` of the run, compare its mean loss with the loss of the first step."""
        steps = window(state.max_steps)
        if not logs or "loss" not in logs or state.global_step % steps:
            return
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        mean = sum(losses[-steps:]) / len(losses[-steps:])
        if has_diverged(losses[0], mean):
            what = f"the loss has risen from {losses[0]:.3g} to {mean:.3g}"
            raise self.trainer.diverged(what, state.global_step)


def is_finite(loss: Tensor) -> bool:
    """Whether a loss is a number that can be trained on."""
    return bool(torch.isfinite(loss.detach()).all())


def has_diverged(first: float, now: float) -> bool:
    """Whether a loss has risen so far above its first value that only divergence explains it.

    By ten nats (for likelihoods: every token of a response is e¹⁰ times less likely) and to three times
    the first value, for objectives of another scale.
    """
    return now > first + max(10.0, 2 * abs(first))


class Progress(TrainerCallback):  # type: ignore[misc]
    """One progress bar on stderr, with the loss; in the main process only."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show an empty bar."""
        self.bar = tqdm(
            total=state.max_steps,
            desc=self.title,
            unit="step",
            mininterval=5,
            file=sys.stderr,
            disable=not state.is_world_process_zero,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance."""
        self.bar.update(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss."""
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar; it stays on the screen."""
        self.bar.close()


def check_weights(model: Any, title: str, when: str, learning_rate: float) -> None:
    """Refuse to save weights that the last step has broken, which no later loss can show.

    Where weights are spread over processes, each checks its part.

    Raises:
        VistaError: names the first such weight.
    """
    for name, weight in model.named_parameters():
        own = weight.to_local() if isinstance(weight, DTensor) else getattr(weight, "ds_tensor", weight)
        if not bool(torch.isfinite(own).all()):
            raise VistaError(
                f"{title}: weight {name} is not finite after {when}; lower the learning rate "
                f"(now {learning_rate:g}); no checkpoint was saved"
            )


def index_dataset(count: int) -> Dataset:
    """The dataset that TRL sees: the index of each row, which the collator looks up, and of a filler."""
    return Dataset.from_dict({"index": list(range(count + 1))})


def make_quiet(trainer: Any, title: str) -> None:
    """One bar instead of Trainer's own printing to stdout."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress(title))
