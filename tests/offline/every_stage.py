"""Every command of every stage on a minimal suite, one after another in this process.

    python every_stage.py FOLDER

Writes a suite to FOLDER, runs it there and prints a line of JSON with every run's status.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.tasks.published import write_slake
from vista import cli, grid
from vista.config import (
    HubModel,
    LocalModel,
    SelfRationales,
    Suite,
    load_suite,
)
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import write_text
from vista.task_kinds.benchmarks import BenchmarkSizes, LocalFiles
from vista.task_kinds.slake import SlakeSettings

ROOT = Path(__file__).parents[2]
SPLITS = ("seed", "train", "test")

MODELS = {
    "nano": {"kind": "built", "architecture": "qwen2.5-vl", "corpus": "printed", "steps": 2, "batch_size": 8},
}
HYPERPARAMETERS = {"epochs": 1, "learning_rate": 1.0e-3, "batch_size": 8}
SUITE: dict[str, Any] = {
    "name": "offline",
    "results": "results",
    "models": ["nano"],
    "models_file": "models.yaml",
    "methods_file": str(ROOT / "config/methods.yaml"),
    "methods": ["zero-shot", "sft-seed", "star", "vista-sft", "vista-dpo"],
    "method_overrides": {"vista-sft": {"rounds": 1}, "vista-dpo": {"filter": {"kind": "logprob"}}},
    "method_defaults": {"rollouts": {"k": 4, "max_new_tokens": 40}, "resample.prefix": {"top_k": 1}},
    "train_sets": {"closed": ["grid-closed"]},
    "tasks": {
        "printed": {
            "kind": "grid",
            "questions": ["closed"],
            "digits": "printed",
            "sizes": {"train": 16},
        },
        "grid-closed": {"kind": "grid", "questions": ["closed"], "sizes": {"seed": 8, "train": 8, "test": 8}},
    },
    # Enough for the model to learn the form of an answer, and so to be right now and then.
    "training": {
        "seed": {"epochs": 60, "learning_rate": 2.0e-3, "batch_size": 8},
        "sft": HYPERPARAMETERS,
        "dpo": HYPERPARAMETERS,
    },
    "eval_max_new_tokens": 40,
}


def write_suite(folder: Path) -> Suite:
    """Write the suite as a user would, and resolve it as the Snakefile does."""
    write_text(folder / "models.yaml", yaml.safe_dump(MODELS))
    value = {**SUITE, "results": str(folder / "results")}
    write_text(folder / "suite.yaml", yaml.safe_dump(value))
    suite = load_suite(folder / "suite.yaml", root=folder)
    write_text(Paths(suite.results).suite, suite.model_dump_json())
    return suite


def vista(suite: Suite, command: str, *arguments: object) -> None:
    """Run one command of the command line; its errors are raised."""
    parts = [command, str(Paths(suite.results).suite), *map(str, arguments)]
    cli.app(parts, standalone_mode=False)


def make_training_set(suite: Suite, run: Run, done: set[tuple[object, ...]]) -> None:
    """A self-improvement run's rollouts, each once, and its training set."""
    method = suite.methods[run.method]
    if method.kind == "self-improvement":
        policy, names = grid.policy(suite, run).id, grid.rollout_files(method)
        for command, name in (
            ("sample", names.samples),
            ("resample", names.resamples),
            ("score", names.scores),
            ("gains", names.gains),
        ):
            if name is not None and (command, policy, name) not in done:
                vista(suite, command, policy, name, 0)
                done.add((command, policy, name))
    vista(suite, "curate", run.id)


def use_local_files(suite: Suite, folder: Path) -> None:
    """Stages 1 and 2 for what lies on disk: models that are folders, and a benchmark's published files."""
    built = Paths(suite.results).base("nano")
    models = {
        "folder": LocalModel(kind="path", path=built),
        "hub": HubModel(kind="hub", repo="someone/something", revision=40 * "0", path=built),
    }
    write_slake(folder / "slake")
    source = LocalFiles(kind="path", path=folder / "slake")
    tasks = {"slake": SlakeSettings(kind="slake", source=source, sizes=BenchmarkSizes(seed=2))}
    local = suite.model_copy(
        update={
            "models": models,
            "tasks": tasks,
            "train_sets": {"slake": ["slake"]},
            "out_of_domain": [],
            "seed_rationales": SelfRationales(kind="self"),
            "results": folder / "local",
        }
    )
    write_text(Paths(local.results).suite, local.model_dump_json())
    for model in models:
        vista(local, "models", model)
    for split in SPLITS:
        vista(local, "tasks", "slake", split)


def main(folder: Path) -> None:
    """Run the whole suite."""
    suite = write_suite(folder)
    for task, spec in suite.tasks.items():
        for split in SPLITS:
            if getattr(spec.sizes, split):
                vista(suite, "tasks", task, split)
    for model in suite.models:
        vista(suite, "models", model)
    done: set[tuple[object, ...]] = set()
    for run in grid.runs(suite):
        if grid.is_trained(suite, run):
            make_training_set(suite, run, done)
            vista(suite, "train", run.id)
        vista(suite, "evaluate", run.id)
    for command in ("collect", "tables", "cost"):
        vista(suite, command)
    use_local_files(suite, folder)
    paths = Paths(suite.results)
    print(json.dumps({r.method: read_manifest(paths.predictions(r.id)).status for r in grid.runs(suite)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
