"""The suite's choice of seed rationales: refused when it does not fit, and who then depends on what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vista import grid
from vista.config import Suite, load_suite
from vista.dag import Dag
from vista.errors import VistaError
from vista.grid import Run

SELF = {"kind": "self", "rollouts": {"k": 4, "max_new_tokens": 60}}
TEACHER = {
    "kind": "teacher",
    "endpoint": "http://localhost:8000/v1",
    "model": "m",
    "cache": "cache",
    "max_requests": 10,
}
BENCHMARK = {
    "kind": "slake",
    "source": {"kind": "path", "path": "data/slake"},
    "sizes": {"seed": 10, "train": 10, "test": 10},
}

Load = Callable[..., Suite]


@pytest.fixture
def load(root: Path) -> Load:
    """The smoke suite with changes."""

    def make(rationales: dict[str, Any] | None = None, /, **changes: Any) -> Suite:
        value = yaml.safe_load((root / "config/smoke.yaml").read_text())
        tasks = value["tasks"] | changes.pop("tasks", {})
        value |= {"tasks": tasks, **changes}
        if rationales is not None:
            value["seed_rationales"] = rationales
        return load_suite(Path("smoke.yaml"), value, root)

    return make


def test_a_suite_that_says_nothing_takes_annotated_rationales(load: Load) -> None:
    assert load().seed_rationales.kind == "annotated"


def test_files_of_unknown_tasks_and_of_tasks_without_a_seed_split_are_reported_together(load: Load) -> None:
    files = {"grid-chian": "a.jsonl", "grid-noisy": "b.jsonl", "grid-chain": "c.jsonl"}
    with pytest.raises(VistaError) as caught:
        load({"kind": "annotated", "files": files}, out_of_domain=["grid-noisy", "nowhere"])
    text = str(caught.value)
    assert "seed_rationales.files: unknown task 'grid-chian'; did you mean 'grid-chain'?" in text
    assert "seed_rationales.files.grid-noisy: the task has no seed split" in text
    assert "out_of_domain: unknown task 'nowhere'" in text
    assert "grid-chain: " not in text


def test_a_benchmark_that_is_trained_on_needs_a_file_or_another_source(load: Load) -> None:
    changes: dict[str, Any] = {
        "tasks": {"slake": BENCHMARK},
        "train_sets": {"both": ["grid-closed", "slake"]},
    }
    with pytest.raises(VistaError, match=r"seed_rationales.files.slake: missing; .*teacher.*self"):
        load(**changes)
    assert load({"kind": "annotated", "files": {"slake": "a.jsonl"}}, **changes)
    assert load(TEACHER, **changes)
    assert load(SELF, **changes)
    assert load(methods=["zero-shot"], **changes)  # nobody trains on them


def test_own_rationales_need_a_base_model_among_the_methods(load: Load) -> None:
    with pytest.raises(VistaError, match=r"seed_rationales: kind self .* add zero-shot to methods"):
        load(SELF, methods=["sft-seed", "star"])


def test_an_endpoint_must_be_an_address(load: Load) -> None:
    with pytest.raises(VistaError, match=r"seed_rationales.teacher.endpoint"):
        load({**TEACHER, "endpoint": "localhost:8000"})


def test_own_rationales_are_sampled_once_from_the_base_for_every_method_and_seed(load: Load) -> None:
    suite = load(SELF, seeds=[3, 4])
    found = [grid.seed_samples(suite, run) for run in grid.runs(suite)]
    made = {samples for samples in found if samples is not None}
    (samples,) = made
    assert samples.policy.id == "nano-smoke/grids/zero-shot/seed3/round0"
    assert samples.name == "k4-t1-n60@seed"
    trains = {run.method for run, samples in zip(grid.runs(suite), found, strict=True) if samples}
    assert trains == {"sft-seed", "star", "vista-sft"}


def test_the_name_of_the_samples_says_which_queries_they_answer(load: Load) -> None:
    suite = load(SELF)
    assert grid.sampled_split("k4-t1-n60@seed") == "seed"
    assert grid.sampled_split("k4-t1-n60") == "train"
    assert grid.sampling_named(suite, "k4-t1-n60@seed") == suite.seed_rationales.rollouts  # type: ignore[union-attr]
    for other in (suite, load()):
        with pytest.raises(VistaError, match="asks for no samples 'k9-t1-n60@seed'"):
            grid.sampling_named(other, "k9-t1-n60@seed")


def test_curation_waits_for_the_seed_samples_and_these_for_the_seed_queries(load: Load) -> None:
    run, base = "nano-smoke/grids/sft-seed/seed0/round0", "nano-smoke/grids/zero-shot/seed0/round0"
    plan, plain = Dag(load(SELF)), Dag(load())
    queries = [f"results/smoke/tasks/{task}/seed.parquet" for task in ("grid-closed", "grid-chain")]
    samples = f"results/smoke/rollouts/{base}/samples/k4-t1-n60@seed/0-of-1.parquet"
    assert plain.curation_inputs(run) == queries
    assert plan.curation_inputs(run) == [*queries, samples]
    assert plan.rollout_inputs("samples", base, "k4-t1-n60@seed", "0") == queries
    assert plan.rollout_inputs("samples", base, "k4-t1-n60", "0") == [
        name.replace("seed", "train") for name in queries
    ]
    dpo = Run.parse(run.replace("sft-seed", "vista-dpo")).id.replace("round0", "round1")
    assert plan.curation_inputs(dpo) == plain.curation_inputs(dpo)


def test_each_output_goes_stale_with_the_choices_that_decide_it_and_no_others(load: Load) -> None:
    seed, dpo = "nano-smoke/grids/sft-seed/seed0/round0", "nano-smoke/grids/vista-dpo/seed0/round1"
    plans = {
        "annotated": Dag(load()),
        "self": Dag(load(SELF)),
        "self, two": Dag(load({**SELF, "max_per_query": 2})),
        "teacher": Dag(load(TEACHER)),
        "cheaper": Dag(load({**TEACHER, "max_requests": 5, "cache": "other", "parallel": 1})),
        "other": Dag(load({**TEACHER, "attempts": 1})),
    }
    tasks = {name: plan.task_settings("grid-chain", "seed") for name, plan in plans.items()}
    assert tasks["annotated"] == tasks["self"] == tasks["self, two"]
    assert tasks["teacher"] == tasks["cheaper"] != tasks["other"]
    assert len({plan.task_settings("grid-chain", "train") for plan in plans.values()}) == 1
    curations = {name: plan.curation_settings(seed) for name, plan in plans.items()}
    assert len({curations[name] for name in ("annotated", "self", "self, two", "teacher")}) == 4
    assert curations["teacher"] == curations["cheaper"] == curations["other"]
    assert len({plan.curation_settings(dpo) for plan in plans.values()}) == 1


def test_a_task_s_seed_split_depends_on_its_file_and_on_the_verifier_of_a_teacher(
    load: Load, tmp_path: Path
) -> None:
    def code(path: str) -> set[str]:
        return set(json.loads(Path(path).read_text()))

    results = {"results": str(tmp_path)}
    plan = Dag(load({"kind": "annotated", "files": {"grid-chain": "a.jsonl"}}, **results))
    assert plan.rationale_files("grid-chain", "seed") == ["a.jsonl"]
    assert plan.rationale_files("grid-chain", "train") == plan.rationale_files("grid-closed", "seed") == []
    asks = Dag(load(TEACHER, **results))
    generated = asks.task_code("grid-chain", "train")
    assert generated == plan.task_code("grid-chain", "train") == plan.task_code("grid-closed", "seed")
    assert not [module for module in code(generated) if "benchmarks" in module]
    reading = code(plan.task_code("grid-chain", "seed")) - code(generated)
    assert reading == {
        "vista.answers",
        "vista.characters",
        "vista.formulae",
        "vista.responses",
        "vista.tasks.rationales",
    }
    verifying = code(asks.task_code("grid-chain", "seed")) - code(generated)
    assert {"vista.tasks.teacher", "vista.images"} <= verifying
