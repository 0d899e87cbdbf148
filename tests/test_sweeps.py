"""Sweeps become ordinary methods, methods run where they are asked to, and every mistake is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vista import grid
from vista.config import Only, SelfImprovement, Suite, Swept, load_suite
from vista.config.sweeps import slug
from vista.errors import VistaError
from vista.grid import Run
from vista.settings import NAME


def load(root: Path, **changes: Any) -> Suite:
    """The default suite, changed."""
    value = yaml.safe_load((root / "config/testbed.yaml").read_text()) | changes
    return load_suite(Path("suite.yaml"), value, root)


def message(root: Path, **changes: Any) -> str:
    with pytest.raises(VistaError) as caught:
        load(root, **changes)
    return str(caught.value)


def sweep(**changes: Any) -> dict[str, Any]:
    return {"method": "vista-sft", "set": "filter.tau", "values": [-1.5, 0.0]} | changes


def test_every_value_becomes_a_method_that_differs_in_nothing_else(root: Path) -> None:
    suite = load(root, sweeps={"tau": sweep()})
    base = suite.methods["vista-sft"]
    assert isinstance(base, SelfImprovement)
    assert list(suite.swept) == ["vista-sft+tau=-1.5", "vista-sft+tau=0"]
    for name, value in (("vista-sft+tau=-1.5", -1.5), ("vista-sft+tau=0", 0.0)):
        lower = base.filter.model_copy(update={"tau": value})
        assert suite.methods[name] == base.model_copy(update={"filter": lower})
        assert suite.swept[name] == Swept(sweep="tau", of="vista-sft", set="filter.tau", value=value)
    assert list(suite.methods)[-2:] == list(suite.swept), "after the methods that the suite names"


def test_a_swept_method_starts_from_what_the_suite_fills_in(root: Path) -> None:
    suite = load(root, sweeps={"j": sweep(set="resample.j", values=[1])})
    method = suite.methods["vista-sft+j=1"]
    assert isinstance(method, SelfImprovement)
    assert method.resample.model_dump() == {"kind": "prefix", "j": 1, "top_k": 1, "order": "swapped"}
    assert method.max_per_query == 4


def test_a_sweep_may_have_fewer_rounds_and_run_on_some_models_and_seeds(root: Path) -> None:
    only = {"models": ["nano-internvl"], "seeds": [2]}
    suite = load(root, seeds=[0, 2], sweeps={"tau": sweep(rounds=1, only=only)})
    swept = [run for run in grid.runs(suite) if run.method in suite.swept]
    assert swept == [
        Run("nano-internvl", "grids", name, 2, 1) for name in ("vista-sft+tau=-1.5", "vista-sft+tau=0")
    ]


def test_a_sweep_runs_where_its_method_does_unless_it_says_otherwise(root: Path) -> None:
    only = {"vista-sft": {"models": ["nano-internvl"], "seeds": [0]}}
    suite = load(root, seeds=[0, 1], only=only, sweeps={"tau": sweep(only={"seeds": [1]})})
    assert suite.only["vista-sft+tau=0"] == Only(models=["nano-internvl"], seeds=[1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1.5, "-1.5"),
        (0.0, "0"),
        (3, "3"),
        (1e-05, "1e-05"),
        ("original", "original"),
        ("R3V style", "r3v-style"),
        ([0.0, 0.67], "0+0.67"),
        (True, "true"),
        (None, "none"),
        ({"kind": "vas", "tau": -1}, "kind-vas+tau--1"),
    ],
)
def test_values_are_readable_in_names_that_are_paths_and_wildcards(value: Any, text: str) -> None:
    assert slug(value) == text
    run = Run("m", "t", f"vista-sft+x={text}", 0, 1)
    assert re.fullmatch(NAME, run.method)
    assert re.fullmatch(r"[^/]+/[^/]+/[^/]+/seed\d+/round\d+", run.id), "the Snakefile's wildcard"
    assert Run.parse(run.id) == run
    assert not set(run.id) & set(" '\"$&;*?<>|()`\\!#~{}"), "nothing that a shell or Snakemake reads"


def test_all_mistakes_in_sweeps_are_reported_at_once(root: Path) -> None:
    text = message(
        root,
        sweeps={
            "a": sweep(method="vista-sfd"),
            "b": sweep(set="filter.tao"),
            "c": sweep(values=["low", -0.5]),
            "d": sweep(values=[1, 1.0]),
            "e": sweep(method="sft-seed", set="rounds"),
            "f": sweep(set="restart", values=["never"]),
        },
        models=["nano-qwen"],
    )
    assert "suite.yaml: sweeps.a.method: 'vista-sfd' is not a method of the suite; did you mean" in text
    assert "sweeps.b.set: 'filter.tao' is not a setting of vista-sft; did you mean 'filter.tau'?" in text
    assert "sweeps.c.values: 'low' is not a valid filter.tau: Input should be a valid number" in text
    assert "sweeps.c.values: -0.5 is already the filter.tau of vista-sft; remove it" in text
    assert "sweeps.d.values: 1.0 gives a second method 'vista-sft+d=1'" in text
    assert "sweeps.e.set: 'rounds' is not a setting of sft-seed" in text
    assert "sweeps.f.values: 'never' is not a valid restart: Input should be 'base' or 'previous'" in text
    assert "unknown model 'nano-qwen'" in text


def test_a_swept_method_is_held_to_the_same_rules_as_any_other(root: Path) -> None:
    text = message(
        root, scoring={"layers": [0.5]}, sweeps={"layers": sweep(set="filter.layers", values=[[0.0]])}
    )
    assert "method vista-sft+layers=0: filter.layers [0.0] are not scored" in text


def test_a_method_runs_only_where_it_is_asked_to(root: Path) -> None:
    only = {"star": {"models": ["nano-internvl"]}, "dpo": {"seeds": [1]}, "vista-dpo": {}}
    suite = load(root, seeds=[0, 1], only=only)
    cells = {name: [(r.model, r.seed) for r in grid.runs(suite) if r.method == name] for name in only}
    assert cells["star"] == [("nano-internvl", 0), ("nano-internvl", 1)]
    assert cells["dpo"] == [("nano-qwen2.5-vl", 1), ("nano-internvl", 1)]
    assert len(cells["vista-dpo"]) == 4
    assert {run.seed for run in grid.runs(suite) if run.method == "zero-shot"} == {0}


def test_unknown_names_and_empty_choices_are_reported_together(root: Path) -> None:
    only = {
        "stat": {},
        "rft": {"models": ["nano-intern"], "seeds": [7]},
        "zero-shot": {"seeds": [1]},
    }
    text = message(root, seeds=[0, 1], only=only, sweeps={"tau": sweep(only={"seeds": [5]})})
    assert "only.stat: 'stat' is not among the suite's methods; did you mean 'star'?" in text
    assert "only.rft.models: 'nano-intern' is not among the suite's models; did you mean" in text
    assert "only.rft.seeds: 7 is not among the suite's seeds; it has 0, 1" in text
    assert "only.zero-shot: leaves no run of zero-shot" in text
    assert "sweeps: vista-sft+tau=0: only.seeds: 5 is not among" in text


def test_a_method_needs_its_initial_policy_wherever_it_runs(root: Path) -> None:
    text = message(root, seeds=[0, 1], only={"sft-seed": {"models": ["nano-internvl"], "seeds": [0]}})
    assert (
        "only: rest-em needs sft-seed (its initial policy), which does not run on "
        "nano-qwen2.5-vl, seed 1; widen only.sft-seed"
    ) in text
    everything_there = {
        name: {"models": ["nano-internvl"], "seeds": [0]}
        for name in yaml.safe_load((root / "config/testbed.yaml").read_text())["methods"]
        if name != "zero-shot"
    }
    assert load(root, seeds=[0, 1], only=everything_there).seeds == [0, 1]
