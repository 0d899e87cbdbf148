"""Train a nano model from scratch on a corpus of gold rationales.

Stage ``models``; ``vista.models.build`` calls it (``vista models``). A plain loop: AdamW, one
cycle of the learning rate, cross-entropy on the response tokens. Batches are made of examples
of near lengths, so that little is spent on padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from tqdm import tqdm

from vista.engines.batching import collate, near_length
from vista.errors import VistaError
from vista.models.corpus import Corpus
from vista.seeding import generator

_WINDOW = 16  # batches among which examples are sorted by length
_MAX_GRAD_NORM = 1.0
_WEIGHT_DECAY = 0.01
_WARM_UP = 0.1  # share of the steps until the peak learning rate


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train."""

    steps: int
    batch_size: int
    learning_rate: float  # peak
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a training run reports."""

    first_loss: float  # mean over the first tenth of the steps
    final_loss: float  # mean over the last tenth
    tokens: int  # response tokens trained on


def batches(corpus: Corpus, recipe: Recipe) -> Iterator[list[int]]:
    """Indices of ``recipe.steps`` batches: shuffled passes, near lengths together.

    The tail of a pass that fills no batch begins the next one.
    """
    lengths = corpus.lengths()
    rng = generator("pretraining-order", recipe.seed)
    size, window = recipe.batch_size, recipe.batch_size * _WINDOW
    pending: list[int] = []
    made = 0
    while made < recipe.steps:
        while len(pending) < window:
            pending += rng.permutation(len(corpus)).tolist()
        taken, pending = pending[:window], pending[window:]
        groups = list(near_length([lengths[index] for index in taken], size))
        for number in rng.permutation(len(groups)).tolist()[: recipe.steps - made]:
            made += 1
            yield [taken[position] for position in groups[number]]


def pretrain(model: Any, corpus: Corpus, pad_id: int, recipe: Recipe, label: str = "pretrain") -> Outcome:
    """Train ``model`` in place.

    Args:
        model: A model in training mode on the CPU.
        corpus: Encoded examples.
        pad_id: Token that fills short rows.
        recipe: How long and how fast.
        label: Name on the progress bar.

    Raises:
        VistaError: the loss is not a number.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.95), fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=recipe.steps + 1, pct_start=_WARM_UP
    )
    losses: list[float] = []
    tokens = 0
    shown = tqdm(batches(corpus, recipe), total=recipe.steps, desc=label, unit="step", mininterval=5)
    for step, indices in enumerate(shown):
        prompts = [corpus.prompts[index] for index in indices]
        responses = [corpus.responses[index] for index in indices]
        batch = {**collate(prompts, responses, pad_id), **corpus.image_features(indices)}
        loss = response_loss(model, batch)
        losses.append(loss.item())
        tokens += sum(map(len, responses))
        if not math.isfinite(losses[-1]):
            raise VistaError(
                f"{label}: the loss is {losses[-1]} at step {step} of {recipe.steps}; "
                f"lower the model's learning_rate (now {recipe.learning_rate:g})"
            )
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), _MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    tenth = max(1, len(losses) // 10)
    return Outcome(sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth, tokens)


def response_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy over the response tokens of a batch from ``batching.collate``."""
    inputs = {name: value for name, value in batch.items() if name != "response_mask"}
    logits = model(**inputs, use_cache=False).logits
    target = batch["response_mask"][:, 1:]
    loss: torch.Tensor = functional.cross_entropy(logits[:, :-1][target], batch["input_ids"][:, 1:][target])
    return loss
