"""Entries that a suite holds itself, and external methods: what a config may say, and which jobs follow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vista import grid
from vista.analysis.comparisons import contrasts
from vista.config import ExternalMethod, Suite, json_schemas, load_suite, load_yaml
from vista.dag import Dag
from vista.errors import VistaError
from vista.planning.jobs import JobTree, job_counts
from vista.reads import Reads

CHECKPOINTS = {"kind": "external", "checkpoints": {"nano-smoke": "mine"}}
PREDICTIONS = {"kind": "external", "predictions": {"nano-smoke": "told.csv"}}
SEEDS = {"kind": "external", "rounds": 2, "checkpoints": {"nano-smoke": "rl/{seed}/{round}"}}


def suite_with(root: Path, *methods: Any, **changes: Any) -> Suite:
    """The smoke suite with more methods."""
    raw = load_yaml(root / "config/smoke.yaml")
    return load_suite(Path("mine.yaml"), {**raw, "methods": [*raw["methods"], *methods], **changes}, root)


def refused(root: Path, *methods: Any, **changes: Any) -> str:
    with pytest.raises(VistaError) as caught:
        suite_with(root, *methods, **changes)
    return str(caught.value)


def test_a_suite_may_hold_entries_of_models_and_methods_itself(root: Path) -> None:
    model = {"kind": "path", "path": "model"}
    suite = suite_with(
        root,
        {"short": {"kind": "self-improvement", "objective": {"kind": "sft"}}},
        models=["nano-smoke", {"mine": model}],
        prompts={"suffix": "Think."},
        sweeps={"k": {"method": "short", "set": "rollouts.k", "values": [2]}},
        only={"short": {"models": ["mine"]}},
        method_overrides={"short": {"rounds": 2}},
    )
    short = suite.methods["short"]
    assert (short.rollouts.k, short.rounds, short.max_per_query) == (6, 2, 4)  # the suite's defaults count
    assert suite.methods["short+k=2"].rollouts.k == 2
    assert suite.where("short") == (["mine"], [0])
    assert suite.models["mine"].prompts.suffix == "Think."


def test_the_schema_takes_the_same_entries(root: Path) -> None:
    raw, schema = load_yaml(root / "config/smoke.yaml"), json_schemas()["suite"]
    jsonschema.validate({**raw, "methods": ["sft-seed", {"my-rl": CHECKPOINTS}]}, schema)
    for wrong in ({"my-rl": {**CHECKPOINTS, "seed": 1}}, {"a": CHECKPOINTS, "b": CHECKPOINTS}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**raw, "methods": [wrong]}, schema)


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ([{"star": CHECKPOINTS}], "methods: star: .*methods.yaml has an entry of this name"),
        ([{"a": CHECKPOINTS}, {"a": PREDICTIONS}], "methods: 'a' appears twice"),
        ([{"a": CHECKPOINTS, "b": CHECKPOINTS}], "expected a name, or one new name with its entry"),
        ([{"a": {"kind": "externl"}}], "mine.yaml: methods: a: Input tag 'externl'"),
        ([{"a": {**CHECKPOINTS, "roundz": 2}}], "mine.yaml: methods: a.*roundz: unknown key; did you mean"),
        ([{"a": {**CHECKPOINTS, **PREDICTIONS}}], "either checkpoints or predictions"),
        ([{"a": {"kind": "external"}}], "either checkpoints or predictions"),
        ([{"a": {**CHECKPOINTS, "missing": "unanswered"}}], "missing is about predictions"),
        ([{"a": {**CHECKPOINTS, "rounds": 2}}], r"do not name \{round\}"),
        ([{"a": {"kind": "external", "checkpoints": {"nano-smoke": "x{step}"}}}], r"\{step\} is none of"),
        (
            [{"a": {"kind": "external", "checkpoints": {"nano-smok": "x"}}}],
            "method a: checkpoints: 'nano-smok' is not among the suite's models; did you mean 'nano-smoke'",
        ),
        (
            [{"a": {"kind": "external", "checkpoints": {"nano-smoke": "x{seed}", "other": "x"}}}],
            r"the same of \{seed\} and \{round\}",
        ),
        ([{"a": PREDICTIONS}, {"b": {"kind": "select", "of": "a"}}], "is of kind external, with predictions"),
        (
            [{"a": PREDICTIONS}, {"b": {"kind": "self-improvement", "initial_policy": "a"}}],
            "initial_policy 'a' must be .*external with checkpoints",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_config_is_read(root: Path, methods: Any, said: str) -> None:
    assert re.search(said, refused(root, *methods))


def test_an_external_method_has_a_run_for_each_seed_and_round_that_its_paths_name(root: Path) -> None:
    suite = suite_with(root, {"one": CHECKPOINTS}, {"all": SEEDS}, {"told": PREDICTIONS}, seeds=[3, 4])
    runs = {
        name: [(run.seed, run.round) for run in grid.runs(suite) if run.method == name]
        for name in ("one", "all", "told")
    }
    assert runs == {"one": [(3, 1)], "all": [(3, 1), (3, 2), (4, 1), (4, 2)], "told": [(3, 1)]}
    last = grid.Run("nano-smoke", "grids", "all", 4, 2)
    assert grid.given(suite, last) == Path("rl/4/2")
    assert not grid.is_trained(suite, last)
    assert Reads(suite, Dag(suite).paths).checkpoint(last) == suite.results / "external" / last.id


def test_only_the_models_that_it_names_have_rows_and_their_checkpoints_can_be_selected_from(
    root: Path,
) -> None:
    suite = suite_with(
        root,
        {"all": SEEDS},
        {"chosen": {"kind": "select", "of": "all"}},
        models=["nano-smoke", "nano-internvl"],
        seeds=[0, 1],
    )
    for name in ("all", "chosen"):
        assert {run.model for run in grid.runs(suite) if run.method == name} == {"nano-smoke"}
    chosen = grid.Run("nano-smoke", "grids", "chosen", 1, 2)
    assert "external/nano-smoke/grids/all/seed1/round2" in Dag(suite).checkpoint(chosen.id)


def test_rollouts_can_be_sampled_from_an_external_checkpoint(root: Path) -> None:
    own = {"kind": "self-improvement", "initial_policy": "all", "objective": {"kind": "sft"}}
    suite = suite_with(root, {"all": SEEDS}, {"next": own})
    run = grid.Run("nano-smoke", "grids", "next", 0, 1)
    assert grid.policy(suite, run) == grid.Run("nano-smoke", "grids", "all", 0, 2)
    assert "adopt" in {job.rule for job in JobTree(suite).of_run(run)}
    said = refused(root, {"all": SEEDS}, {"next": own}, models=["nano-smoke", "nano-internvl"])
    assert (
        "next needs all (its initial policy), which does not run on nano-internvl; limit next by only" in said
    )


def test_an_external_method_adds_its_own_jobs_and_no_curation_or_training(root: Path) -> None:
    before = job_counts(suite_with(root))
    after = job_counts(suite_with(root, {"all": SEEDS}, {"told": PREDICTIONS}))
    own = {rule: after[rule] - before.get(rule, 0) for rule in after if after[rule] != before.get(rule, 0)}
    assert own == {"adopt": 2, "evaluate": 2, "grade": 1}


def test_what_no_train_set_has_a_part_in_is_taken_in_and_evaluated_once_for_all_of_them(root: Path) -> None:
    methods = [{"all": SEEDS}, {"chosen": {"kind": "select", "of": "all"}}, {"told": PREDICTIONS}]
    own = {"kind": "self-improvement", "initial_policy": "all", "objective": {"kind": "sft"}}
    sets = {name: [f"grid-{name}"] for name in ("closed", "chain")}
    asked = {
        "kind": "endpoint",
        "endpoint": "http://127.0.0.1:1/v1",
        "model": "m",
        "cache": "c",
        "max_requests": 9,
    }
    changes: dict[str, Any] = {"models": ["nano-smoke", {"asked": asked}], "seeds": [0, 1]}
    suite = suite_with(root, *methods, {"next": own}, train_sets=sets, **changes)
    dag, apart = Dag(suite), suite_with(root, *methods, {"next": own}, **changes)
    once = [run for run in grid.evaluations(suite) if run.method in ("zero-shot", "all", "chosen", "told")]
    assert len(once) == 2 + 4 + 4 + 1
    assert {run.train_set for run in once} == {"closed"}
    counted, alone = job_counts(suite), job_counts(apart)
    trained = sum(grid.is_trained(suite, run) for run in grid.runs(suite))
    assert counted["evaluate"] == trained + 1 + 4 + 4
    assert [counted[rule] for rule in ("adopt", "ask", "grade")] == [4, 1, 1]
    assert [alone[rule] for rule in ("adopt", "ask", "grade")] == [4, 1, 1]
    assert len(dag.predictions()) == len(set(dag.predictions())) == trained + len(once)
    for run in grid.runs(suite):
        stands = grid.evaluated(suite, run)
        assert str(dag.reads.predictions(run)) in dag.predictions()
        assert JobTree(suite).of_run(run) == JobTree(suite).of_run(stands)
        if run.method != "told" and run.model not in suite.endpoints:
            assert dag.checkpoint(run.id) == dag.checkpoint(stands.id)
    # The rollouts are those of each train set's queries.
    later = grid.Run("nano-smoke", "chain", "next", 0, 1)
    assert grid.policy(suite, later).train_set == "chain"
    assert "external/nano-smoke/closed/all/seed0/round2" in dag.checkpoint(grid.policy(suite, later).id)


def test_each_run_is_made_by_one_rule(root: Path) -> None:
    dag = Dag(suite_with(root, {"told": PREDICTIONS}, {"told.more": CHECKPOINTS}))
    runs = [run.id for run in grid.runs(dag.suite)]
    graded = [run for run in runs if re.fullmatch(dag.graded(), run)]
    assert graded == ["nano-smoke/grids/told/seed0/round1"]
    assert [run for run in runs if not re.fullmatch(dag.evaluated(), run)] == graded
    without = Dag(suite_with(root))
    assert not any(re.fullmatch(without.graded(), run) for run in runs)
    assert all(re.fullmatch(without.evaluated(), run) for run in runs)


def test_what_is_missing_is_named_before_any_job_starts(root: Path, tmp_path: Path) -> None:
    empty = {"kind": "external", "checkpoints": {"nano-smoke": str(tmp_path)}}
    suite = suite_with(
        root, {"all": SEEDS}, {"told": PREDICTIONS}, {"empty": empty}, results=str(tmp_path / "r")
    )
    with pytest.raises(VistaError) as caught:
        Dag(suite).refuse_missing()
    for said in (
        "method all: checkpoints.nano-smoke: rl/0/2: no such folder",
        "method told: predictions.nano-smoke: told.csv: no such file",
        "no checkpoint or adapter in this folder",
    ):
        assert said in str(caught.value)


def test_the_files_that_count_are_those_of_a_checkpoint(root: Path, tmp_path: Path) -> None:
    """What a trainer leaves to resume from may be as large as the weights, and code-carrying pickles."""
    for name in ("config.json", "model.safetensors", "chat_template.jinja", "optimizer.pt", ".hidden.json"):
        (tmp_path / name).write_text("{}")
    own = {"kind": "external", "checkpoints": {"nano-smoke": str(tmp_path)}}
    dag = Dag(suite_with(root, {"mine": own}))
    given = {Path(file).name for file in dag.given("nano-smoke/grids/mine/seed0/round1")}
    assert given == {"config.json", "model.safetensors", "chat_template.jinja"}


def test_external_methods_are_compared_with_sft_seed(root: Path) -> None:
    suite = suite_with(root, {"all": SEEDS}, {"told": PREDICTIONS})
    found = {(each.method, each.against) for each in contrasts(suite) if each.kind == "seed"}
    assert {("all", "sft-seed"), ("told", "sft-seed")} <= found
    assert isinstance(suite.methods["all"], ExternalMethod)
