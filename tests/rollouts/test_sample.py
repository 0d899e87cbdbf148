"""Sampling a policy's solutions to the train queries, or to the seed queries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nano import checkpoint, own_checkpoint, query
from tests.rollouts.conftest import POLICY, SAMPLES
from vista import chat, verdicts
from vista.config import Sampling, SelfRationales, Suite
from vista.engines.hf import HfEngine
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import QUERY, ROLLOUT, Row, read_rows, write_rows
from vista.rollouts import sample
from vista.rollouts.policy import shard_queries
from vista.rollouts.sample import sample_rows, sample_seed, sample_shard


def samples(suite: Suite, paths: Paths, shard: int = 0) -> list[Row]:
    sample_shard(suite, paths, POLICY, SAMPLES, shard)
    return read_rows(paths.rollouts(POLICY.id, "samples", SAMPLES, shard, suite.shards), ROLLOUT)


@pytest.mark.usefixtures("odd_is_correct")
def test_every_query_gets_k_verified_solutions(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    rows = samples(suite, paths)
    assert [(row["query_id"], row["sample"]) for row in rows] == [
        (f"q{number}", index) for number in range(9) for index in range(4)
    ]
    for row in rows:
        assert (row["source"], row["parent"], row["prefix_len"]) == ("sample", None, 0)
        assert row["task"] == ("first" if int(row["query_id"][1:]) < 5 else "second")
        assert row["text"] == chat.decode(checkpoint("qwen2.5-vl").processor, row["token_ids"])
        assert row["answer"] == str(len(row["text"]))
        assert row["correct"] == (row["finished"] and len(row["text"]) % 2 == 1)
        assert row["finished"] or len(row["token_ids"]) == 12
        assert row["seed"] == sample_seed(POLICY, row["query_id"], row["sample"])
        assert row["logprob"] < 0


@pytest.mark.usefixtures("odd_is_correct")
def test_the_manifest_counts_what_was_drawn(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    rows = samples(suite, paths)
    manifest = read_manifest(paths.rollouts(POLICY.id, "samples", SAMPLES, 0, 1))
    assert manifest.status == "complete"
    assert manifest.counts == {
        "queries": 9,
        "solutions": 36,
        "tokens": sum(len(row["token_ids"]) + row["finished"] for row in rows),
        "correct": sum(row["correct"] for row in rows),
        "unanswered": 0,
        "unfinished": sum(not row["finished"] for row in rows),
    }


@pytest.mark.usefixtures("odd_is_correct")
def test_samples_named_so_answer_the_seed_queries(small: tuple[Suite, Paths], tmp_path: Path) -> None:
    suite, paths = small
    (tmp_path / "tasks").unlink()
    for task, number in (("first", 20), ("second", 21)):
        for split, offset in (("seed", 0), ("train", 10)):
            row = {**query(number + offset), "task": task, "split": split}
            write_rows(paths.queries(task, split), [row], QUERY)
    settings = SelfRationales(kind="self", rollouts=Sampling(k=3, max_new_tokens=6))
    own = suite.model_copy(update={"seed_rationales": settings})
    sample_shard(own, paths, POLICY, "k3-t1-n6@seed", 0)
    output = paths.rollouts(POLICY.id, "samples", "k3-t1-n6@seed", 0, 1)
    rows = read_rows(output, ROLLOUT)
    assert [(row["query_id"], row["sample"]) for row in rows] == [
        (name, index) for name in ("q20", "q21") for index in range(3)
    ]
    assert max(len(row["token_ids"]) for row in rows) == 6
    inputs = read_manifest(output).inputs
    assert [name for name in inputs if "/tasks/" in name] == [
        str(paths.queries(task, "seed")) for task in ("first", "second")
    ]


def test_shards_together_hold_what_one_shard_holds(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    whole = samples(suite, paths)
    in_four = suite.model_copy(update={"shards": 4})
    assert [row for shard in range(4) for row in samples(in_four, paths, shard)] == whole


def test_the_first_samples_of_more_are_those_of_fewer(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    queries = shard_queries(suite, paths, POLICY, 0)[:3]
    made = checkpoint("qwen2.5-vl")
    engine = HfEngine(made, 64)
    few, many = (sample_rows(made, engine, queries, Sampling(k=k, max_new_tokens=6), POLICY) for k in (2, 5))
    assert few == [row for row in many if row["sample"] < 2]


def test_streams_differ_between_policies_queries_and_samples() -> None:
    other = Run("nano", "tasks", "vista", 0, 1)
    seeds = {sample_seed(p, q, i) for p in (POLICY, other) for q in ("a", "b") for i in (0, 1)}
    assert len(seeds) == 8


def test_a_prompt_that_does_not_fit_is_refused_by_name(
    small: tuple[Suite, Paths], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, paths = small
    monkeypatch.setattr(sample, "load_policy", lambda *_, **__: own_checkpoint("qwen2.5-vl", context=35))
    with pytest.raises(VistaError, match=r"query 'q\d'.*context is 35"):
        samples(suite, paths)
    assert not paths.rollouts(POLICY.id, "samples", SAMPLES, 0, 1).exists()


def test_unknown_settings_are_refused(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    with pytest.raises(VistaError, match="no method of suite 'small' asks for samples 'k9'"):
        sample_shard(suite, paths, POLICY, "k9", 0)


def test_an_unfinished_solution_is_incorrect_and_a_bad_answer_names_its_query() -> None:
    query = {"query_id": "q1", "answer": "3", "answer_type": "number", "choices": None}
    assert verdicts.is_correct(query, "3", finished=True)
    assert not verdicts.is_correct(query, "3", finished=False)
    with pytest.raises(VistaError, match="query 'q1'"):
        verdicts.is_correct({**query, "answer": ""}, "3", finished=True)
