"""Scoring a shard's solutions."""

from __future__ import annotations

import pytest

from tests.nano import checkpoint
from tests.rollouts.conftest import POLICY, PREFIX, SAMPLES
from vista import chat
from vista.config import Suite
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import ROLLOUT, SCORES, Row, read_rows
from vista.rollouts.policy import shard_queries
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.rollouts.score import attention_scores, score_shard
from vista.scores import layer_indices
from vista.segments import segments

POSITIVES, ALL = f"{PREFIX}+positives", f"{SAMPLES}+all"


def key(row: Row) -> tuple[object, ...]:
    return row["query_id"], row["task"], row["source"], row["parent"], row["sample"], row["correct"]


def scored(suite: Suite, paths: Paths, name: str) -> tuple[list[Row], list[Row]]:
    """The solutions there are and the scores of those in scope."""
    sample_shard(suite, paths, POLICY, SAMPLES, 0)
    resample_shard(suite, paths, POLICY, PREFIX, 0)
    score_shard(suite, paths, POLICY, name, 0)
    solutions = [
        row
        for kind, folder in (("samples", SAMPLES), ("resamples", PREFIX))
        for row in read_rows(paths.rollouts(POLICY.id, kind, folder, 0, 1), ROLLOUT)
    ]
    return solutions, read_rows(paths.rollouts(POLICY.id, "scores", name, 0, 1), SCORES)


@pytest.mark.usefixtures("odd_is_correct")
def test_every_positive_is_scored_at_every_layer(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    solutions, scores = scored(suite, paths, POSITIVES)
    positives = [row for row in solutions if row["correct"]]
    assert {row["source"] for row in positives} == {"sample", "prefix"}
    assert [key(row) for row in scores] == [key(row) for row in positives]
    made = checkpoint("qwen2.5-vl")
    queries = {q["query_id"]: q for q in shard_queries(suite, paths, POLICY, 0)}
    for row, solution in zip(scores, positives, strict=True):
        query = queries[row["query_id"]]
        prompt = chat.encode_query(made.processor, query)
        kinds = segments(made.processor, chat.messages(query), prompt)
        (expected,) = attention_scores(made, [prompt], [kinds], [solution["token_ids"]], [0, 1, 2], 1)
        assert (row["layers"], row["num_layers"]) == ([0, 1, 2], 3)
        found = list(zip(row["s_sys"], row["s_vis"], row["s_ins"], strict=True))
        for layer in range(3):
            assert found[layer] == pytest.approx(expected[layer], abs=1e-5)
            assert 0 < sum(found[layer]) < 1  # the rest falls on the response itself


@pytest.mark.usefixtures("odd_is_correct")
def test_scope_all_takes_the_negatives_of_the_samples_too(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    solutions, scores = scored(suite, paths, ALL)
    assert [key(row) for row in scores] == [key(row) for row in solutions if row["source"] == "sample"]


@pytest.mark.usefixtures("odd_is_correct")
def test_only_the_layers_asked_for_are_stored(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    scoring = suite.scoring.model_copy(update={"layers": [0.5]})
    _, middle = scored(suite.model_copy(update={"scoring": scoring}), paths, POSITIVES)
    _, every = scored(suite, paths, POSITIVES)
    for one, three in zip(middle, every, strict=True):
        assert (one["layers"], one["num_layers"]) == ([1], 3)
        assert one["s_vis"][0] == pytest.approx(three["s_vis"][1], abs=1e-6)


def test_layers_are_fractions_of_the_depth() -> None:
    assert layer_indices("all", 3) == [0, 1, 2]
    assert layer_indices([0.5], 3) == [1]
    assert layer_indices([0.5], 36) == [18]
    assert layer_indices([1.0, 0.0, 0.99], 28) == [0, 27]


def test_no_positives_among_the_samples_give_an_empty_file_that_is_complete(
    small: tuple[Suite, Paths],
) -> None:
    suite, paths = small
    _, scores = scored(suite, paths, POSITIVES)  # an untrained model answers nothing
    assert scores == []
    assert read_manifest(paths.rollouts(POLICY.id, "scores", POSITIVES, 0, 1)).status == "complete"
