"""A suite with the outputs of three runs, as the stages write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import nano
from vista.chat import messages, reply
from vista.config import Suite, load_suite, load_yaml
from vista.engines.checkpoints import save_checkpoint
from vista.grid import Run
from vista.manifest import Recorder, Status
from vista.paths import Paths
from vista.records import EXAMPLE, PAIR, PREDICTION, QUERY, Row, write_rows, write_text

TASKS = ("grid-closed", "grid-chain")


def query(number: int, task: str, images: int = 1) -> Row:
    """A question about one or several images, each with a part that all queries share."""
    pictures = [nano.query(10 * number + each)["images"][0] for each in range(images - 1)]
    row = nano.query(number) | {"query_id": f"{task}-{number}", "task": task}
    return row | {"images": [nano.query(3)["images"][0], *pictures]}


@dataclass
class World:
    """Results of a suite in a folder."""

    suite: Suite

    @property
    def paths(self) -> Paths:
        return Paths(self.suite.results)

    def run(self, method: str) -> Run:
        return Run("nano-smoke", "grids", method, 0, 0 if method == "sft-seed" else 1)

    def queries(self, split: str) -> list[Row]:
        made = [query(n, task, 1 + n % 3) for n, task in enumerate(TASKS * 2)]
        return [row | {"split": split, "query_id": f"{split}-{row['query_id']}"} for row in made]

    def write_tasks(self) -> None:
        for split in ("seed", "train"):
            for task in TASKS:
                file = self.paths.queries(task, split)
                rows = [row for row in self.queries(split) if row["task"] == task]
                write_rows(file, rows, QUERY)
                Recorder("tasks", {"task": task}, []).write(file, {"queries": len(rows)})

    def training_set(self, method: str, status: Status = "complete", **changes: Any) -> list[Row]:
        """Write one; ``changes`` are of every row."""
        run = self.run(method)
        asked = self.queries("seed" if method == "sft-seed" else "train")
        make = pair if method == "vista-dpo" else example
        source = "seed" if method == "sft-seed" else "sample"
        rows = [make(row, source) | changes for row in asked] if status == "complete" else []
        file = self.paths.training_set(run.id)
        write_rows(file, rows, PAIR if make is pair else EXAMPLE)
        method_settings = self.suite.methods[method].model_dump(mode="json")
        settings = {
            "run": run.id,
            "method": method_settings,
            "file": "/home/somebody/private/rationales.jsonl",
        }
        Recorder("curation", settings, []).write(file, {"examples": len(rows)}, status)
        return rows

    def checkpoint(self, method: str) -> Path:
        run = self.run(method)
        folder = self.paths.trained(run.id)
        made = nano.checkpoint("qwen2.5-vl")
        save_checkpoint(made.model, made.processor, folder)
        Recorder("training", {"run": run.id}, []).write(folder, {"examples": 4.0})
        return folder

    def predictions(self, method: str, score: float | None = None) -> None:
        run = self.run(method)
        file = self.paths.predictions(run.id)
        rows = [
            {
                **{"run": run.id, "task": task, "query_id": f"{task}-{n}", "cluster_id": f"{task}-{n // 2}"},
                **{"response": "", "answer": "7", "finished": True},
                "score": float(n % 4 == 0) if score is None else score,
            }
            for task in self.suite.evaluated_tasks
            for n in range(8)
        ]
        write_rows(file, rows, PREDICTION)
        Recorder("evaluation", {"run": run.id}, [self.paths.trained(run.id)]).write(
            file, {"predictions": len(rows)}
        )


def example(asked: Row, source: str) -> Row:
    sampled = source != "seed"
    return {
        **{"query_id": asked["query_id"], "source": source, "images": asked["images"]},
        **{"prompt": messages(asked), "completion": reply("the answer is sum total")},
        "completion_ids": [30, 31, 32] if sampled else None,
    }


def pair(asked: Row, source: str) -> Row:
    return {
        **{"query_id": asked["query_id"], "source": source, "images": asked["images"]},
        **{"prompt": messages(asked), "chosen": reply("yes"), "rejected": reply("no there")},
        **{"chosen_ids": [30], "rejected_ids": [31, 32]},
        **{"chosen_finished": True, "rejected_finished": asked["query_id"].endswith("0")},
    }


@pytest.fixture
def world(root: Path, tmp_path: Path) -> World:
    raw = load_yaml(root / "config/smoke.yaml") | {"results": str(tmp_path / "results")}
    raw["methods"] = [*raw["methods"], "grpo"]
    made = World(load_suite(root / "config/smoke.yaml", raw, root))
    write_text(made.paths.suite, made.suite.model_dump_json())
    made.write_tasks()
    return made
