"""How much trained models scatter from seed to seed under several training recipes.

Run, after a suite of grid tasks is finished::

    OMP_NUM_THREADS=1 python benchmarks/recipes.py results RUN RUN [--recipe NAME]... [--seeds 8]

Each RUN (``MODEL/TRAIN_SET/METHOD/seedS/roundR``) names a training set and the checkpoint it starts from.
Every recipe trains on it with so many training seeds. What comes out answers queries of the train split
that are numbered after those that the suite samples: nobody trains on them, and test queries decide
nothing. A row of the table is a recipe and a training set, or a recipe and the difference of two sets that
are trained with the same seeds: mean and standard deviation over seeds, in points, and CPU seconds of a
training.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from vista import chat, memory
from vista.config import Hyperparameters, ModelTraining, Suite, load_resolved
from vista.engines.base import Request
from vista.engines.checkpoints import load_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import told
from vista.grid import Run, run_named
from vista.paths import Paths
from vista.reads import Reads
from vista.records import Row
from vista.task_kinds.grid import GridSettings, grid_query
from vista.training import trainers
from vista.training.data import read_training_set
from vista.training.fit import make_trainer
from vista.training.train import hyperparameters, objective_of, training_schema
from vista.verdicts import answer_of, is_correct


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Changes to a suite's settings.

    Attributes:
        changes: Of hyperparameters.
        factors: What hyperparameters are multiplied with.
        averaged: The share of the steps, counted from the end, whose weights are averaged; 0 keeps the last.
        examples: In one forward pass; ``None``: as the model says.
    """

    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    averaged: float = 0.0
    examples: int | None = None

    def applied(self, hyper: Hyperparameters) -> Hyperparameters:
        """``hyper``, changed."""
        scaled = {
            name: type(getattr(hyper, name))(getattr(hyper, name) * by) for name, by in self.factors.items()
        }
        return Hyperparameters.model_validate({**hyper.model_dump(), **self.changes, **scaled})


RECIPES = {
    "as it is": Recipe(),
    "one epoch": Recipe({"epochs": 1}),
    "one epoch, steps of half the size": Recipe({"epochs": 1}, {"batch_size": 0.5}),
    "two epochs": Recipe({"epochs": 2}),
    "six epochs": Recipe({"epochs": 6}),
    "half the rate": Recipe(factors={"learning_rate": 0.5}),
    "twice the rate": Recipe(factors={"learning_rate": 2}),
    "six epochs, half the rate": Recipe({"epochs": 6}, {"learning_rate": 0.5}),
    "steps of half the size": Recipe(factors={"batch_size": 0.5}),
    "steps of twice the size": Recipe(factors={"batch_size": 2}),
    "linear decay": Recipe({"schedule": "linear"}),
    "long warm-up": Recipe({"warmup": 0.3}),
    "average of the last half": Recipe(averaged=0.5),
    "constant rate, average of the last half": Recipe({"schedule": "constant"}, averaged=0.5),
    "weight decay": Recipe({"weight_decay": 0.1}),
    "passes of 16": Recipe(examples=16),
    "passes of 32": Recipe(examples=32),
}


class Average(TrainerCallback):  # type: ignore[misc]
    """The mean of the weights after each of the last steps."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.count = 0
        self.sums: dict[str, torch.Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the weights."""
        if state.global_step <= (1 - self.share) * state.max_steps:
            return
        self.count += 1
        for name, weight in kwargs["model"].named_parameters():
            self.sums[name] = self.sums.get(name, 0) + weight.detach()

    def put(self, model: Any) -> None:
        """Give ``model`` the means."""
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(self.sums[name] / self.count)


class Training:
    """A training set, the checkpoint it starts from, and held-out queries.

    Args:
        suite: The suite.
        run: Whose training it is.
        held_out: Queries of each task.
    """

    def __init__(self, suite: Suite, run: Run, held_out: int) -> None:
        paths = Paths(suite.results)
        self.run = run
        self.objective = objective_of(suite, run)
        self.rows = read_training_set(paths.training_set(run.id), training_schema(suite, run))
        self.start = Reads(suite, paths).start(run)
        self.hyper = hyperparameters(suite, run)
        self.model = suite.models[run.model]
        self.limit = suite.eval_max_new_tokens
        self.batch_size = suite.eval_batch_size
        self.queries: list[Row] = []
        for task in suite.train_sets[run.train_set]:
            settings = suite.tasks[task]
            if not isinstance(settings, GridSettings):
                raise SystemExit(f"{task}: held-out queries are made of grid tasks only")
            first = settings.sizes.train
            numbers = range(first, first + held_out)
            self.queries += [grid_query(task, settings, "train", number) for number in numbers]

    def trained(self, recipe: Recipe, seed: int) -> tuple[float, float]:
        """The accuracy on held-out queries in percent, and CPU seconds of the training."""
        checkpoint = load_checkpoint(self.start, device="cpu", dtype=torch.float32)
        settings: ModelTraining = self.model.training
        if recipe.examples is not None:
            settings = settings.model_copy(update={"device_batch_size": recipe.examples})
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            hyper = recipe.applied(self.hyper)
            trainer = make_trainer(checkpoint, self.rows, hyper, self.objective, Path(folder), seed, settings)
            trainer.what_diverged = f"{self.run.id}, seed {seed}"
            trainers.make_quiet(trainer, trainer.what_diverged)
            average = Average(recipe.averaged)
            if recipe.averaged:
                trainer.add_callback(average)
            trainer.train()
        if recipe.averaged:
            average.put(checkpoint.model)
        seconds = time.process_time() - began
        checkpoint.model.eval()
        return self._accuracy(checkpoint), seconds

    def _accuracy(self, checkpoint: Any) -> float:
        prompts = chat.encode_queries(checkpoint.processor, self.queries)
        requests = [Request(prompt, seeds=[0]) for prompt in prompts]
        found = HfEngine(checkpoint, self.batch_size).sample(requests, 0.0, self.limit)
        right = 0
        for query, (sample,) in zip(self.queries, found, strict=True):
            text = chat.decode(checkpoint.processor, sample.token_ids)
            right += is_correct(query, answer_of(query, text), sample.finished)
        return 100 * right / len(self.queries)


def row(recipe: str, what: str, values: Sequence[float], seconds: Sequence[float]) -> list[str]:
    """Mean, standard deviation with its own standard error (of a normal's), and seconds."""
    deviation = statistics.stdev(values)
    error = deviation / (2 * (len(values) - 1)) ** 0.5
    numbers = (statistics.mean(values), deviation, error)
    return [
        recipe,
        what,
        str(len(values)),
        *(f"{number:.2f}" for number in numbers),
        f"{statistics.median(seconds):.1f}" if seconds else "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="default: all")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--held-out", type=int, default=1080, help="queries of each task")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds: give two or more, since what is measured is how far they are apart")
    torch.set_num_threads(1)
    memory.reuse_freed()
    suite = load_resolved(options.results / "suite.json")
    trainings = [Training(suite, run_named(suite, name), options.held_out) for name in options.runs]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["recipe", "trained on", "seeds", "mean", "deviation", "its error", "cpu_seconds"])
    for name in options.recipe or RECIPES:
        with redirect_stdout(sys.stderr):  # where DeepSpeed and Trainer may say what they like
            found = {
                training.run.id: [training.trained(RECIPES[name], seed) for seed in range(options.seeds)]
                for training in trainings
            }
        for what, pairs in found.items():
            table.writerow(row(name, what, [mean for mean, _ in pairs], [spent for _, spent in pairs]))
        for one, other in itertools.combinations(found, 2):
            if run_named(suite, one).model != run_named(suite, other).model:
                continue
            apart = [a - b for (a, _), (b, _) in zip(found[one], found[other], strict=True)]
            table.writerow(row(name, f"{one} - {other}", apart, []))
        sys.stdout.flush()


if __name__ == "__main__":
    with told():
        main()
