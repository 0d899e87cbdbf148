"""Train a nano model from scratch on a corpus of gold rationales.

Stage ``models``; ``vista.models.build`` calls it (``vista models``). A plain loop with
cross-entropy on the response tokens, through the corpus in its own order. Every batch is a mix
of questions; it goes through the model in parts of near lengths, so that little is padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from tqdm import tqdm

from vista.engines.batching import BatchSize, collate, near_length, to_device
from vista.errors import MORE_MEMORY, VistaError
from vista.models.corpus import Corpus

_PART = 32  # examples of a batch that go through the model together; fewer from where memory runs out
_RISE = 1.0  # a loss that ends so much higher than it began, from scratch, has learnt nothing
_MAX_GRAD_NORM = 1.0
_WEIGHT_DECAY = 0.01
_WARM_UP = 0.05  # share of the steps until the peak learning rate
_FALL = 0.4  # share of the steps in which it falls to zero
_MUON = 10 / 3  # Muon's learning rate, in units of AdamW's


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train."""

    steps: int
    batch_size: int
    learning_rate: float  # peak


@dataclass(frozen=True)
class Outcome:
    """What a training run reports."""

    first_loss: float  # mean over the first tenth of the steps
    final_loss: float  # mean over the last tenth
    tokens: int  # response tokens trained on


def batches(corpus: Corpus, recipe: Recipe) -> Iterator[list[int]]:
    """Indices of ``recipe.steps`` batches, in the corpus' own order: the order is the curriculum.

    After its end the corpus begins anew; no tail is dropped.
    """
    for step in range(recipe.steps):
        start = step * recipe.batch_size
        yield [index % len(corpus) for index in range(start, start + recipe.batch_size)]


def optimizers(model: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between layers, AdamW for the rest, as for language models at large.

    Muon (Jordan et al. 2024) leaves the plateau before a model reads in half of AdamW's steps.
    """
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if inner else rest).append(parameter)
    return [
        torch.optim.AdamW(
            rest, lr=recipe.learning_rate, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.95), fused=True
        ),
        torch.optim.Muon(
            matrices,
            lr=_MUON * recipe.learning_rate,
            weight_decay=0.0,
            ns_steps=4,
            adjust_lr_fn="match_rms_adamw",
        ),
    ]


def pretrain(model: Any, corpus: Corpus, pad_id: int, recipe: Recipe, label: str = "pretrain") -> Outcome:
    """Train ``model`` in place.

    Args:
        model: A model in training mode, on the device that it is trained on.
        corpus: Encoded examples.
        pad_id: Token that fills short rows.
        recipe: How long and how fast.
        label: Name on the progress bar.

    Raises:
        VistaError: the loss or a weight is not a number, or the loss ends higher than it began; or there
            is not enough memory for one example.
    """
    parts = BatchSize(_PART, "pretraining", f"lower the model's layers and widths, or {MORE_MEMORY}")
    active = optimizers(model, recipe)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: rate(step, recipe.steps)) for each in active
    ]
    losses: list[float] = []
    tokens = 0
    shown = tqdm(batches(corpus, recipe), total=recipe.steps, desc=label, unit="step", mininterval=5)
    for step, indices in enumerate(shown):

        def gradient(indices: list[int] = indices) -> float:
            parts.trying([label] * parts.size)
            for optimizer in active:
                optimizer.zero_grad()  # a part that failed may have left some of its own
            return _accumulate(model, corpus, indices, pad_id, parts.size)

        losses.append(parts.until_it_fits(gradient))
        tokens += sum(len(corpus.responses[index]) for index in indices)
        if not math.isfinite(losses[-1]):
            raise _diverged(label, f"the loss is {losses[-1]} at step {step} of {recipe.steps}", recipe)
        torch.nn.utils.clip_grad_norm_(model.parameters(), _MAX_GRAD_NORM)
        for optimizer, schedule in zip(active, schedules, strict=True):
            optimizer.step()
            schedule.step()
    tenth = max(1, len(losses) // 10)
    outcome = Outcome(sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth, tokens)
    if outcome.final_loss > losses[0] + _RISE:
        rise = f"from {losses[0]:.3g} to {outcome.final_loss:.3g}"
        raise _diverged(label, f"the loss has risen {rise} in {recipe.steps} steps", recipe)
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise _diverged(label, f"weight {name} is not finite after step {recipe.steps}", recipe)
    return outcome


def _diverged(label: str, what: str, recipe: Recipe) -> VistaError:
    """The error that ends a run which nothing can come of."""
    return VistaError(f"{label}: {what}; lower the model's learning_rate (now {recipe.learning_rate:g})")


def _accumulate(model: Any, corpus: Corpus, indices: list[int], pad_id: int, part_size: int = _PART) -> float:
    """Add the gradient of a batch's loss, part by part, and return the loss."""
    lengths = [len(corpus.prompts[index]) + len(corpus.responses[index]) for index in indices]
    total = sum(len(corpus.responses[index]) for index in indices)
    loss = 0.0
    for places in near_length(lengths, part_size):
        part = [indices[place] for place in places]
        prompts = [corpus.prompts[index] for index in part]
        responses = [corpus.responses[index] for index in part]
        batch = {**collate(prompts, responses, pad_id), **corpus.image_features(part)}
        share = sum(map(len, responses)) / total  # so that parts add up to the batch's token mean
        part_loss = response_loss(model, to_device(batch, model.device)) * share
        torch.autograd.backward(part_loss)
        loss += part_loss.item()
    return loss


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: a short rise, a plateau, a long linear fall to zero."""
    return min(1.0, (step + 1) / (_WARM_UP * steps), (steps - step) / (_FALL * steps))


def response_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy over the response tokens of a batch from ``batching.collate``."""
    inputs = {name: value for name, value in batch.items() if name != "response_mask"}
    logits = model(**inputs, use_cache=False).logits
    target = batch["response_mask"][:, 1:]
    loss: torch.Tensor = functional.cross_entropy(logits[:, :-1][target], batch["input_ids"][:, 1:][target])
    return loss
