"""A small suite with two tasks, tiny random checkpoints, and an engine that says what it is told."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vista.config import Suite, load_suite
from vista.engines.base import Request, Sample
from vista.engines.checkpoints import Checkpoint, save_checkpoint
from vista.engines.hf import HfEngine
from vista.grid import Run
from vista.manifest import Recorder
from vista.models.nano import Architecture, build_nano
from vista.paths import Paths
from vista.reads import Reads
from vista.records import QUERY, Row, write_rows

WORDS = ["look", "at", "the", "grid", "which", "digit", "in", "row", "?", "answer", ":", "yes", "no", "so"]
TASKS = ["grid-open", "grid-noisy"]
RUN = Run("nano-qwen2.5-vl", "grids", "zero-shot", 0, 0)


def query(task: str, number: int) -> Row:
    """A question whose answer is the last digit of ``number``."""
    pixels = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {
        "query_id": f"{task}/{number}",
        "task": task,
        "split": "test",
        "images": [{"bytes": buffer.getvalue(), "path": None}],
        "system": "look at the grid",
        "instruction": "which digit in row " + " ".join(str(number)) + " ?",
        "answer": str(number % 10),
        "answer_type": "number",
        "choices": None,
        "rationale": None,
        "cluster_id": f"{task}/image{number // 2}",
        "scene": None,
    }


@dataclass
class SmallSuite:
    """A suite with its results folder."""

    suite: Suite
    paths: Paths
    queries: dict[str, list[Row]] = field(default_factory=dict)

    def write_queries(self, task: str, rows: Sequence[Row]) -> None:
        write_rows(self.paths.queries(task, "test"), rows, QUERY)
        self.queries[task] = list(rows)

    def save_base(self, architecture: Architecture = "qwen2.5-vl") -> Path:
        folder = self.paths.base(RUN.model)
        model, processor = build_nano(architecture, WORDS, seed=0)
        # At its initial scale a random model repeats one word, whatever it is asked.
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.2 * torch.randn(weight.shape, generator=noise)
        save_checkpoint(model, processor, folder)
        Recorder("models", {}, []).write(folder, {})
        return folder

    def finish_without_positives(self, run: Run) -> None:
        folder = Reads(self.suite, self.paths).checkpoint(run)
        folder.mkdir(parents=True)
        Recorder("training", {}, []).write(folder, {}, "no-positives")


@pytest.fixture
def small(root: Path, tmp_path: Path) -> SmallSuite:
    """Two tasks of twelve queries each, and a random base checkpoint."""
    changes = {
        "results": tmp_path / "results",
        "train_sets": {"grids": TASKS[:1]},
        "out_of_domain": TASKS[1:],
        "eval_max_new_tokens": 8,
        "eval_batch_size": 5,
    }
    suite = load_suite(root / "config/testbed.yaml", root=root).model_copy(update=changes)
    small = SmallSuite(suite, Paths(tmp_path / "results"))
    for offset, task in enumerate(TASKS):
        small.write_queries(task, [query(task, 20 * offset + number) for number in range(12)])
    small.save_base()
    return small


Script = Callable[[str], str]


UNFINISHED = " so"  # what a script's text ends with if the length limit is to cut it


class ScriptedEngine:
    """Instead of sampling, says what ``script`` makes of the prompt's text; cut if that ends in "so"."""

    script: Script
    prompts: list[list[int]]
    tokenizer_of: Any

    def __init__(self, checkpoint: Checkpoint, batch_size: int, progress: str | None = None) -> None:
        self.tokenizer = type(self).tokenizer_of = checkpoint.processor.tokenizer

    def sample(
        self, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        return [[self._answer(request)] * len(request.seeds) for request in requests]

    def _answer(self, request: Request) -> Sample:
        type(self).prompts.append(request.prompt.input_ids)
        text = type(self).script(self.tokenizer.decode(request.prompt.input_ids, skip_special_tokens=True))
        finished = not text.endswith(UNFINISHED)
        ids = self.tokenizer(text.removesuffix(UNFINISHED), add_special_tokens=False)["input_ids"]
        return Sample(ids, -1.0, finished)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], type[ScriptedEngine]]:
    """Replaces the sampling engine by one that follows a script."""

    def install(text: Script) -> type[ScriptedEngine]:
        attributes: dict[str, Any] = {"script": staticmethod(text), "prompts": []}
        engine = type("Scripted", (ScriptedEngine,), attributes)
        monkeypatch.setattr("vista.engines.hf.HfEngine", engine)
        return engine

    return install


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of the queries of every call of the real engine."""
    calls: list[list[str]] = []
    sample = HfEngine.sample

    def noting(self: HfEngine, requests: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append([request.prompt.query_id for request in requests])
        return sample(self, requests, *args, **kwargs)

    monkeypatch.setattr(HfEngine, "sample", noting)
    return calls
