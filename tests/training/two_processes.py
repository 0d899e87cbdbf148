"""One training step, run by each of several processes; the first one saves what came out."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.training.conftest import WORDS, example, pair, responses
from vista.config import DpoObjective, Hyperparameters
from vista.engines.checkpoints import wrap
from vista.models.nano import build_nano
from vista.training.train import fit

HYPER = {"epochs": 1, "learning_rate": 1e-3, "warmup": 0.0, "schedule": "constant"}


def one_step(kind: str, batch_size: int) -> tuple[float, torch.Tensor]:
    """The loss and the weights after a step over four sequences of unequal lengths."""
    torch.set_num_threads(1)
    words = responses(4)
    model, processor = build_nano("internvl", WORDS, 0)
    objective = DpoObjective(kind="dpo") if kind == "dpo" else None
    rows = [pair(n, words[n], words[n - 1]) if objective else example(n, words[n]) for n in range(4)]
    counts = fit(
        wrap(model, processor), rows, Hyperparameters(**HYPER, batch_size=batch_size), objective, "x"
    )
    return counts["first_loss"], torch.cat([weight.detach().flatten() for weight in model.parameters()])


if __name__ == "__main__":
    found = one_step(sys.argv[1], 2)
    if torch.distributed.get_rank() == 0:
        torch.save(found, Path(sys.argv[2]))
