"""Those benchmarks that ``make bench`` leaves out, as they need a finished suite, work on the smoke suite."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkout import Checkout

Benchmark = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def benchmark(root: Path, finished: Checkout) -> Benchmark:
    """Runs one with some words on the command line, in the folder of the finished suite."""

    def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(root / "benchmarks" / name), *words]
        done = subprocess.run(
            command, cwd=finished.folder, env=finished.environment, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr, done.stderr[-4000:]
        return done

    return run


@pytest.mark.end_to_end
@pytest.mark.parametrize("method", ["vista-sft", "vista-dpo"])
def test_recipes_are_compared_on_training_sets_of_a_suite(benchmark: Benchmark, method: str) -> None:
    run = f"nano-smoke/grids/{method}/seed0/round1"
    words = "results/smoke", run, "--recipe", "as it is", "--seeds", "2", "--held-out", "4"
    rows = list(csv.DictReader(io.StringIO(benchmark("recipes.py", *words).stdout)))
    assert [(row["recipe"], row["trained on"], row["seeds"]) for row in rows] == [("as it is", run, "2")]
    assert 0 <= float(rows[0]["mean"]) <= 100


@pytest.mark.end_to_end
def test_a_run_without_a_training_set_is_one_message(benchmark: Benchmark) -> None:
    run = "nano-smoke/grids/zero-shot/seed0/round0"
    done = benchmark("recipes.py", "results/smoke", run)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert run in done.stderr


@pytest.mark.end_to_end
def test_throughput_counts_every_job_once(benchmark: Benchmark, finished: Checkout) -> None:
    told = benchmark("throughput.py", "results/smoke").stdout.splitlines()
    evaluations = [*(finished.results / "evaluation").rglob("predictions.parquet")]
    counted = next(line.split()[2] for line in told if line.startswith("evaluation  "))
    assert counted == str(len(evaluations))
    assert {"rollouts", "training", "models"} <= {line.split()[0] for line in told if line}


@pytest.mark.end_to_end
def test_every_step_of_the_check_of_a_gpu_runs_on_a_tiny_model_without_one(benchmark: Benchmark) -> None:
    told = benchmark("gpu.py", "results/smoke/models/nano-smoke").stdout.splitlines()
    steps = (json.loads(line) for line in told if line.startswith('{"step"'))
    found = {step["step"]: step for step in steps}
    read = {"critical tokens", "attention scores", "parity"}
    assert {"decode", "vision", "sft", "dpo", "lora"} | read <= {*found}
    assert found["parity"]["worst"] < 1e-5
