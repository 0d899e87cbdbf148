"""A few training steps, run by each of several processes; the first one saves what came out."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from tests.training.conftest import WORDS, example, pair, responses
from vista.config import DpoObjective, Hyperparameters, ModelTraining
from vista.engines.checkpoints import wrap
from vista.models.nano import build_nano
from vista.training.fit import make_trainer

# Seven rows in steps of four: the second step of an epoch is smaller, and has fillers.
HYPER = Hyperparameters(epochs=2, learning_rate=1e-3, batch_size=4, warmup=0.0, schedule="constant")


def train_a_little(kind: str, training: ModelTraining) -> tuple[list[float], list[torch.Tensor]]:
    """The loss of each step, and the weights in the end."""
    torch.set_num_threads(1)
    words = responses(7)
    model, processor = build_nano("internvl", WORDS, 0)
    objective = DpoObjective(kind="dpo") if kind == "dpo" else None
    rows = [pair(n, words[n], words[n - 1]) if objective else example(n, words[n]) for n in range(7)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            wrap(model.eval(), processor), rows, HYPER, objective, Path(folder), 0, training
        )
        trainer.train()
    whole = trainer.whole.of(trainer)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, [] if whole is None else [weight.detach() for weight in whole.parameters()]


if __name__ == "__main__":
    found = train_a_little(sys.argv[1], ModelTraining.model_validate_json(sys.argv[2]))
    if torch.distributed.get_rank() == 0:
        torch.save(found, Path(sys.argv[3]))
