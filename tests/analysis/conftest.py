"""A tiny suite with hand-made predictions, training sets and rollouts in a temporary folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from vista import grid
from vista.config import Suite
from vista.damage import sha256
from vista.grid import Run
from vista.manifest import Manifest, Recorder, Status
from vista.paths import Paths, manifest_of
from vista.records import PREDICTION, QUERY, Row, write_json, write_rows

TASKS = {"easy": 4, "hard": 6, "far": 3}  # test queries; two on each image
MODELS = ["nano-b", "nano-a"]  # not in the order of the alphabet: the suite's order counts


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path / "results")


@pytest.fixture
def paths(suite: Suite) -> Paths:
    return Paths(suite.results)


@pytest.fixture
def world(suite: Suite, paths: Paths) -> World:
    """Every file that the analysis reads, all runs complete."""
    return World(suite, paths).fill()


def make_suite(results: Path, **changes: Any) -> Suite:
    """Two models, two training tasks and one out of domain, five methods with two rounds at most."""
    grid_task = {"kind": "grid", "questions": ["closed"]}
    improve = {"kind": "self-improvement", "rollouts": {"k": 2}}
    vista = {"resample": {"kind": "prefix"}, "filter": {"kind": "vas"}}
    step = {"epochs": 1}
    value = {
        "name": "tiny",
        "results": results,
        "train_sets": {"both": ["easy", "hard"]},
        "out_of_domain": ["far"],
        "tasks": {
            name: grid_task | {"sizes": {"seed": 1, "train": 1, "test": count}}
            for name, count in TASKS.items()
        },
        "models": {name: {"kind": "path", "path": f"/models/{name}"} for name in MODELS},
        "methods": {
            "zero-shot": {"kind": "base"},
            "sft-seed": {"kind": "seed"},
            "rest-em": improve | {"rounds": 2},
            "vista-sft": improve | {"rounds": 2} | vista,
            "dpo": improve | {"objective": {"kind": "dpo"}},
        },
        "training": {"seed": step, "sft": step, "dpo": step},
        "seeds": [0],
        "shards": 2,
    }
    return Suite.model_validate(value | changes)


def mixed(number: int, run: Run, task: str, index: int) -> float:
    """About a third of the answers right, not the same ones in every run."""
    return float((index * 7 + number) % 3 == 0)


# Every manifest has another time, so that a table with times in it would differ.
CLOCK = (f"2000-01-01T00:00:{second:02d}" for second in itertools.cycle(range(60)))


@cache
def manifest_template() -> Manifest:
    """A real manifest to copy: making each anew would ask git a thousand times."""
    return Recorder("any", {}, []).build(Path(__file__), {})


class World:
    """Writes what the earlier stages would have written."""

    def __init__(self, suite: Suite, paths: Paths) -> None:
        self.suite = suite
        self.paths = paths

    def fill(self, score: Callable[[Run, str, int], float] | None = None) -> World:
        for task in self.suite.evaluated_tasks:
            self.test_split(task)
        for number, run in enumerate(grid.runs(self.suite)):
            self.predict(run, score or partial(mixed, number))
            if grid.is_trained(self.suite, run):
                self.manifest(self.paths.training_set(run.id), "curation", {"examples": 100.0 + number})
                self.manifest(self.paths.trained(run.id), "training", {"tokens": 1000.0 + number})
                self.rollouts(run)
        return self

    def test_split(self, task: str) -> None:
        rows = [dict.fromkeys(QUERY.names) | self.query(task, i) for i in range(self.count(task))]
        write_rows(self.paths.queries(task, "test"), rows, QUERY)

    def asked(self, task: str) -> str:
        """The task whose questions a task asks: itself, but for a blind one."""
        return str(getattr(self.suite.tasks[task], "of", task))

    def count(self, task: str) -> int:
        return min(TASKS[self.asked(task)], self.suite.tasks[task].sizes.test)

    def query(self, task: str, index: int) -> Row:
        name = self.asked(task)
        found = {"query_id": f"{name}-{index}", "task": task, "cluster_id": f"{name}-image-{index // 2}"}
        return found if name == task else found | {"query_id": f"{task}-{name}-{index}"}

    def predict(self, run: Run, score: Callable[[Run, str, int], float]) -> None:
        rows = [
            self.query(task, i)
            | {"run": run.id, "response": "", "answer": "7", "finished": True, "score": score(run, task, i)}
            for task in reversed(self.suite.evaluated_tasks)  # the order on disk must not matter
            for i in reversed(range(self.count(task)))
        ]
        self.predictions(run, rows)

    def predictions(self, run: Run, rows: list[Row], status: Status = "complete") -> None:
        path = self.paths.predictions(run.id)
        write_rows(path, rows, PREDICTION)
        self.manifest(path, "evaluation", {"tokens": 10.0 * len(rows)}, status)

    def no_positives(self, run: Run) -> None:
        """As the earlier stages leave a run whose policy had no positive solution."""
        self.manifest(self.paths.training_set(run.id), "curation", {"examples": 0.0}, "no-positives")
        self.manifest(self.paths.trained(run.id), "training", {}, "no-positives")
        self.predictions(run, [], "no-positives")

    def rollouts(self, run: Run) -> None:
        """Shard s of the samples holds 10 + s solutions, of the resamples 3 + s."""
        if run.method == "sft-seed":
            return
        names = grid.rollout_files(grid.self_improvement(self.suite, run))
        policy = grid.policy(self.suite, run).id
        for shard in range(self.suite.shards):
            for kind, name, count in (("samples", names.samples, 10), ("resamples", names.resamples, 3)):
                if name is not None:
                    file = self.paths.rollouts(policy, kind, name, shard, self.suite.shards)
                    self.manifest(file, "rollouts", {"solutions": count + shard, "tokens": 500.0})

    def manifest(
        self,
        output: Path,
        stage: str,
        counts: dict[str, float],
        status: Status = "complete",
        peak: float = 50.0,
    ) -> None:
        """Write an output's manifest, and the output itself (empty) if it is not there."""
        output.parent.mkdir(parents=True, exist_ok=True)
        if not output.exists():
            output.write_bytes(b"") if output.suffix == ".parquet" else output.mkdir()
        stated = {"output": output.name, "stage": stage, "counts": counts, "status": status}
        times = {"started": next(CLOCK), "peak_rss_mb": peak}
        files = {output.name: output} if output.is_file() else {}
        known = {
            "checksums": {name: sha256(file) for name, file in files.items()},
            "sizes": {name: file.stat().st_size for name, file in files.items()},
        }
        manifest = manifest_template().model_copy(update=stated | times | known)
        write_json(manifest_of(output), manifest.model_dump())

    def benchmark(
        self, stage: str, name: str, line: str = "2.0\t0:00:02\t100.0\t1\t1\t1\t1\t1\t1\t1.5"
    ) -> None:
        path = self.paths.benchmark(stage, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
        path.write_text(f"{header}\n{line}\n")
