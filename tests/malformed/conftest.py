"""The tiny benchmark, made once with the real commands from a frozen checkpoint, and a copy for each case."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.malformed.harness import (
    CURATE,
    GAINS,
    MODELS,
    POLICY,
    RESAMPLE,
    RUN,
    SAMPLE,
    SCORE,
    SUITE,
    World,
    vista,
)
from tests.tasks.published import WRITERS
from vista.config import load_suite
from vista.manifest import Recorder
from vista.paths import Paths
from vista.records import PREDICTION, QUERY, read_rows, write_rows, write_text

IMPROVE = {"kind": "self-improvement", "initial_policy": "zero-shot"}
METHODS = {
    "zero-shot": {"kind": "base"},
    "sft-seed": {"kind": "seed"},
    "vista": {
        **IMPROVE,
        "resample": {"kind": "prefix", "j": 2, "top_k": 1},
        "filter": {"kind": "vas", "tau": -0.5},
    },
    "vista-dpo": {**IMPROVE, "objective": {"kind": "dpo"}},
    "vig": {**IMPROVE, "filter": {"kind": "vig"}},
}
SIZES = {"seed": 2, "train": 3, "test": 3}


def suite_file() -> dict[str, object]:
    """The suite as its user writes it: one model, one task, and all six benchmarks in reserve."""
    tasks: dict[str, object] = {"cells": {"kind": "grid", "questions": ["closed"], "sizes": SIZES}}
    for kind in WRITERS:
        source = {"kind": "path", "path": f"data/{kind}"}
        tasks[kind] = {"kind": kind, "source": source, "sizes": {"seed": 2}}
    return {
        "name": "tiny",
        "results": "results",
        "models": ["nano"],
        "train_sets": {"grids": ["cells"]},
        "methods": ["zero-shot", "sft-seed", "vista", "vig"],
        "methods_file": "methods.yaml",
        "method_defaults": {"rollouts": {"k": 2, "max_new_tokens": 40}},
        "eval_max_new_tokens": 40,
        "tasks": tasks,
        "training": {"seed": {"epochs": 1}, "sft": {"epochs": 1}, "dpo": {"epochs": 1}},
    }


def run(command: str) -> None:
    done = vista(command)
    assert done.status == 0, done.err


@pytest.fixture(scope="session")
def pristine(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark with every output but the trained checkpoints, whose predictions are made up."""
    folder = tmp_path_factory.mktemp("malformed") / "pristine"
    shutil.copytree(root / "tests/frozen/nano-qwen2.5-vl", folder / "checkpoint")
    (folder / "checkpoint/manifest.json").unlink()
    for kind, write in WRITERS.items():
        write(folder / "data" / kind)
    models = {"nano": {"kind": "path", "path": "checkpoint"}}
    for name, value in (("models.yaml", models), ("methods.yaml", METHODS), ("suite.yaml", suite_file())):
        (folder / name).write_text(yaml.safe_dump(value, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        suite = load_suite(Path("suite.yaml"))
        write_text(Path(SUITE), suite.model_dump_json(indent=2))
        for split in SIZES:
            run(f"tasks {SUITE} cells {split}")
        for command in (MODELS, SAMPLE, RESAMPLE, SCORE, GAINS, CURATE):
            run(command)
        for method in ("sft-seed/seed0/round0", "vig/seed0/round1"):
            run(f"curate {SUITE} nano/grids/{method}")
        predict(Paths(Path("results")), ["sft-seed/seed0/round0", "vig/seed0/round1"])
        run(f"collect {SUITE}")
        run(f"tables {SUITE}")
    return folder


def predict(paths: Paths, others: list[str]) -> None:
    """Predictions of every run, right and wrong in turn."""
    queries = read_rows(paths.queries("cells", "test"), QUERY)
    for name in (POLICY, RUN, *(f"nano/grids/{other}" for other in others)):
        rows = [
            {
                **{key: query[key] for key in ("task", "query_id", "cluster_id")},
                "run": name,
                "response": "answer : yes",
                "answer": "yes",
                "finished": True,
                "score": float(index % 2),
            }
            for index, query in enumerate(queries)
        ]
        path = paths.predictions(name)
        write_rows(path, rows, PREDICTION)
        Recorder("evaluation", {}, []).write(path, {"predictions": len(rows), "tokens": 12.0})


@pytest.fixture
def world(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy that a case may spoil, links made files; the working directory."""
    shutil.copytree(pristine, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    return World(tmp_path / "world", monkeypatch)
