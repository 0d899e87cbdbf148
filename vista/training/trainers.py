"""TRL's trainer for any objective, and what ends a run that diverges. For ``vista train``.

It overrides what the paper's formulae ask for: losses are averaged over sequences, not tokens, and over
the whole optimiser step, however many forward passes and processes share it. It also overrides how
weights are read from a state. Batches come from our own collators, so TRL prepares no data.

Preference training uses TRL's SFT trainer too, with another loss. TRL's DPO trainer computes the
reference's log-probabilities before the model is spread over the processes, when a large one does not
fit, and caches them where a later run may find them by mistake.
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
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback
from trl import SFTTrainer

from vista.config import SamplingStrategy
from vista.errors import VistaError
from vista.objectives import Objective, ObjectiveSettings
from vista.training import zero
from vista.training.data import IGNORED, Batch, StepSampler

SCHEDULER = "scheduler.pt"  # transformers' name in a state
PART = 0.05  # of a run's steps, over whose mean losses are told


def window(steps: int) -> int:
    """How many steps ``PART`` of a run is."""
    return max(1, math.ceil(PART * steps))


def as_here(error: VistaError) -> VistaError:
    """An error as if it had been raised in this process: torch puts a worker's traceback into the text."""
    return VistaError(str(error).rpartition(f"{VistaError.__name__}: ")[2].strip() or str(error))


class PaperTrainer(SFTTrainer):  # type: ignore[misc]
    """Minimises an objective: its mean over the examples (or pairs) of each step (paper: Sec. 3, step 4)."""

    # The loss is divided by the number of sequences in the whole step, so Trainer must not
    # divide by the number of forward passes again.
    loss_is_scaled_for_ga = True
    what_diverged = "this run"
    used = False  # whether anything has gone through the model
    objective: Objective[ObjectiveSettings]
    sampler: StepSampler
    strategy: SamplingStrategy
    sums: dict[str, Tensor]  # of what is logged of a step, over its forward passes: values, and their number

    def create_accelerator_and_postprocess(self) -> None:
        """Create the accelerator, with sums and log-probabilities in float32 whatever multiplies."""
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if self.is_fsdp_enabled:
            keep_sums_exact(state.fsdp_plugin)
        if self.is_deepspeed_enabled:
            zero.keep_sums_exact(state.deepspeed_plugin)

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """Leave the dataset of indices as it is."""
        return dataset

    def _send_telemetry(self) -> None:
        """Send nothing."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:
        """Steps that are reproducible from the seed, and the same for any number of processes."""
        together = self.args.train_batch_size * self.args.world_size
        self.sampler = StepSampler(
            self.data_collator.lengths,
            together * self.args.gradient_accumulation_steps,
            self.args.seed,
            together if self.args.world_size > 1 else 1,
            self.strategy,
        )
        return self.sampler

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        """Sequences (or pairs) in the whole step: all its forward passes, all processes."""
        own = sum(int(self.items_in(batch).sum()) for batch in batch_samples)
        total: Tensor = self.accelerator.gather(torch.tensor([own], device=device)).sum()
        return total

    def items_in(self, batch: Batch) -> Tensor:
        """Which examples (or pairs, by their chosen responses) count: all but fillers. [items], boolean."""
        counted = (batch["labels"] != IGNORED).any(dim=1)
        return counted.chunk(2)[0] if self.objective.settings.pairs else counted

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The share of one forward pass in the step's mean.

        Raises:
            VistaError: the loss is not a number.
        """
        outputs = self._forward(model, inputs)
        self._count_tokens(inputs)
        items = self.items_in(inputs)
        taken = inputs.get("reference")
        reference = None if taken is None else (taken[:, 0], taken[:, 1])
        losses = self.objective.losses(outputs.log_probs, outputs.label_mask, reference)
        with torch.no_grad():
            self._measure(outputs, items, reference)
        count = items.sum() if num_items_in_batch is None else num_items_in_batch
        # Processes' gradients are averaged afterwards, and the sum is what is meant.
        loss = torch.where(items, losses, 0.0).sum() / count * self.accelerator.num_processes
        self._check(loss)
        return (loss, outputs) if return_outputs else loss

    def _measure(self, outputs: Any, items: Tensor, reference: tuple[Tensor, Tensor] | None) -> None:
        """Add what is logged of one forward pass: as TRL does, but weighted by what the passes hold."""
        found = {
            name: torch.stack([values[items].sum(), items.sum()])
            for name, values in self.objective.measures(
                outputs.log_probs, outputs.label_mask, reference
            ).items()
        }
        for name, values, rows in (
            ("mean_token_accuracy", outputs.is_top1, len(items)),  # of pairs, the chosen ones'
            ("entropy", outputs.entropy, len(outputs.label_mask)),
        ):
            counted = outputs.label_mask[:rows]
            found[name] = torch.stack([(values[:rows] * counted).sum(), counted.sum()])
        for name, sums in found.items():
            self.sums[name] = self.sums.get(name, 0) + sums.float()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step, with the tokens so far and the means of what was measured, over all processes."""
        if "loss" in logs:
            sums = self.accelerator.reduce(torch.stack(list(self.sums.values())), reduction="sum")
            means = (sums[:, 0] / sums[:, 1]).tolist()
            logs["num_tokens"] = self.state.num_input_tokens_seen
            logs.update(zip(self.sums, means, strict=True))
            self.sums = {}
        super().log(logs, start_time)
        # Trainer counts the forward passes of this epoch, of which the last step may have fewer.
        done = self.state.global_step / self.state.max_steps
        self.state.log_history[-1]["epoch"] = self.args.num_train_epochs * done

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        """Move a batch to the device; transformers would give the reference DeepSpeed's low precision too."""
        exact = {name: inputs[name].to(self.args.device) for name in ("reference",) if name in inputs}
        return {**super()._prepare_inputs(inputs), **exact}

    def _forward(self, model: Any, batch: Batch) -> Any:
        """Log-probabilities of the labels, without the logits of prompt tokens."""
        self.used = True
        inputs = {name: value for name, value in batch.items() if name != "reference"}
        return model(**inputs, use_cache=False, fused_lm_head=True)

    def take_reference(self) -> None:
        """Give the collator the reference's log-probabilities, unless it has them.

        The policy starts as the reference model, so before the first step one model is both.
        """
        if self.data_collator.reference is not None:
            return
        self.model_wrapped.eval()
        count, size = len(self.data_collator.rows), self.args.per_device_train_batch_size
        loader = self.accelerator.prepare_data_loader(
            DataLoader(
                [{"index": index} for index in range(count)],  # type: ignore[arg-type]
                batch_size=2 * size if size > 1 else 1,  # without gradients there is room for more
                collate_fn=self.data_collator,
                num_workers=self.args.dataloader_num_workers,
            )
        )
        hidden = not self.accelerator.is_main_process
        found = []
        for batch in tqdm(loader, desc="reference model", unit="batch", mininterval=5, disable=hidden):
            with torch.no_grad(), self.accelerator.autocast():
                sums = self._forward(self.model_wrapped, self._prepare_inputs(batch)).log_probs.sum(dim=1)
            pairs = torch.stack(sums.chunk(2), dim=1)
            found.append(self.accelerator.gather_for_metrics(pairs).float().cpu())
        self.data_collator.reference = torch.cat(found)

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

    def _count_tokens(self, batch: Batch) -> None:
        """Add the tokens of a forward pass to Trainer's own count, which a resumed run continues."""
        counted = (batch["labels"] != IGNORED).any(dim=1, keepdim=True)
        tokens = (batch["attention_mask"] * counted).sum()
        self.state.num_input_tokens_seen += int(self.accelerator.gather(tokens).sum())

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

    def floating_point_ops(self, inputs: Batch) -> int:
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

    def __init__(self, trainer: PaperTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compute the reference's log-probabilities, with the weights before the first step."""
        if self.trainer.objective.needs_reference:
            self.trainer.take_reference()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Order the examples for this epoch; accelerate forgets the epoch when a run is resumed."""
        self.trainer.sampler.set_epoch(int(state.epoch or 0))


class Watch(TrainerCallback):  # type: ignore[misc]
    """Ends a run that has diverged although its loss is still a number."""

    def __init__(self, trainer: PaperTrainer) -> None:
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
