"""R3V and its siblings in the config, the grid and the DAG: who reads whose rollouts and weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vista import grid
from vista.config import SeedMethod, SelectMethod, SelfImprovement, Suite, load_suite, load_yaml
from vista.dag import Dag
from vista.errors import VistaError
from vista.evaluation.answering import Selection
from vista.grid import Run
from vista.planning.jobs import job_counts, rollout_files

MODEL = "nano-internvl"
EXTRA = ["star-plus", "r3v", "r3v-select", "dpo-continue"]


def suite_with(root: Path, methods: list[str], **changes: Any) -> Suite:
    value = load_yaml(root / "config/testbed.yaml")
    return load_suite(
        root / "config/testbed.yaml",
        {**value, "models": [MODEL], "methods": ["zero-shot", "sft-seed", "rest-em", *methods], **changes},
        root,
    )


@pytest.fixture(scope="module")
def suite(root: Path) -> Suite:
    return suite_with(root, EXTRA, seeds=[0, 1])


def run_of(method: str, number: int, seed: int = 0) -> Run:
    return Run(MODEL, "grids", method, seed, number)


def improving(suite: Suite, name: str) -> SelfImprovement:
    method = suite.methods[name]
    assert isinstance(method, SelfImprovement)
    return method


def complaint(root: Path, methods: list[str], **changes: Any) -> str:
    with pytest.raises(VistaError) as caught:
        suite_with(root, methods, **changes)
    return str(caught.value)


# --- the methods as they are defined ---


def test_the_baselines_are_as_their_papers_define_them(root: Path) -> None:
    value = {**load_yaml(root / "config/testbed.yaml"), "method_defaults": {}, "method_overrides": {}}
    value["methods"] = ["zero-shot", "sft-seed", "star", "rft", "rest-em", *EXTRA]
    suite = load_suite(root / "config/testbed.yaml", value, root)
    star, rft, plus, r3v, again = (
        improving(suite, name) for name in ("star", "rft", "star-plus", "r3v", "dpo-continue")
    )
    assert (star.rollouts.k, star.rollouts.temperature, star.resample.kind) == (1, 0.0, "rationalize")
    assert (rft.rollouts.temperature, rft.rounds, rft.dedupe, rft.mix_seed) == (0.7, 1, True, True)
    assert (plus.rollouts.k, plus.resample.kind, plus.rounds, plus.restart) == (10, "rationalize", 3, "base")
    assert (r3v.rollouts.k, r3v.rollouts.temperature, r3v.rounds, r3v.restart) == (10, 1.0, 3, "base")
    assert (r3v.accumulate, r3v.reflect, r3v.objective.kind) == (True, ["refine", "select"], "sft")
    assert (again.objective.kind, again.rounds, again.restart) == ("dpo", 3, "previous")
    selecting = suite.methods["r3v-select"]
    assert isinstance(selecting, SelectMethod)
    assert (selecting.of, selecting.k, selecting.temperature) == ("r3v", 3, 1.0)


def test_methods_that_cannot_be_are_all_reported_at_once(root: Path, tmp_path: Path) -> None:
    methods = load_yaml(root / "config/methods.yaml")
    methods["of-nobody"] = {"kind": "select", "of": "r3w"}
    methods["of-seed"] = {"kind": "select", "of": "sft-seed"}
    methods["of-select"] = {"kind": "select", "of": "r3v-select"}
    methods["reflective-dpo"] = {**methods["dpo"], "reflect": ["refine"]}
    methods["from-select"] = {**methods["rest-em"], "initial_policy": "r3v-select"}
    (tmp_path / "methods.yaml").write_text(str(methods))  # YAML takes Python's notation
    names = ["r3v", "r3v-select", "of-nobody", "of-seed", "of-select", "reflective-dpo", "from-select"]
    message = complaint(root, names, methods_file=str(tmp_path / "methods.yaml"))
    assert "method of-nobody: of 'r3w' is not among the suite's methods; did you mean 'r3v'?" in message
    assert "method of-seed: of 'sft-seed' is of kind seed" in message
    assert "method of-select: of 'r3v-select' is of kind select" in message
    assert "method reflective-dpo: reflect ['refine'] makes examples, but objective dpo" in message
    assert "method from-select: initial_policy 'r3v-select' must be" in message
    assert message.count("\n") == 5


def test_a_wording_without_its_placeholder_is_an_error_of_the_suite(root: Path) -> None:
    message = complaint(root, ["r3v"], wording={"refine": "correct it", "chosen": "{answer}"})
    assert "wording.refine: " in message
    assert "{instruction}, {solution}" in message
    assert "wording.chosen: " in message


# --- the grid ---


def test_a_selecting_method_has_the_rounds_and_seeds_of_the_one_it_decodes(suite: Suite) -> None:
    found = [replace(run, method="r3v") for run in grid.runs(suite) if run.method == "r3v-select"]
    assert found == [run for run in grid.runs(suite) if run.method == "r3v"]
    assert len(found) == 2 * 3
    held = suite.model_copy(update={"max_rounds": {MODEL: 1}})
    assert list(grid.rounds(held, "r3v-select", MODEL)) == [1]


def test_a_selecting_run_has_the_weights_of_the_run_it_decodes_and_none_of_its_own(suite: Suite) -> None:
    selecting, decoded = run_of("r3v-select", 2, 1), run_of("r3v", 2, 1)
    assert grid.weights(suite, selecting) == decoded == grid.weights(suite, decoded)
    assert not grid.is_trained(suite, selecting)
    assert grid.is_trained(suite, decoded)
    assert grid.weights(suite, run_of("zero-shot", 0)) == run_of("zero-shot", 0)
    assert Dag(suite).checkpoint(selecting.id) == Dag(suite).checkpoint(decoded.id)
    assert decoded.id in Dag(suite).checkpoint(selecting.id)


def test_nobody_samples_rollouts_from_a_selecting_method(suite: Suite) -> None:
    assert not any("r3v-select" in file.policy.id for file in rollout_files(suite))
    with pytest.raises(VistaError, match="has no rollouts"):
        grid.policy(suite, run_of("r3v-select", 2))


def test_the_method_that_continues_starts_from_its_last_round(suite: Suite) -> None:
    assert grid.restart(suite, run_of("dpo-continue", 3)) == run_of("dpo-continue", 2)
    assert grid.restart(suite, run_of("dpo-continue", 1)) == run_of("sft-seed", 0)


# --- the DAG ---


def test_a_round_of_r3v_reads_the_rollouts_of_all_policies_so_far(suite: Suite) -> None:
    def policies(run: Run) -> list[str]:
        paths = [path for path in Dag(suite).curation_inputs(run.id) if "/rollouts/" in path]
        return [path.split("/rollouts/")[1].split("/samples/")[0] for path in paths]

    seed, first, second = run_of("sft-seed", 0), run_of("r3v", 1), run_of("r3v", 2)
    assert policies(run_of("r3v", 3)) == [second.id, first.id, seed.id]
    assert policies(first) == [seed.id]
    assert policies(run_of("rest-em", 3)) == [run_of("rest-em", 2).id]


def test_accumulating_and_selecting_add_no_sampling_jobs(root: Path) -> None:
    plain = job_counts(suite_with(root, [], seeds=[0]))
    pooled = job_counts(suite_with(root, ["r3v"], seeds=[0]))
    selecting = job_counts(suite_with(root, ["r3v", "r3v-select"], seeds=[0]))
    # Rounds 2 and 3 sample from r3v's own checkpoints; round 1 shares the samples of SFT-Seed.
    assert pooled["sample"] == plain["sample"] + 2
    assert selecting == {**pooled, "evaluate": pooled["evaluate"] + 3}


def test_settings_change_with_what_they_depend_on_alone(suite: Suite) -> None:
    def digests(changed: Suite) -> dict[str, str]:
        dag = Dag(changed)
        return {
            "model": dag.model_settings(MODEL),
            "r3v": dag.curation_settings(run_of("r3v", 1).id),
            "rest-em": dag.curation_settings(run_of("rest-em", 1).id),
            "hinted": dag.rollout_settings(
                "resamples", str(grid.rollout_files(improving(changed, "star-plus")).resamples)
            ),
            "select": dag.evaluation_settings(run_of("r3v-select", 1).id),
            "greedy": dag.evaluation_settings(run_of("r3v", 1).id),
        }

    def changed(**words: str) -> set[str]:
        wording = suite.wording.model_copy(update=words)
        after = digests(suite.model_copy(update={"wording": wording}))
        return {name for name, before in digests(suite).items() if after[name] != before}

    assert changed(hint="{answer} {instruction}") == {"model", "hinted"}
    assert changed(refine="{solution} {instruction}") == {"r3v"}
    assert changed(select="{candidates} {instruction}") == {"r3v", "select"}
    assert changed(chosen="the answer is {answer}") == {"r3v"}


# --- evaluation ---


def test_only_a_selecting_run_is_evaluated_with_a_selection(suite: Suite) -> None:
    selection = Selection.of(suite, run_of("r3v-select", 3))
    assert selection == Selection(run_of("r3v", 3).id, 3, 1.0, suite.wording)
    assert Selection.of(suite, run_of("r3v", 3)) is None


def test_nothing_of_a_selecting_method_is_trained_on(suite: Suite) -> None:
    assert not suite.methods["r3v-select"].trains_on_seed
    assert isinstance(suite.methods["sft-seed"], SeedMethod)
    assert not any("r3v-select" in path and "/evaluation/" not in path for path in Dag(suite).manifests())
