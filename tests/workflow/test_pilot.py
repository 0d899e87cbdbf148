"""The pilot of the paper's suite, run for real: its models at tiny size, its benchmarks, its teacher.

Cut to what two cores do in minutes: one model of each architecture, one checkpoint for all benchmarks,
VISTA-DPO and what it is made from for one round, responses of a few tokens, and the ``hf`` engine where
vLLM has no environment. MMMU, MathVerse and BLINK read data sets of the hub; a local task in lmms-eval's
format stands for them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.checkout import Checkout
from tests.documents import code, section
from tests.endpoint import FakeEndpoint, serving
from tests.own_tasks import write_task
from tests.paper_models import PAPER, write
from tests.tasks.published import WRITERS
from vista.config import Suite, load_resolved, load_yaml
from vista.manifest import read_manifest
from vista.paths import Paths

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

BENCHMARKS = ("slake", "vqa-rad", "geometry3k", "scienceqa", "chartqa")
# Of one architecture, the paper's models differ in size alone at this size.
MODELS = ("qwen2.5-vl-3b", "qwen3-vl-2b", "internvl3-2b")
METHODS = ["zero-shot", "sft-seed", "vista-dpo"]
TARGET = "results/paper-pilot/tables/pilot.csv"
SO_FAR = "results/paper-pilot/tables/pilot-so-far.csv"
VLLM = Path(__file__).parents[2] / ".venv-vllm/bin/vista"
ENGINES = [
    "hf",
    pytest.param("vllm", marks=pytest.mark.skipif(not VLLM.exists(), reason="no environment with vLLM")),
]


def teacher(text: str, before: int) -> tuple[int, str, str]:
    """Right to about half of the yes/no questions, wrong to all others."""
    return 200, "I look at the picture.\nanswer: yes", "stop"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for name in MODELS:
        write(name, folder / name)
    return folder


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.setenv("VISTA_TEACHER_KEY", "none")
    with serving() as fake:
        fake.script = teacher
        yield fake


def paper_in(checkout: Checkout, weights: Path, address: str, engine: str) -> Checkout:
    """The checkout with the paper's suite and models, their files on this machine."""
    models = load_yaml(checkout.folder / "models.yaml")
    for name in MODELS:
        training = {**models[name]["training"], "processes": 1}
        del training["accelerate"]  # FSDP needs GPUs
        models[name] |= {"path": str(weights / name), "training": training}
    (checkout.folder / "models.yaml").write_text(yaml.safe_dump(models))
    raw: dict[str, Any] = load_yaml(checkout.folder / "config/paper.yaml")
    for name in BENCHMARKS:
        WRITERS[name](checkout.folder / "data" / name)
        raw["tasks"][name]["source"] = {"kind": "path", "path": f"data/{name}"}
    theirs = write_task(checkout.folder / "theirs", "theirs")
    raw["tasks"] = {name: raw["tasks"][name] for name in BENCHMARKS}
    raw["tasks"]["theirs"] = {
        "kind": "lmms-eval",
        "task": "theirs",
        "include_path": str(theirs),
        "sizes": {"test": 6},
    }
    raw |= {
        "models": list(MODELS),
        "train_sets": {"vqa-rad": list(BENCHMARKS[:3])},
        "out_of_domain": [*BENCHMARKS[3:], "theirs"],
        "methods": METHODS,
        "max_rounds": dict.fromkeys(MODELS, 1),
        "eval_max_new_tokens": 8,
        "threads": 1,
        "gpus": 0,
    }
    for name in ("only", "sweeps", "blocks"):
        raw.pop(name, None)
    raw["method_overrides"] = {}
    raw["method_defaults"]["rollouts"] |= {"k": 3, "max_new_tokens": 8}
    raw["seed_rationales"]["endpoint"] = address
    if engine == "hf":
        raw["engine"] = {"kind": "hf", "batch_size": 64}
    else:
        raw["engine"] |= {"command": str(VLLM), "max_model_len": 2048, "eager": True}
    (checkout.folder / "config/paper.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return checkout


def pilot(checkout: Checkout, *more: str) -> tuple[int, str]:
    words = ("snakemake", "--cores", "2", TARGET, "--configfile", "config/paper.yaml")
    done = checkout.run(*words, "--config", "pilot=2", *more)
    return done.returncode, done.stdout[-6000:] + done.stderr[-12000:]


def suite_of(checkout: Checkout) -> Suite:
    results = checkout.folder / "results/paper-pilot"
    return load_resolved(results / "suite.json").model_copy(update={"results": results})


def page_commands(root: Path) -> list[str]:
    """The blocks of docs/paper.md that pilot, of ``MODELS``, on as many queries as the small files have."""
    text = section(root, "paper.md", "8. Run: first the pilot").replace("pilot=8", "pilot=2")
    assert ",".join(PAPER) in text
    blocks = code(text.replace(",".join(PAPER), ",".join(MODELS)), "sh")
    return [block for block in blocks if "pilot" in block]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_paper_is_piloted_from_its_files_to_a_plan_that_was_measured(
    root: Path, tmp_path: Path, weights: Path, endpoint: FakeEndpoint, engine: str
) -> None:
    """By the commands of docs/paper.md, as they stand there."""
    checkout = paper_in(Checkout.make(root, tmp_path), weights, endpoint.url, engine)
    first, whole = page_commands(root)
    done = checkout.run("bash", "-euo", "pipefail", "-c", first)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-12000:]
    table = pd.read_csv(checkout.folder / SO_FAR, keep_default_na=False)
    (evaluations,) = {(row.planned, row.done) for row in table.itertuples() if row.stage == "evaluation"}
    assert evaluations == (3, 1)
    assert set(table["failed"]) == {0}

    done = checkout.run("bash", "-euo", "pipefail", "-c", whole)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-12000:]
    table = pd.read_csv(checkout.folder / TARGET, keep_default_na=False)
    assert (table["planned"] == table["done"]).all()
    stages = {(row.stage, row.model) for row in table.itertuples()}
    for stage in ("models", "rollouts", "training", "evaluation"):
        assert stages >= {(stage, model) for model in MODELS}
    rollouts = table[table["stage"] == "rollouts"].set_index("model")
    assert (rollouts["unfinished"].astype(float) > 0).all()
    # Random models are never right: what they trained on is said to stand in.
    assert (table[table["stage"] == "curation"]["stand_ins"].astype(int) > 0).all()

    suite = suite_of(checkout)
    paths = Paths(suite.results)
    for model in MODELS:
        run = f"{model}/vqa-rad/vista-dpo/seed0/round1"
        assert read_manifest(paths.training_set(run)).counts["from_pilot"] > 0
        assert read_manifest(paths.trained(run)).counts["steps"] >= 1

    file = "results/paper-pilot/tables/assumptions.yaml"
    found = load_yaml(checkout.folder / file)
    assert set(found) >= {"start_minutes", "prompt_tokens", "response_tokens", "correct", "parameters"}
    assert set(found["parameters"]) == set(MODELS)
    assert 1 <= found["response_tokens"] <= 8
    assert re.search(rf"response_tokens +\| {found['response_tokens']} ", done.stdout)

    again = checkout.run(
        *(
            "snakemake",
            "-n",
            "--cores",
            "2",
            TARGET,
            "--configfile",
            "config/paper.yaml",
            "--config",
            "pilot=2",
        )
    )
    assert "Nothing to be done" in again.stdout + again.stderr
    assert not (checkout.folder / "results/paper").exists()


def test_a_pilot_that_fails_says_which_jobs_did_and_goes_on_from_there(
    root: Path, tmp_path: Path, weights: Path, endpoint: FakeEndpoint
) -> None:
    """Here one of the teacher's tasks, at whose address nobody answers."""
    checkout = paper_in(Checkout.make(root, tmp_path), weights, "http://127.0.0.1:9/v1", "hf")
    suite = load_yaml(checkout.folder / "config/paper.yaml")
    suite["models"] = ["qwen3-vl-2b"]
    suite["max_rounds"] = {}
    (checkout.folder / "config/paper.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    status, said = pilot(checkout, "--keep-going", "--until", "tasks", "encodable")
    assert status != 0
    assert "jobs failed; results/paper-pilot/tables/pilot-so-far.md has them all" in said
    table = pd.read_csv(checkout.folder / SO_FAR, keep_default_na=False)
    failed = table[table["job"] != ""]
    assert set(failed["job"]) == {f"tasks {task}/seed" for task in BENCHMARKS[:3]}
    assert failed["said"].str.contains("127.0.0.1:9").all()
    (tasks,) = table[(table["stage"] == "tasks") & (table["job"] == "")].to_dict("records")
    assert (tasks["failed"], tasks["not_run"]) == ("3", "0")
    (evaluations,) = table[table["stage"] == "evaluation"].to_dict("records")
    assert (evaluations["planned"], evaluations["not_run"]) == ("3", "3")
    assert os.path.exists(checkout.folder / "results/paper-pilot/tables/pilot-so-far.tex")
