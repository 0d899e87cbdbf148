"""Training speed: our trainers beside stock TRL, on the same data, model and settings.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--examples 640] [--out FILE.csv]

Both train one epoch in float32, once to warm up and once to measure. Reported are CPU seconds,
which a busy neighbour disturbs less than wall time.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
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
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from vista.chat import gold_ids, messages, reply
from vista.config import Hyperparameters
from vista.engines.checkpoints import Checkpoint, wrap
from vista.models.nano import build_nano
from vista.objectives.dpo import DpoSettings
from vista.objectives.sft import SftSettings
from vista.records import Row
from vista.training.fit import fit

WORDS = [a + b for a in "abcdefgh" for b in "uvwxyz"]
HYPER = Hyperparameters(epochs=1, learning_rate=1e-3, batch_size=32)
SFT = SftSettings(kind="sft")
DPO = DpoSettings(kind="dpo")
PER_QUERY = 4


def make_rows(processor: Any, kind: str, count: int) -> list[Row]:
    """Examples or pairs of the testbed's sizes: 24 × 24 images, responses of 8 to 60 words."""
    random = np.random.default_rng(0)

    def text(low: int, high: int) -> str:
        return " ".join(random.choice(WORDS, random.integers(low, high)))

    rows = []
    for number in range(count):
        if number % PER_QUERY == 0:
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(buffer, "PNG")
            images = [{"bytes": buffer.getvalue(), "path": None}]
            prompt = messages({"system": text(6, 7), "instruction": text(8, 14), "images": images})
        row = {"query_id": f"q{number // PER_QUERY}", "source": "sample", "images": images, "prompt": prompt}
        for name in ("completion",) if kind == "sft" else ("chosen", "rejected"):
            words = text(8, 60)
            row |= {name: reply(words), f"{name}_ids": gold_ids(processor, words)}
        rows.append(row)
    return rows


def ours(checkpoint: Checkpoint, rows: list[Row], kind: str) -> None:
    """This package's training."""
    fit(checkpoint, rows, HYPER, SFT if kind == "sft" else DPO, "benchmark")


def stock(checkpoint: Checkpoint, rows: list[Row], kind: str) -> None:
    """TRL as it comes, with the same settings: its data preparation, collator and losses."""
    data = Dataset.from_list([{k: v for k, v in row.items() if not k.endswith("_id")} for row in rows])
    data = data.remove_columns([name for name in data.column_names if name.endswith("_ids")])
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


def speed(trainer: Callable[..., None], architecture: Any, kind: str, count: int) -> tuple[float, float]:
    """Samples (or pairs) per second of CPU time, and of wall time."""
    for size in (HYPER.batch_size, count):
        model, processor = build_nano(architecture, WORDS, 0)
        checkpoint = wrap(model, processor)
        rows = make_rows(processor, kind, size)
        cpu, wall = time.process_time(), time.perf_counter()
        trainer(checkpoint, rows, kind)
    return count / (time.process_time() - cpu), count / (time.perf_counter() - wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=640)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    table = []
    for architecture in ("qwen2.5-vl", "internvl"):
        for kind in ("sft", "dpo"):
            for trainer in (ours, stock):
                cpu, wall = speed(trainer, architecture, kind, arguments.examples)
                name = "vista" if trainer is ours else "stock TRL"
                table.append([architecture, kind, name, f"{cpu:.1f}", f"{wall:.1f}"])
                print(table[-1], file=sys.stderr)
    with arguments.out.open("w", newline="") if arguments.out else sys.stdout as file:
        header = ["architecture", "objective", "trainer", "samples_per_cpu_second", "samples_per_second"]
        csv.writer(file, lineterminator="\n").writerows([header, *table])


if __name__ == "__main__":
    main()
