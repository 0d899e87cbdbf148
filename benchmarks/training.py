"""Training speed: our trainers beside a bare loop and stock TRL, on the same data, model and settings.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--examples 640] [--repeat 3] [--out FILE.csv]

All train one epoch in float32, in turns: once to warm up, then so many times. Reported are medians of CPU
seconds, which a busy neighbour disturbs less than wall time, as ratios to ours; and the share of the
arithmetic limit: how long the products of forward and backward passes without padding would take at
the rate of a product of the models' sizes, measured in the same run.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from vista import memory, plugins
from vista.chat import gold_ids, messages, reply
from vista.config import Hyperparameters, ModelTraining
from vista.engines.checkpoints import Checkpoint, wrap
from vista.models.nano import build_nano
from vista.objectives.dpo import DpoSettings
from vista.objectives.sft import SftSettings
from vista.records import Row
from vista.training.data import IGNORED, Batch, ExampleCollator, PairCollator
from vista.training.fit import fit

WORDS = [a + b for a in "abcdefgh" for b in "uvwxyz"]
HYPER = Hyperparameters(epochs=1, learning_rate=1e-3, batch_size=32)
SFT = SftSettings(kind="sft")
DPO = DpoSettings(kind="dpo")
OBJECTIVES = {"sft": SFT, "dpo": DPO}
PER_QUERY = 4
PASS = 8  # examples in a forward pass, as in models.yaml
COUNTED = 16  # examples whose products are counted
WIDTHS = (512, 128, 256)  # of the product whose rate is the limit: tokens, a layer's inputs and outputs


def make_rows(processor: Any, kind: str, count: int) -> list[Row]:
    """Examples or pairs of the testbed's sizes: 24 × 24 images, responses of 8 to 60 words."""
    random = np.random.default_rng(0)

    def text(low: int, high: int) -> str:
        return " ".join(random.choice(WORDS, random.integers(low, high)))

    rows: list[Row] = []
    for number in range(count):
        if number % PER_QUERY == 0:
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(buffer, "PNG")
            images = [{"bytes": buffer.getvalue(), "path": None}]
            prompt = messages({"system": text(6, 7), "instruction": text(8, 14), "images": images})
        row: Row = {
            "query_id": f"q{number // PER_QUERY}",
            "source": "sample",
            "images": images,
            "prompt": prompt,
        }
        for name in ("completion",) if kind == "sft" else ("chosen", "rejected"):
            words = text(8, 60)
            row |= {name: reply(words), f"{name}_ids": gold_ids(processor, words), f"{name}_finished": True}
        rows.append(row)
    return rows


def ours(checkpoint: Checkpoint, rows: list[Row], kind: str) -> None:
    """This package's training."""
    fit(checkpoint, rows, HYPER, OBJECTIVES[kind], "benchmark", ModelTraining(device_batch_size=PASS))


def log_probs(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of a batch's labels, and which positions have one, from all logits."""
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "reference")}
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    counted = labels != IGNORED
    chosen = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return chosen * counted, counted


def bare(checkpoint: Checkpoint, rows: list[Row], kind: str) -> None:
    """A plain loop: the same objective and optimiser, passes of the same size, and nothing beside."""
    collator = (ExampleCollator if kind == "sft" else PairCollator)(rows, checkpoint)
    objective = plugins.make(OBJECTIVES[kind])
    model = checkpoint.model.train()
    reference: torch.Tensor | None = None
    if kind == "dpo":
        with torch.no_grad():
            reference = torch.cat(
                [
                    torch.stack(log_probs(model, collator(items))[0].sum(1).chunk(2), dim=1)
                    for items in passes(list(range(len(rows))), PASS)
                ]
            )
    optimizer = torch.optim.AdamW(model.parameters(), lr=HYPER.learning_rate, fused=True)
    order = np.random.default_rng(0).permutation(len(rows))
    for start in range(0, len(rows), HYPER.batch_size):
        step = sorted(order[start : start + HYPER.batch_size].tolist(), key=lambda i: -collator.lengths[i])
        optimizer.zero_grad()
        for items in passes(step, PASS):
            found = None if reference is None else reference[[item["index"] for item in items]]
            pair = None if found is None else (found[:, 0], found[:, 1])
            losses = objective.losses(*log_probs(model, collator(items)), pair)
            torch.autograd.backward(losses.sum() / len(step))
        torch.nn.utils.clip_grad_norm_(model.parameters(), HYPER.max_grad_norm)
        optimizer.step()


def passes(indices: list[int], size: int) -> list[list[dict[str, int]]]:
    """Items of a collator, cut into passes."""
    return [
        [{"index": index} for index in indices[start : start + size]]
        for start in range(0, len(indices), size)
    ]


def operations(checkpoint: Checkpoint, rows: list[Row], kind: str) -> float:
    """Floating-point operations of the products of an epoch, one example or pair at a time."""
    collator = (ExampleCollator if kind == "sft" else PairCollator)(rows, checkpoint)
    total = 0
    for items in passes(list(range(min(COUNTED, len(rows)))), 1):
        batch = collator(items)
        with FlopCounterMode(display=False) as counter:
            torch.autograd.backward(log_probs(checkpoint.model, batch)[0].sum())
        total += counter.get_total_flops()
        if kind == "dpo":  # the reference
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                log_probs(checkpoint.model, batch)
            total += counter.get_total_flops()
    return total / min(COUNTED, len(rows)) * len(rows)


def rate() -> float:
    """Floating-point operations per CPU second of a product of the models' sizes."""
    tokens, inputs, outputs = WIDTHS
    left, right = torch.randn(tokens, inputs), torch.randn(inputs, outputs)
    found = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(200):
            left @ right
        found.append(200 * 2 * tokens * inputs * outputs / (time.process_time() - began))
    return statistics.median(found)


def stock(checkpoint: Checkpoint, rows: list[Row], kind: str) -> None:
    """TRL as it comes, with the same settings: its data preparation, collator and losses."""
    ours_only = ("_id", "_ids", "_finished")
    data = Dataset.from_list([{k: v for k, v in row.items() if not k.endswith(ours_only)} for row in rows])
    data = data.cast_column("images", [ImageFeature()])
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {
            "output_dir": folder,
            "num_train_epochs": 1,
            "per_device_train_batch_size": HYPER.batch_size,
            "learning_rate": HYPER.learning_rate,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "bf16": False,
            "activation_checkpointing": False,
            "max_length": None,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            "logging_steps": 10_000,
        }
        shared = {"train_dataset": data, "processing_class": checkpoint.processor.inner}
        if kind == "sft":
            SFTTrainer(checkpoint.model, args=SFTConfig(**settings), **shared).train()
            return
        config = DPOConfig(**settings, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5])
        DPOTrainer(checkpoint.model, copy.deepcopy(checkpoint.model), args=config, **shared).train()


def seconds(trainer: Callable[..., None], architecture: Any, kind: str, count: int) -> float:
    """CPU seconds of one epoch."""
    model, processor = build_nano(architecture, WORDS, 0)
    checkpoint = wrap(model, processor)
    rows = make_rows(processor, kind, count)
    began = time.process_time()
    trainer(checkpoint, rows, kind)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=640)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    memory.reuse_freed()
    trainers = {"vista": ours, "bare loop": bare, "stock TRL": stock}
    table = []
    for architecture in ("qwen2.5-vl", "internvl"):
        for kind in ("sft", "dpo"):
            model, processor = build_nano(architecture, WORDS, 0)
            rows = make_rows(processor, kind, arguments.examples)
            least = operations(wrap(model, processor), rows, kind) / rate()
            taken: dict[str, list[float]] = {name: [] for name in trainers}
            for turn in range(1 + arguments.repeat):
                for name, trainer in trainers.items():
                    spent = seconds(
                        trainer, architecture, kind, arguments.examples if turn else HYPER.batch_size
                    )
                    taken[name] += [spent] if turn else []
            own = statistics.median(taken["vista"])
            for name, all_spent in taken.items():
                spent = statistics.median(all_spent)
                spread = max(all_spent) / min(all_spent)
                numbers = (arguments.examples / spent, spent / own, spread, least / spent)
                table.append([architecture, kind, name, *(f"{number:.2f}" for number in numbers)])
                print(table[-1], file=sys.stderr)
    with arguments.out.open("w", newline="") if arguments.out else sys.stdout as file:
        header = [
            *("architecture", "objective", "trainer", "samples_per_cpu_second"),
            *("cpu_time_to_ours", "spread", "share_of_limit"),
        ]
        csv.writer(file, lineterminator="\n").writerows([header, *table])


if __name__ == "__main__":
    main()
