"""The grid expands as documented, and shared work is named once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vista import grid
from vista.config import Sampling, SelfImprovement, Suite, load_suite, load_yaml
from vista.config.sweeps import slug
from vista.errors import VistaError
from vista.filters.vig import VigSettings
from vista.grid import Run
from vista.resamplers import ResampleSettings
from vista.resamplers.budget_matched import BudgetMatchedSettings
from vista.resamplers.gold_prefix import GoldPrefixSettings
from vista.resamplers.prefix import PrefixSettings
from vista.resamplers.random_prefix import RandomPrefixSettings
from vista.resamplers.rationalize import RationalizeSettings
from vista.settings import NAME, spelled

NAMES = st.from_regex(r"[a-z0-9][a-z0-9.+-]{0,8}", fullmatch=True)


FILTERED = ["vista-sft", "random-drop", "vig", "logprob", "oracle-filter"]


@pytest.fixture(scope="module")
def suite(root: Path) -> Suite:
    return load_suite(root / "config/testbed.yaml", root=root)


@pytest.fixture(scope="module")
def controls(root: Path) -> Suite:
    """The testbed with the controls of the filter."""
    raw = load_yaml(root / "config/testbed.yaml")
    return load_suite(root / "config/testbed.yaml", {**raw, "methods": ["sft-seed", *FILTERED]}, root)


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**31), 2**31 - 1),
    st.sampled_from([1, 1.0]),
)
TEMPERATURES = st.one_of(st.floats(0.01, 100.0), st.sampled_from([0.0, -0.0, 1.0, 0.7, 1 + 1e-8, 1 + 1e-15]))


@given(NUMBERS, NUMBERS)
def test_numbers_are_spelled_alike_if_and_only_if_they_are_equal(one: float, other: float) -> None:
    assert float(spelled(one)) == one
    assert (spelled(one) == spelled(other)) == (one == other)
    assert spelled(one) == slug(one)
    assert re.fullmatch(NAME, f"x{spelled(one)}")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        *((1.0, "1"), (1, "1"), (0.7, "0.7"), (0.0, "0"), (-0.5, "-0.5"), (1e-05, "1e-05"), (0.34, "0.34")),
        *((1000000, "1e+06"), (1234567, "1234567"), (1234567.0, "1234567"), (1 + 1e-8, "1.00000001")),
    ],
)
def test_ordinary_numbers_have_short_names(number: float, name: str) -> None:
    assert spelled(number) == name


@given(*[st.integers(1, 99)] * 2, *[TEMPERATURES] * 2, *[st.integers(1, 2**31 - 1)] * 2)
def test_samplings_have_one_name_if_and_only_if_they_are_the_same(
    k: int, other_k: int, heat: float, other_heat: float, limit: int, other_limit: int
) -> None:
    one = Sampling(k=k, temperature=heat, max_new_tokens=limit)
    other = Sampling(k=other_k, temperature=other_heat, max_new_tokens=other_limit)
    assert (one.slug == other.slug) == (one == other)
    warm = [
        RationalizeSettings(kind="rationalize", j=j, temperature=t)
        for j, t in ((k, heat), (other_k, other_heat))
    ]
    assert (warm[0].slug == warm[1].slug) == (warm[0] == warm[1])


@pytest.mark.parametrize(
    "settings",
    [PrefixSettings, RandomPrefixSettings, GoldPrefixSettings, BudgetMatchedSettings, RationalizeSettings],
)
def test_every_setting_of_a_resampler_is_in_its_name(settings: type[ResampleSettings]) -> None:
    others = {"j": 7, "top_k": 9, "order": "original", "temperature": 0.123456789, "match": "samples"}
    (kind,) = get_args(settings.model_fields["kind"].annotation)
    plain = settings(kind=kind)
    fields = [name for name in settings.model_fields if name != "kind"]
    names = [plain.model_copy(update={name: others[name]}).slug for name in fields]
    assert len({plain.slug, *names}) == 1 + len(fields)


@given(NAMES, NAMES, NAMES, st.integers(0, 999), st.integers(0, 9))
def test_a_run_is_its_id(model: str, train_set: str, method: str, seed: int, number: int) -> None:
    run = Run(model, train_set, method, seed, number)
    assert Run.parse(run.id) == run


@pytest.mark.parametrize("text", ["", "a/b/c", "a/b/c/seed1/1", "a/b/c/seedx/round1"])
def test_what_is_no_run_is_refused(text: str) -> None:
    with pytest.raises(VistaError, match="is not a run"):
        Run.parse(text)


def test_the_default_grid_has_one_run_per_model_method_seed_and_round(suite: Suite) -> None:
    found = grid.runs(suite)
    of_a_seed = 1 + 1 + 1 + 3 + 3 + 1 + 1 + 1 + 1
    assert len(found) == len(set(found)) == 2 * (1 + 3 * of_a_seed)  # the base model has no seed


def test_round_one_is_sampled_by_the_seed_model_and_later_rounds_by_the_round_before(suite: Suite) -> None:
    first = Run("nano-internvl", "grids", "vista-sft", 0, 1)
    third = Run("nano-internvl", "grids", "vista-sft", 0, 3)
    assert grid.policy(suite, first) == Run("nano-internvl", "grids", "sft-seed", 0, 0)
    assert grid.policy(suite, third) == Run("nano-internvl", "grids", "vista-sft", 0, 2)


def test_every_round_restarts_from_the_base_unless_the_method_goes_on(suite: Suite) -> None:
    restarts = {run: grid.restart(suite, run) for run in grid.runs(suite)}
    going_on = {run for run, start in restarts.items() if start is not None}
    assert going_on == {run for run in restarts if run.method in ("dpo-continue", "vista-dpo-continue")}
    assert all(restarts[run] == Run(run.model, "grids", "sft-seed", run.seed, 0) for run in going_on)


def test_a_method_may_go_on_from_the_round_before(suite: Suite) -> None:
    methods = dict(suite.methods)
    method = methods["rest-em"]
    assert isinstance(method, SelfImprovement)
    methods["rest-em"] = method.model_copy(update={"restart": "previous"})
    changed = suite.model_copy(update={"methods": methods})
    second = Run("nano-internvl", "grids", "rest-em", 0, 2)
    assert grid.restart(changed, second) == Run("nano-internvl", "grids", "rest-em", 0, 1)


def test_methods_that_sample_alike_share_one_file(suite: Suite) -> None:
    def files(name: str) -> grid.RolloutFiles:
        method = suite.methods[name]
        assert isinstance(method, SelfImprovement)
        return grid.rollout_files(method)

    assert files("rest-em").samples == files("vista-sft").samples == files("dpo").samples
    assert files("vista-sft") == files("vista-dpo")
    assert files("rft").samples != files("rest-em").samples
    assert files("rest-em").resamples is None
    assert files("rest-em").scores is None


def test_a_pass_over_solutions_is_shared_by_all_filters_that_read_it(controls: Suite) -> None:
    def files(name: str) -> grid.RolloutFiles:
        return grid.rollout_files(grid.self_improvement(controls, Run("m", "t", name, 0, 1)))

    everywhere = "k10-t1-n80+prefix-j3-top1-swapped+positives"
    assert files("vista-sft").scores == files("random-drop").scores == everywhere
    assert files("vig").gains == files("logprob").gains == everywhere
    assert files("vista-sft").gains is files("random-drop").gains is None
    assert files("vig").scores is files("logprob").scores is None
    assert files("oracle-filter").scores is files("oracle-filter").gains is None
    assert len({(files(name).samples, files(name).resamples) for name in FILTERED}) == 1
    assert grid.method_with(controls, "gains", everywhere).filter.reads == "gains"


def test_a_pass_over_all_solutions_is_another_one(controls: Suite) -> None:
    method = grid.self_improvement(controls, Run("m", "t", "vig", 0, 1))
    wide = method.model_copy(update={"filter": VigSettings(kind="vig", scope="all")})
    assert grid.rollout_files(wide).gains == "k10-t1-n80+prefix-j3-top1-swapped+all"


def test_the_settings_behind_a_file_are_found_by_its_name(suite: Suite) -> None:
    for method in suite.methods.values():
        if isinstance(method, SelfImprovement):
            name = grid.rollout_files(method).samples
            assert grid.sampling_named(suite, name) == method.rollouts
    with pytest.raises(VistaError, match="no method of suite"):
        grid.sampling_named(suite, "k99-t1-n80")


def resampled(suite: Suite, **resample: Any) -> Suite:
    """The suite with VISTA alone, which resamples so."""
    method = suite.methods["vista-sft"]
    assert isinstance(method, SelfImprovement)
    changed = SelfImprovement.model_validate({**method.model_dump(), "resample": resample})
    return suite.model_copy(update={"methods": {"sft-seed": suite.methods["sft-seed"], "vista": changed}})


@pytest.mark.parametrize(
    ("resample", "name"),
    [
        ({"kind": "prefix", "top_k": 1}, "k10-t1-n80+prefix-j3-top1-swapped"),
        ({"kind": "rationalize"}, "k10-t1-n80+rationalize-j1-t0"),
        ({"kind": "budget-matched", "top_k": 1}, "k10-t1-n80+budget-of-prefix-j3-top1-swapped"),
        ({"kind": "budget-matched", "match": "samples"}, "k10-t1-n80+number-of-prefix-j3-top5-swapped"),
        ({"kind": "random-prefix", "order": "original"}, "k10-t1-n80+random-prefix-j3-top5-original"),
        ({"kind": "gold-prefix", "j": 2}, "k10-t1-n80+gold-prefix-j2"),
    ],
)
def test_resamples_are_named_by_all_that_decides_them_and_found_by_that_name(
    suite: Suite, resample: dict[str, Any], name: str
) -> None:
    changed = resampled(suite, **resample)
    method = changed.methods["vista"]
    assert isinstance(method, SelfImprovement)
    assert grid.rollout_files(method).resamples == name
    work = grid.resampling_named(changed, name)
    assert (work.sampling, work.settings) == (method.rollouts, method.resample)
    assert work.inputs[0] == ("samples", "k10-t1-n80")
    with pytest.raises(VistaError, match="asks for resamples 'k10-t1-n80\\+prefix-j9'"):
        grid.resampling_named(changed, "k10-t1-n80+prefix-j9")


@pytest.mark.parametrize("kind", ["budget-matched", "random-prefix"])
def test_a_matched_control_needs_the_very_file_that_prefix_resampling_writes(suite: Suite, kind: str) -> None:
    vista = suite.methods["vista-sft"]
    assert isinstance(vista, SelfImprovement)
    prefix = grid.rollout_files(vista).resamples
    # Nobody else in this suite resamples from prefixes.
    changed = resampled(suite, kind=kind, top_k=1)
    work = grid.resampling_named(changed, f"k10-t1-n80+{changed.methods['vista'].resample.slug}")
    assert work.inputs == [("samples", "k10-t1-n80"), ("resamples", prefix)]
    matched = grid.resampling_named(changed, str(prefix))
    assert matched.settings == vista.resample
    assert matched.inputs == [("samples", "k10-t1-n80")]


def test_a_model_may_be_held_to_fewer_rounds_than_its_methods_have(suite: Suite) -> None:
    held = suite.model_copy(update={"max_rounds": {"nano-internvl": 1}})

    def rounds(model: str) -> dict[str, list[int]]:
        return {name: list(grid.rounds(held, name, model)) for name in held.methods}

    assert rounds("nano-internvl") == {
        name: [0] if name in ("zero-shot", "sft-seed") else [1] for name in held.methods
    }
    assert rounds("nano-qwen2.5-vl")["vista-sft"] == [1, 2, 3]
    assert rounds("nano-qwen2.5-vl")["star"] == [1], "the limit gives no round that a method lacks"
    assert len(grid.runs(held)) == (1 + 3 * (1 + 8)) + (1 + 3 * (1 + 4 + 2 + 3 + 3))
