"""A small grid on disk: queries of three tasks, and a policy's rollouts written by hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vista import grid
from vista.config import Suite, load_suite, load_yaml
from vista.grid import Run
from vista.manifest import Recorder
from vista.paths import Paths
from vista.records import GAINS, QUERY, ROLLOUT, SCORES, Row, write_rows

CONTROLS = ["random-drop", "vig", "logprob", "oracle-filter"]
TASKS = ["grid-closed", "grid-open", "grid-chain"]


def png(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def query(name: str, task: str, split: str, **changes: Any) -> Row:
    return {
        "query_id": name,
        "task": task,
        "split": split,
        "images": [{"bytes": png(), "path": None}],
        "system": "you read grids",
        "instruction": f"question {name} ?",
        "answer": "4",
        "answer_type": "number",
        "choices": None,
        "rationale": f"gold of {name}" if split == "seed" else None,
        "cluster_id": name,
        "scene": None,
        **changes,
    }


def rollout(query_id: str, sample: int, correct: bool, **changes: Any) -> Row:
    return {
        "query_id": query_id,
        "task": query_id.rsplit("-", 1)[0],
        "sample": sample,
        "source": "sample",
        "parent": None,
        "prefix_len": 0,
        "token_ids": [5, 6, sample],
        "text": f"text {sample}",
        "answer": "4",
        "finished": True,
        "correct": correct,
        "logprob": -1.0,
        "seed": 0,
        **changes,
    }


def score(row: Row, share: float, **changes: Any) -> Row:
    """Attention of a rollout: ``share`` of it on the image at layer 1 of 3."""
    names = ("query_id", "task", "sample", "source", "parent", "correct")
    return {
        **{name: row[name] for name in names},
        "layers": [0, 1, 2],
        "num_layers": 3,
        "s_sys": [0.5, (1 - share) / 2, 0.5],
        "s_vis": [0.0, share, 0.0],
        "s_ins": [0.5, (1 - share) / 2, 0.5],
        **changes,
    }


def gain(row: Row, logprob: float, without: float = -3.0) -> Row:
    """Log-probabilities of a rollout."""
    names = ("query_id", "task", "sample", "source", "parent", "correct")
    kept = {name: row[name] for name in names}
    return {**kept, "tokens": 4, "logprob": logprob, "logprob_without": without}


class Folder:
    """Writes inputs of the curation stage where ``Paths`` expects them."""

    def __init__(self, suite: Suite, paths: Paths) -> None:
        self.suite = suite
        self.paths = paths

    def queries(self, split: str, count: int = 2, **changes: Any) -> None:
        for task in TASKS:
            rows = [query(f"{task}-{n}", task, split, **changes) for n in range(count)]
            write_rows(self.paths.queries(task, split), rows, QUERY)

    def rollouts(
        self,
        run: Run,
        samples: list[Row],
        resamples: list[Row] | None = None,
        scores: list[Row] | None = None,
        gains: list[Row] | None = None,
        status: Any = "complete",
    ) -> None:
        """Spread the rows over the shards, by row number."""
        names = grid.rollout_files(grid.self_improvement(self.suite, run))
        policy = grid.policy(self.suite, run).id
        for kind, name, rows, schema in (
            ("samples", names.samples, samples, ROLLOUT),
            ("resamples", names.resamples, resamples, ROLLOUT),
            ("scores", names.scores, scores, SCORES),
            ("gains", names.gains, gains, GAINS),
        ):
            if name is None:
                continue
            for shard in range(self.suite.shards):
                path = self.paths.rollouts(policy, kind, name, shard, self.suite.shards)
                write_rows(path, (rows or [])[shard :: self.suite.shards], schema)
                Recorder("rollouts", {}, []).write(path, {}, status)


@pytest.fixture(scope="session")
def suite(root: Path) -> Suite:
    raw = load_yaml(root / "config/testbed.yaml")
    raw["methods"] = list(dict.fromkeys([*raw["methods"], *CONTROLS]))
    return load_suite(root / "config/testbed.yaml", raw, root).model_copy(update={"shards": 2})


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "results")


@pytest.fixture
def folder(suite: Suite, paths: Paths) -> Folder:
    made = Folder(suite, paths)
    made.queries("train")
    made.queries("seed")
    return made


@pytest.fixture
def run_of() -> Callable[..., Run]:
    def make(method: str, round_number: int = 1, seed: int = 0) -> Run:
        return Run("nano-internvl", "grids", method, seed, round_number)

    return make
