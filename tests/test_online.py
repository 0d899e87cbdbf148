"""Methods that sample as they train: what a suite may say of them, and what their jobs read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.test_config import change, files, message
from vista import grid
from vista.config import GrpoSettings, OnlineMethod, Suite, load_suite
from vista.dag import Dag
from vista.grid import Run
from vista.paths import Paths
from vista.reads import Reads
from vista.rewards.faithful import FaithfulSettings

__all__ = ["files"]
GRPO = {"kind": "online", "rounds": 2}


def added(files: Path, **methods: dict[str, Any]) -> Path:
    """The smoke suite with these methods as well."""
    change(files / "config/methods.yaml", lambda v: v.update(methods))
    change(files / "config/smoke.yaml", lambda v: v["methods"].extend(methods))
    change(files / "config/smoke.yaml", lambda v: v["training"].update(grpo={"epochs": 1, "batch_size": 24}))
    return files


def loaded(files: Path) -> Suite:
    return load_suite(files / "config/smoke.yaml", root=files)


def test_an_online_method_starts_from_sft_seed_and_goes_on_from_its_own_rounds(files: Path) -> None:
    suite = loaded(added(files, mine=GRPO))
    first, second = (run for run in grid.runs(suite) if run.method == "mine")
    assert grid.restart(suite, first) == Run(first.model, first.train_set, "sft-seed", first.seed, 0)
    assert grid.restart(suite, second) == first
    reads = Reads(suite, Paths(Path("results")))
    assert reads.curation(first).rollouts == []
    assert reads.curation(first).queries == reads.queries(first, "train")


def test_the_suites_defaults_say_how_it_samples(files: Path) -> None:
    suite = loaded(added(files, mine=GRPO))
    method = suite.methods["mine"]
    assert isinstance(method, OnlineMethod)
    assert (method.rollouts.k, method.rollouts.max_new_tokens) == (6, 80)
    assert method.objective == GrpoSettings(kind="grpo")


def test_no_rollouts_are_made_for_it(files: Path) -> None:
    names = [
        {(run.method, kind) for run in grid.runs(suite) for kind in (grid.sources(suite, run).policies)}
        for suite in (loaded(files), loaded(added(files, mine=GRPO)))
    ]
    assert len(names[0]) == len(names[1])


def test_all_that_is_wrong_with_it_is_told_at_once(files: Path) -> None:
    scene = {"kind": "online", "objective": {"kind": "grpo", "reward": {"kind": "faithful"}}}
    added(files, mine={**GRPO, "initial_policy": "star"}, seeing=scene)
    zero = files / "zero3.yaml"
    zero.write_text("distributed_type: DEEPSPEED\n")

    def edit(value: dict[str, Any]) -> None:
        value["training"]["grpo"] |= {"batch_size": 16, "sampling_strategy": "group_by_length"}
        local = {"kind": "path", "path": "data"}
        sizes = {"seed": 2, "train": 2, "test": 2}
        value["tasks"]["slake"] = {"kind": "slake", "source": local, "sizes": sizes}
        value["train_sets"]["both"] = [next(iter(value["tasks"])), "slake"]

    change(files / "config/smoke.yaml", edit)
    change(
        files / "models.yaml",
        lambda v: v["nano-smoke"].update(training={"processes": 2, "accelerate": str(zero)}),
    )
    text = message(files)
    for said in (
        "method mine: initial_policy 'star' must be among the suite's methods and be of kind base or seed",
        "training.grpo.sampling_strategy: 'group_by_length' would need to know how long responses are before",
        "training.grpo.batch_size: 16 responses are not whole groups of 6 (rollouts.k of method mine) in "
        "each of 2 processes for model nano-smoke; make batch_size a multiple of 12",
        "zero3.yaml spreads the weights of model nano-smoke by DeepSpeed, and a method of kind",
        "method seeing: reward 'faithful' looks at the scene, but task 'slake' (kind: slake) has none",
    ):
        assert said in text, text


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"rollouts": {"k": 1}}, "a group needs responses that can differ"),
        ({"rollouts": {"temperature": 0.0}}, "a group needs responses that can differ"),
        ({"filter": {"kind": "vas"}}, "filter"),
        ({"objective": {"kind": "sft"}}, "grpo"),
        ({"objective": {"kind": "grpo", "reward": {"kind": "corect"}}}, "did you mean 'correct'?"),
        ({"objective": {"kind": "grpo", "beta": -0.1}}, "beta"),
        ({"objective": {"kind": "grpo", "loss_type": "ppo"}}, "loss_type"),
    ],
)
def test_a_mistake_in_its_entry_names_the_field(files: Path, field: dict[str, Any], said: str) -> None:
    text = message(added(files, mine={**GRPO, **field}))
    assert "mine" in text
    assert said in text


def test_its_budget_are_the_rollouts_of_another_method_which_are_made_first(files: Path) -> None:
    suite = loaded(added(files, mine={**GRPO, "rounds": 1, "budget": {"tokens_of": "vista-sft"}}))
    run = next(run for run in grid.runs(suite) if run.method == "mine")
    other = replace(run, method="vista-sft")
    files_of = Reads(suite, Paths(suite.results)).curation(other).policies[0].solutions
    assert Dag(suite).training_budget(run.id) == [str(file) for file in files_of]
    assert Dag(suite).training_budget(other.id) == []


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("vista", "budget.tokens_of: 'vista' is not among the suite's methods; name one of kind self"),
        ("sft-seed", "budget.tokens_of: 'sft-seed' is of kind seed; name one of kind self-improvement"),
        ("vista-sft", "'vista-sft' has 1 rounds, but mine has 2; set the rounds of mine to 1 at most"),
    ],
)
def test_a_budget_of_no_method_that_samples_as_often_is_refused(files: Path, budget: str, said: str) -> None:
    added(files, mine={**GRPO, "budget": {"tokens_of": budget}})
    change(files / "config/methods.yaml", lambda v: v["vista-sft"].update(rounds=1))
    change(files / "config/smoke.yaml", lambda v: v.get("method_overrides", {}).pop("vista-sft", None))
    assert said in message(files)


def test_its_reward_and_its_sampling_decide_its_training_alone(files: Path, tmp_path: Path) -> None:
    plain = loaded(added(files, mine=GRPO))
    method = plain.methods["mine"]
    assert isinstance(method, OnlineMethod)
    faithful = method.objective.model_copy(update={"reward": FaithfulSettings(kind="faithful")})
    colder = method.rollouts.model_copy(update={"temperature": 0.5})
    run = next(run.id for run in grid.runs(plain) if run.method == "mine")
    for change_of in ({"objective": faithful}, {"rollouts": colder}):
        changed = plain.model_copy(
            update={"methods": {**plain.methods, "mine": method.model_copy(update=change_of)}}
        )
        one, other = Dag(plain), Dag(changed)
        assert one.training_settings(run) != other.training_settings(run)
        assert one.curation_settings(run) == other.curation_settings(run)
