"""A small suite on disk: an untrained policy, two tasks of train queries, three methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.nano import SQUARE, STRIP, checkpoint, query
from vista import answers, grid
from vista.config import SelfImprovement, Suite
from vista.engines.checkpoints import save_checkpoint
from vista.grid import Run
from vista.manifest import Recorder
from vista.paths import Paths
from vista.records import QUERY, ROLLOUT, Row, read_rows, write_rows
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.seeding import generator
from vista.task_kinds import Sizes
from vista.task_kinds.grid import GridSettings
from vista.testbed.questions import Question, draw_scene, dump

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
            name: GridSettings(kind="grid", questions=["open"], sizes=Sizes(seed=8, train=8, test=8))
            for name in ("first", "second")
        }
        | {"corpus": GridSettings(kind="grid", questions=["open"], sizes=Sizes(train=8))},
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
        write_rows(paths.queries(task, "train"), [asked(task, first + i) for i in range(count)], QUERY)
    return results


def asked(task: str, number: int) -> dict[str, Any]:
    """A query with a scene, whose gold rationale is in the vocabulary."""
    scene = draw_scene(generator("scene", number), 3, 3, uniform=0.0)
    truth = dump(scene, Question("digit", 1 + number % 3, column=1 + number % 2))
    return {**query(number, size=STRIP if number % 2 else SQUARE), "task": task, "scene": truth}


def resampling(suite: Suite, kind: str, **settings: Any) -> tuple[Suite, str]:
    """The suite with a method that resamples so, and the name of its resamples folder."""
    method = SelfImprovement.model_validate(
        {
            "kind": "self-improvement",
            "initial_policy": "zero-shot",
            "rollouts": {"k": 4, "max_new_tokens": 12},
            "resample": {"kind": kind, **settings},
        }
    )
    changed = suite.model_copy(update={"methods": {**suite.methods, "resampling": method}})
    return changed, str(grid.rollout_files(method).resamples)


def resample(suite: Suite, paths: Paths, name: str, shard: int = 0) -> list[Row]:
    """Sample, make what ``name`` is matched to, and ``name`` itself: one shard's rows."""
    for kind, read in grid.resampling_named(suite, name).inputs:
        if kind == "samples":
            sample_shard(suite, paths, POLICY, read, shard)
        else:
            resample_shard(suite, paths, POLICY, read, shard)
    resample_shard(suite, paths, POLICY, name, shard)
    return read_rows(paths.rollouts(POLICY.id, "resamples", name, shard, suite.shards), ROLLOUT)


@pytest.fixture
def small(policy_folder: Path, tmp_path: Path) -> tuple[Suite, Paths]:
    """The suite, with a results folder of the test's own that shares checkpoint and queries."""
    for name in ("models", "tasks"):
        (tmp_path / name).symlink_to(policy_folder / name)
    return suite_at(tmp_path), Paths(tmp_path)


@pytest.fixture
def odd_is_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained model answers nothing: here a text's length is its answer, and right if odd."""
    let_odd_be_correct(monkeypatch)


def let_odd_be_correct(patch: pytest.MonkeyPatch) -> None:
    """As in ``odd_is_correct``, for fixtures that live longer than a test."""
    patch.setattr(answers, "extract", lambda text: str(len(text)))
    patch.setattr(answers, "verify", lambda found, *_: int(found) % 2 == 1)
