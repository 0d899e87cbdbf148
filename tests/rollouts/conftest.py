"""A small suite on disk: an untrained policy, two tasks of train queries, three methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.nano import SQUARE, STRIP, checkpoint, query
from vista import answers
from vista.config import GridTask, Sizes, Suite
from vista.engines.checkpoints import save_checkpoint
from vista.grid import Run
from vista.manifest import Recorder
from vista.paths import Paths
from vista.records import QUERY, write_rows

POLICY = Run("nano", "tasks", "zero-shot", 0, 0)
SAMPLES = "k4-t1-n12"
PREFIX = f"{SAMPLES}+prefix-j3-top2-swapped"
GREEDY = "k1-t0-n12"
RATIONALIZE = f"{GREEDY}+rationalize-j1-t0"


def suite_at(results: Path, **changes: Any) -> Suite:
    rollouts = {"k": 4, "max_new_tokens": 12}
    start: dict[str, Any] = {"kind": "self-improvement", "initial_policy": "zero-shot"}
    settings: dict[str, Any] = {
        "name": "small",
        "results": results,
        "models": {"nano": {"kind": "built", "architecture": "qwen2.5-vl", "corpus": "corpus"}},
        "train_sets": {"tasks": ["first", "second"]},
        "tasks": {
            name: GridTask(kind="grid", questions=["open"], sizes=Sizes()) for name in ("first", "second")
        },
        "training": {"seed": {}, "sft": {}, "dpo": {}},
        "methods": {
            "zero-shot": {"kind": "base"},
            "vista": {
                **start,
                "rollouts": rollouts,
                "resample": {"kind": "prefix", "top_k": 2},
                "filter": {"kind": "vas"},
            },
            "all": {**start, "rollouts": rollouts, "filter": {"kind": "vas", "scope": "all"}},
            "star": {
                **start,
                "rollouts": {"k": 1, "temperature": 0.0, "max_new_tokens": 12},
                "resample": {"kind": "rationalize"},
            },
        },
    }
    return Suite.model_validate({**settings, **changes})


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the policy's checkpoint and the queries, made once."""
    results = tmp_path_factory.mktemp("results")
    paths = Paths(results)
    made = checkpoint("qwen2.5-vl")
    save_checkpoint(made.model, made.processor, paths.base("nano"))
    Recorder("models", {}, []).write(paths.base("nano"), {})
    for task, first, count in (("first", 0, 5), ("second", 5, 4)):
        rows = [{**query(first + i, size=STRIP if i % 2 else SQUARE), "task": task} for i in range(count)]
        write_rows(paths.queries(task, "train"), rows, QUERY)
    return results


@pytest.fixture
def small(policy_folder: Path, tmp_path: Path) -> tuple[Suite, Paths]:
    """The suite, with a results folder of the test's own that shares checkpoint and queries."""
    for name in ("models", "tasks"):
        (tmp_path / name).symlink_to(policy_folder / name)
    return suite_at(tmp_path), Paths(tmp_path)


@pytest.fixture
def odd_is_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained model answers nothing: here a text's length is its answer, and right if odd."""
    monkeypatch.setattr(answers, "extract", lambda text: str(len(text)))
    monkeypatch.setattr(answers, "verify", lambda found, *_: int(found) % 2 == 1)
