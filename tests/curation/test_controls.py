"""The controls of the attention filter: at random, by log-probability, by the audit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.curation.conftest import CONTROLS, Folder, gain, rollout, score
from tests.curation.test_filters import row, solution
from vista.config import SelfImprovement, Suite
from vista.curation.curate import curate
from vista.errors import VistaError
from vista.filters import Context
from vista.filters.logprob import LogprobSettings
from vista.filters.oracle import OracleSettings
from vista.filters.random_drop import RandomDropSettings
from vista.filters.vas import VasSettings
from vista.filters.vig import VigSettings
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.plugins import make
from vista.records import EXAMPLE, Row, read_queries, read_rows
from vista.seeding import generator
from vista.solutions import Solution
from vista.testbed.audit import audit_query
from vista.testbed.questions import Question, draw_scene, dump
from vista.testbed.rationales import rationale, text

Maker = Callable[..., Run]
SHARES = st.lists(st.sampled_from([0.1, 0.1 + 1e-9, 0.15, 0.2, 0.35, 0.5]), min_size=1, max_size=12)
SETTINGS = st.fixed_dictionaries(
    {
        "tau": st.sampled_from([-1.0, -0.5, 0.0, 0.5]),
        "scope": st.sampled_from(["positives", "all"]),
        "ddof": st.sampled_from([0, 1]),
        "min_group": st.integers(1, 4),
        "layers": st.sampled_from([[0.5], [0.0, 0.5]]),
    }
)


def context(rows: list[Row], correct: list[bool] | None = None, seed: int = 0, **more: Any) -> Context:
    flags = correct or [True] * len(rows)
    solutions = [solution(n, flag) for n, flag in enumerate(flags)]
    scores = {s.key: row for s, row in zip(solutions, rows, strict=True)}
    return Context("q", solutions, scores, lambda: generator("test", seed), **more)


def positives(given_context: Context) -> list[Solution]:
    return [s for s in given_context.solutions if s.correct]


def keep(settings: Any, given_context: Context) -> list[bool]:
    return make(settings).keep(positives(given_context), given_context)


def likely(*pairs: tuple[float, float]) -> list[Row]:
    return [{"logprob": own, "logprob_without": without} for own, without in pairs]


# --- random-drop ---


@given(SHARES, st.data(), SETTINGS, st.integers(0, 3))
def test_as_many_fall_at_random_as_by_attention(
    shares: list[float], data: st.DataObject, settings: dict[str, Any], seed: int
):
    flags = data.draw(st.lists(st.booleans(), min_size=len(shares), max_size=len(shares)))
    found = context([row(n, share) for n, share in enumerate(shares)], flags, seed)
    by_attention = keep(VasSettings(kind="vas", **settings), found)
    at_random = keep(RandomDropSettings(kind="random-drop", **settings), found)
    assert len(at_random) == sum(flags)
    assert at_random.count(False) == by_attention.count(False)
    rules = [make(VasSettings(kind="vas", **settings))]
    rules.append(make(RandomDropSettings(kind="random-drop", **settings)))
    assert len({rule.compares_just_two(found) for rule in rules}) == 1


def test_which_fall_at_random_has_nothing_to_do_with_attention():
    rows = [row(n, 0.1 if n < 2 else 0.5) for n in range(5)]
    masks = [keep(RandomDropSettings(kind="random-drop"), context(rows, seed=seed)) for seed in range(500)]
    assert all(mask.count(False) == 2 for mask in masks)
    fallen = np.sum(~np.array(masks), axis=0)
    assert all(150 < times < 250 for times in fallen)
    assert masks[7] == keep(RandomDropSettings(kind="random-drop"), context(rows, seed=7))


# --- vig and logprob ---


def test_solutions_fall_that_the_image_made_little_more_likely():
    rows = likely((-3.0, -3.5), (-1.0, -1.1), (-2.0, -2.5), (-0.5, -1.0))  # gains 0.5, 0.1, 0.5, 0.5
    assert keep(VigSettings(kind="vig"), context(rows)) == [True, False, True, True]
    assert keep(LogprobSettings(kind="logprob"), context(rows)) == [False, True, True, True]


def test_an_image_that_makes_a_solution_less_likely_counts_against_it():
    rows = likely((-1.0, -0.2), (-1.0, -1.2), (-1.0, -1.2))
    assert keep(VigSettings(kind="vig"), context(rows)) == [False, True, True]


@pytest.mark.parametrize("near", [0.0, -5.0])
def test_log_probabilities_that_differ_by_rounding_drop_none(near: float):
    rows = likely(*[(near - 1e-5 * n, near) for n in range(4)])
    for settings in (VigSettings(kind="vig"), LogprobSettings(kind="logprob")):
        assert keep(settings, context(rows)) == [True] * 4


def test_equals_at_the_threshold_stay_whatever_their_rounding():
    # Four equal values and a larger one: z = -0.5 for the four.
    rows = likely(*[(-2.0 - 1e-6 * n, -2.0) for n in range(4)], (-1.0, -2.0))
    for settings in (VigSettings(kind="vig"), LogprobSettings(kind="logprob")):
        assert keep(settings, context(rows)) == [True] * 5


@given(
    st.lists(st.tuples(st.floats(-9, 0), st.floats(-9, 0)), min_size=1, max_size=9),
    st.floats(-5, 5),
    st.data(),
)
def test_a_constant_more_for_all_solutions_changes_no_verdict(
    pairs: list[tuple[float, float]], shift: float, data: st.DataObject
):
    flags = data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    pairs = [(round(own, 2), round(without, 2)) for own, without in pairs]
    shifted = [(own + shift, without) for own, without in pairs]
    for settings in (VigSettings(kind="vig", scope="all"), LogprobSettings(kind="logprob", min_group=3)):
        masks = [keep(settings, context(likely(*each), flags)) for each in (pairs, shifted)]
        assert masks[0] == masks[1]


def test_a_solution_that_was_not_measured_is_named():
    found = context(likely((-1.0, -2.0), (-1.0, -3.0)))
    bare = Context("q", found.solutions, {}, found.random)
    with pytest.raises(VistaError, match=r"'q'.*\('sample', -1, 0\) has no log-probability; delete.* gains"):
        keep(VigSettings(kind="vig"), bare)


# --- oracle ---


@given(st.integers(0, 99), st.integers(0, 3))
def test_the_oracle_keeps_exactly_what_the_audit_finds_faithful(number: int, sound: int):
    scene = draw_scene(np.random.default_rng(number), 3, 3, 0.0)
    question = Question("sum-row", 1)
    gold = text(rationale(scene, question))
    texts = [gold] * sound + [gold.replace("+", "-", 1), gold[:-1], f"9{gold}", gold.upper()]
    found = [Solution("q", ("sample", -1, n), [n], each, True) for n, each in enumerate(texts)]
    truth = dump(scene, question)
    around = Context("q", found, {}, lambda: generator("test"), truth)
    rule = make(OracleSettings(kind="oracle"))
    mask = rule.keep(found, around)
    assert mask == [audit_query(truth, each).faithful for each in texts]
    assert mask == [True] * sound + [False, False, False, True]
    assert not rule.compares_just_two(around)


def test_a_query_without_a_scene_is_named():
    with pytest.raises(VistaError, match="query 'q' has no scene, which filter 'oracle' needs"):
        keep(OracleSettings(kind="oracle"), context(likely((-1.0, -2.0))))


# --- the whole stage, on files made by hand ---


def scenes(folder: Folder, question: Question, number: int = 0) -> str:
    """Gives the train queries a scene; returns the gold rationale."""
    scene = draw_scene(np.random.default_rng(number), 3, 3, 0.0)
    folder.queries("train", scene=dump(scene, question))
    return text(rationale(scene, question))


def chosen(paths: Paths, run: Run) -> list[tuple[str, int]]:
    """Source and last token (in these files: the number) of what is trained on, but for the seed split."""
    rows = read_rows(paths.training_set(run.id), EXAMPLE)
    return [(row["source"], row["completion_ids"][2]) for row in rows if row["source"] != "seed"]


@pytest.mark.parametrize(
    ("method", "fallen"), [("vista-sft", 0), ("vig", 1), ("logprob", 2), ("oracle-filter", 3)]
)
def test_each_filter_drops_by_what_it_reads(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker, method: str, fallen: int
):
    gold = scenes(folder, Question("sum-row", 2))
    rows = [rollout("grid-chain-1", n, True, text=gold if n != 3 else "answer : 4") for n in range(3)]
    rows.append(rollout("grid-chain-1", 3, True, source="prefix", parent=4, text="answer : 4"))
    samples = [*rows[:3], rollout("grid-chain-1", 4, False)]
    scores = [score(row, 0.1 if n == 0 else 0.5) for n, row in enumerate(rows)]
    own, without = [-1.0, -1.0, -2.0, -1.0], [-3.0, -1.5, -4.0, -3.0]
    gains = [gain(row, o, w) for row, o, w in zip(rows, own, without, strict=True)]
    run = run_of(method)
    folder.rollouts(run, samples, rows[3:], scores, gains)
    curate(suite, paths, run)
    everyone = [("sample", 0), ("sample", 1), ("sample", 2), ("prefix", 3)]
    assert chosen(paths, run) == [kept for kept in everyone if kept[1] != fallen]
    assert read_manifest(paths.training_set(run.id)).counts["dropped_by_filter"] == 1


def test_random_drop_trains_on_as_many_of_each_query_as_the_attention_filter(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    random = np.random.default_rng(0)
    samples = [rollout(f"grid-{task}-{n % 2}", n, True) for task in ("open", "chain") for n in range(16)]
    scores = [score(row, share) for row, share in zip(samples, random.uniform(0.1, 0.9, 32), strict=True)]
    found = {}
    for method in ("vista-sft", "random-drop"):
        uncapped = suite.methods[method].model_copy(update={"max_per_query": None})
        run = run_of(method)
        folder.rollouts(run, samples, [], scores)
        curate(suite.model_copy(update={"methods": {**suite.methods, method: uncapped}}), paths, run)
        rows = read_rows(paths.training_set(run.id), EXAMPLE)
        found[method] = [(row["query_id"], row["completion_ids"]) for row in rows if row["source"] != "seed"]
    queries = [[query for query, _ in rows] for rows in found.values()]
    assert queries[0] == queries[1]
    assert len(queries[0]) < len(samples)
    assert found["vista-sft"] != found["random-drop"]


def test_a_control_differs_from_the_method_it_controls_in_the_filter_and_the_rounds_alone(suite: Suite):
    vista = suite.methods["vista-sft"]
    assert isinstance(vista, SelfImprovement)
    for name in CONTROLS:
        control = suite.methods[name]
        assert isinstance(control, SelfImprovement)
        assert control.rounds == 1
        assert control.model_copy(update={"filter": vista.filter, "rounds": vista.rounds}) == vista
    drop = suite.methods["random-drop"]
    assert isinstance(drop, SelfImprovement)
    assert vista.filter.model_dump() == {**drop.filter.model_dump(), "kind": "vas"}


def test_a_scene_is_read_for_filters_that_need_it_alone(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker, monkeypatch: pytest.MonkeyPatch
):
    scenes(folder, Question("sum-row", 1))
    asked: list[list[str]] = []

    def watched(path: Path, columns: list[str]) -> list[Row]:
        asked.append(columns)
        return read_queries(path, columns)

    monkeypatch.setattr("vista.curation.rows.read_queries", watched)
    for method, needed in (("oracle-filter", True), ("rest-em", False)):
        run = run_of(method)
        folder.rollouts(run, [rollout("grid-open-0", 0, True)])
        asked.clear()
        curate(suite, paths, run)
        assert any("scene" in columns for columns in asked) == needed
