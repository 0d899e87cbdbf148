"""TRL's SFT and DPO trainers with the paper's losses. They serve ``vista train``.

Overridden is only what the paper's formulae ask for: losses are averaged over sequences, not
tokens, over all of an optimiser step, however many forward passes and processes it is spread
over. Data come from our own collators, so TRL prepares none.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback
from trl import DPOTrainer, SFTTrainer

from vista.errors import VistaError
from vista.training.data import IGNORED, Batch
from vista.training.losses import dpo_with_nll, is_finite, sequence_nll
from vista.training.order import LengthMixedSampler


class _PaperLosses:
    """What both trainers share: data, order, the mean over a step, and the check for NaN."""

    # The loss is divided by the number of sequences in the whole step, so Trainer must not
    # divide by the number of forward passes again.
    loss_is_scaled_for_ga = True
    tokens_seen = 0
    what_diverged = "this run"

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """Leave the dataset of indices as it is."""
        return dataset

    def _send_telemetry(self) -> None:
        """Send nothing."""

    def _get_train_sampler(self: Any, train_dataset: Dataset | None = None) -> Sampler[int]:
        """Random batches of similar lengths, reproducible from the seed."""
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthMixedSampler(self.data_collator.lengths, batch_size, self.args.seed)

    def _get_num_items_in_batch(self: Any, batch_samples: list[Batch], device: torch.device) -> torch.Tensor:
        """Sequences (or pairs) in the whole step: all its forward passes, all processes."""
        own = sum(self._items_in(batch) for batch in batch_samples)
        total: torch.Tensor = self.accelerator.gather(torch.tensor([own], device=device)).sum()
        return total

    def _mean_over_step(self: Any, losses: torch.Tensor, num_items: Any) -> torch.Tensor:
        """This forward pass's share of the step's mean.

        Raises:
            VistaError: the loss is not a number.
        """
        count = len(losses) if num_items is None else num_items
        # Processes' gradients are averaged afterwards, and the sum is what is meant.
        loss: torch.Tensor = losses.sum() / count * self.accelerator.num_processes
        if not is_finite(loss):
            raise VistaError(
                f"{self.what_diverged}: the loss is {loss.item()} at step {self.state.global_step + 1} of "
                f"{self.state.max_steps}; lower the learning rate (now {self.args.learning_rate:g}), "
                "lengthen the warm-up, or look for broken rows in the training set; nothing was saved"
            )
        return loss

    def _count_tokens(self: Any, batch: Batch) -> None:
        self.tokens_seen += int(self.accelerator.gather(batch["attention_mask"].sum()).sum())

    def floating_point_ops(self, inputs: Batch) -> int:
        """Not counted: Trainer walks through all modules for it at every step."""
        return 0


class PaperSFTTrainer(_PaperLosses, SFTTrainer):  # type: ignore[misc]
    """SFT with the mean over sequences of the mean over their tokens (paper: Sec. 3, step 4)."""

    def _items_in(self, batch: Batch) -> int:
        return len(batch["input_ids"])

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The share of one forward pass in the step's loss."""
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        self._count_tokens(inputs)
        losses = sequence_nll(outputs.log_probs, outputs.label_mask)
        loss = self._mean_over_step(losses, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


class PaperDPOTrainer(_PaperLosses, DPOTrainer):  # type: ignore[misc]
    """DPO + α · NLL, the NLL per sequence (paper: Sec. 3, step 4).

    TRL's own ``sft`` term is a mean over the tokens of a forward pass.
    """

    alpha = 0.0

    def _items_in(self, batch: Batch) -> int:
        return len(batch["input_ids"]) // 2

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Add the reference's log-probabilities to the dataset.

        TRL's own keeps them in a cache file named after model and dataset, which other
        processes do not find for a dataset in memory, and a later run may find by mistake.
        """
        loader = self.accelerator.prepare(
            DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator, shuffle=False)
        )
        sides: tuple[list[float], list[float]] = ([], [])
        hidden = not self.accelerator.is_main_process
        for batch in tqdm(loader, desc="reference model", unit="batch", mininterval=5, disable=hidden):
            found = self.accelerator.gather_for_metrics(self.compute_ref_log_probs(self.model, batch))
            for side, values in zip(sides, found, strict=True):
                side.extend(values.tolist())
        with_chosen = dataset.add_column("ref_chosen_logps", sides[0])
        return with_chosen.add_column("ref_rejected_logps", sides[1])

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The share of one forward pass in the step's loss; the reference was computed before."""
        inputs = dict(inputs)
        reference = (inputs.pop("ref_chosen_logps"), inputs.pop("ref_rejected_logps"))
        counted = inputs.pop("completion_mask").bool()
        labels = inputs["input_ids"].masked_fill(~counted, IGNORED)
        outputs = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True)
        self._count_tokens(inputs)
        losses = dpo_with_nll(outputs.log_probs, outputs.label_mask, reference, self.beta, self.alpha)
        loss = self._mean_over_step(losses, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


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
        """Leave the bar as it is."""
        self.bar.close()


def index_dataset(count: int) -> Dataset:
    """The dataset that TRL sees: for each row its index, which the collator looks up."""
    return Dataset.from_dict({"index": list(range(count))})


def make_quiet(trainer: Any, title: str) -> None:
    """One bar instead of Trainer's own printing to stdout."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress(title))
