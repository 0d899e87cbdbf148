"""TRL's trainer for any objective on a training set that is there before. For ``vista train``.

It overrides what the paper's formulae ask for: losses are averaged over sequences, not tokens, and over
the whole optimiser step, however many forward passes and processes share it. Batches come from our own
collators, so TRL prepares no data.

Preference training uses TRL's SFT trainer too, with another loss. TRL's DPO trainer computes the
reference's log-probabilities before the model is spread over the processes, when a large one does not
fit, and caches them where a later run may find them by mistake.
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm
from trl import SFTTrainer

from vista.config import SamplingStrategy
from vista.objectives import Objective, ObjectiveSettings
from vista.training.data import IGNORED, Batch, StepSampler
from vista.training.trainers import SharedTrainer


class PaperTrainer(SharedTrainer, SFTTrainer):  # type: ignore[misc]
    """Minimises an objective: its mean over the examples (or pairs) of each step (paper: Sec. 3, step 4)."""

    # The loss is divided by the number of sequences in the whole step, so Trainer must not
    # divide by the number of forward passes again.
    loss_is_scaled_for_ga = True
    objective: Objective[ObjectiveSettings]
    sampler: StepSampler
    strategy: SamplingStrategy
    needs_reference: bool
    sums: dict[str, Tensor]  # of what is logged of a step, over its forward passes: values, and their number

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """Leave the dataset of indices as it is."""
        return dataset

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
        """Give the collator the reference's log-probabilities, if it needs them and has none.

        The policy starts as the reference model, so before the first step one model is both.
        """
        if not self.needs_reference or self.data_collator.reference is not None:
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

    def _count_tokens(self, batch: Batch) -> None:
        """Add the tokens of a forward pass to Trainer's own count, which a resumed run continues."""
        counted = (batch["labels"] != IGNORED).any(dim=1, keepdim=True)
        tokens = (batch["attention_mask"] * counted).sum()
        self.state.num_input_tokens_seen += int(self.accelerator.gather(tokens).sum())
