"""Cases: which solutions are chosen, and that the attention of their tokens is that of the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nano import checkpoint
from tests.rollouts.conftest import POLICY, PREFIX, SAMPLES
from vista import chat
from vista.config import Suite
from vista.filters import Context
from vista.filters.vas import VasSettings, VisionAwareAttention
from vista.paths import Paths
from vista.records import CASE, Row, read_rows, write_rows
from vista.rollouts.cases import case_rows, filtered, resampled, visual_shares
from vista.rollouts.policy import shard_queries
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.rollouts.score import attention_scores
from vista.seeding import generator
from vista.segments import segments
from vista.solutions import Solution, key_of


def row(query: str, sample: int, **changes: object) -> Row:
    """A sample, right unless it is said otherwise."""
    base: Row = {"query_id": query, "task": "t", "sample": sample, "source": "sample", "parent": None}
    base |= {"correct": True, "token_ids": [1, 2, 3], "prefix_len": 0, "text": f"{query} {sample}"}
    base |= {"answer": "7"}
    return base | changes


def scored(solution: Row, *visual: float) -> Row:
    keys = ("query_id", "task", "sample", "source", "parent", "correct")
    layers = {"layers": list(range(len(visual))), "num_layers": len(visual)}
    shares = {"s_vis": list(visual), "s_ins": [1 - each for each in visual], "s_sys": [0.0] * len(visual)}
    return {key: solution[key] for key in keys} | layers | shares


def test_the_lowest_and_the_highest_score_are_chosen_where_the_lowest_would_fall() -> None:
    samples = [row("a", n) for n in range(3)] + [row("b", n) for n in range(2)] + [row("c", 0)]
    visual = {("a", 0): 0.5, ("a", 1): 0.1, ("a", 2): 0.6, ("b", 0): 0.4, ("b", 1): 0.4, ("c", 0): 0.1}
    scores = [scored(each, 0.5, visual[each["query_id"], each["sample"]]) for each in samples]
    rollouts = {"samples": samples, "resamples": [], "scores": scores}
    found = filtered(rollouts)
    assert [(each["kind"], each["query_id"], each["sample"]) for each in found] == [
        ("dropped", "a", 1),
        ("kept", "a", 2),
    ]
    values = np.array([0.5, 0.1, 0.6])
    z = (values - values.mean()) / values.std()
    assert [each["vas"] for each in found] == pytest.approx([z[1], z[2]])
    alike = [scored(each, visual[each["query_id"], each["sample"]], 0.5) for each in samples]
    assert filtered(rollouts | {"scores": alike}) == [], "all look alike in the middle layer"
    unscored = [each | {"layers": [0], "num_layers": 2} for each in scores]
    assert filtered(rollouts | {"scores": unscored}) == [], "the middle layer was not scored"


# Attention on the image, the system turn and the instruction, whose sums are not exactly 1.
ATTENTION = st.tuples(*[st.floats(0.0625, 1.0, width=32)] * 3)


@given(st.lists(ATTENTION, min_size=2, max_size=6), st.integers(1, 3))
def test_a_solution_that_the_filter_keeps_is_not_shown_as_dropped(
    attention: list[tuple[float, float, float]], copies: int
) -> None:
    attention = [each for each in attention for _ in range(copies)]
    samples = [row("a", n) for n in range(len(attention))]
    scores = [
        scored(each, 0.0, 0.0) | {name: [part] * 2 for name, part in zip(PARTS, parts, strict=True)}
        for each, parts in zip(samples, attention, strict=True)
    ]
    assert_dropped_as_by_the_filter(samples, scores)


def test_four_alike_and_one_that_looks_more_are_all_kept_by_the_filter_and_here() -> None:
    """Their z-score is −0.5, the threshold: only rounding can put it below."""
    for low in (0.1, 0.2, 0.3, 1 / 3):
        for nudge in (0.0, 1e-9, -1e-9, 3e-8):
            visual = [low, low + nudge, low, low - nudge, 0.7]
            samples = [row("a", n) for n in range(5)]
            scores = [scored(each, 0.0, share) for each, share in zip(samples, visual, strict=True)]
            assert filtered({"samples": samples, "resamples": [], "scores": scores}) == []
            assert_dropped_as_by_the_filter(samples, scores)


PARTS = ("s_vis", "s_sys", "s_ins")


def assert_dropped_as_by_the_filter(samples: list[Row], scores: list[Row]) -> None:
    """Cases are what VISTA's filter drops and keeps, as they say, and there are some if it drops any."""
    solutions = [Solution.of(each | {"answer": None, "finished": True}) for each in samples]
    context = Context("a", solutions, {key_of(each): each for each in scores}, lambda: generator("a"))
    kept = VisionAwareAttention(VasSettings(kind="vas")).keep(solutions, context)
    found = filtered({"samples": samples, "resamples": [], "scores": scores})
    assert [each["kind"] for each in found] == ([] if all(kept) else ["dropped", "kept"])
    assert all(kept[each["sample"]] == (each["kind"] == "kept") for each in found)


def test_a_failure_is_rescued_by_a_sampled_continuation_where_nothing_was_right() -> None:
    wrong = [("a", 0), ("a", 1), ("b", 1), ("c", 0)]
    samples = [row("b", 0), *(row(name, sample, correct=False) for name, sample in wrong)]
    mended = {"source": "prefix", "prefix_len": 2}
    resamples = [
        row("a", 0, parent=0, correct=False, **mended),
        row("a", 1, parent=1, token_ids=[1, 9, 7, 8], **mended),
        row("b", 0, parent=1, token_ids=[1, 9, 7], **mended),
        row("c", 0, parent=0, token_ids=[1, 9], **mended),
    ]
    critical = [
        {"query_id": name, "task": "t", "sample": sample, "critical_token": 1, "replacement": 9}
        for name, sample in wrong
    ]
    (found,) = resampled({"samples": samples, "resamples": resamples, "critical": critical})
    assert (found["kind"], found["query_id"], found["sample"]) == ("rescued", "a", 1)
    assert (found["critical_token"], found["replacement"], found["continuation"]) == (1, 9, [7, 8])
    assert found["continued"] == resamples[1]["text"]


def test_where_no_continuation_is_right_the_first_failure_that_was_continued_is_shown() -> None:
    samples = [row("a", n, correct=False) for n in range(3)]
    mended = {"source": "prefix", "prefix_len": 2, "correct": False}
    resamples = [
        row("a", 0, parent=0, token_ids=[1, 9], **mended),
        row("a", 0, parent=1, token_ids=[1, 9, 7], **mended),
        row("a", 0, parent=2, token_ids=[1, 9, 8], **mended),
    ]
    critical = [
        {"query_id": "a", "task": "t", "sample": sample, "critical_token": 1, "replacement": 9}
        for sample in range(3)
    ]
    (found,) = resampled({"samples": samples, "resamples": resamples, "critical": critical})
    assert (found["kind"], found["sample"], found["continuation"]) == ("failed", 1, [7])


@pytest.mark.usefixtures("odd_is_correct")
def test_the_mean_over_tokens_is_the_score_of_the_solution(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    made = checkpoint("qwen2.5-vl")
    query = shard_queries(suite, paths, POLICY, 0)[0]
    prompt = chat.encode_query(made.processor, query)
    kinds = segments(made.processor, chat.messages(query), prompt)
    tokens = [30, 31, 32, 33]
    shares = visual_shares(made, prompt, kinds, tokens, 1)
    assert len(shares) == 4
    assert all(0 < share < 1 for share in shares)
    # One token alone is a solution of one token.
    ((alone,),) = attention_scores(made, [prompt], [kinds], [tokens[:1]], [1], 1)
    assert shares[0] == pytest.approx(alone[1] / sum(alone), abs=1e-5)


@pytest.mark.usefixtures("odd_is_correct")
@pytest.mark.parametrize(("correct", "kind"), [(True, "rescued"), (False, "failed")])
def test_a_resampled_case_holds_both_solutions_and_fits_its_file(
    small: tuple[Suite, Paths], tmp_path: Path, correct: bool, kind: str
) -> None:
    suite, paths = small
    made = checkpoint("qwen2.5-vl")
    query = shard_queries(suite, paths, POLICY, 0)[0]
    of = {"query": query["query_id"], "task": query["task"]}
    failed = row(**of, sample=0, correct=False, token_ids=[30, 31, 32])
    mended = row(
        **of, sample=0, correct=correct, token_ids=[30, 40, 41], source="prefix", parent=0, prefix_len=2
    )
    place = {"query_id": query["query_id"], "sample": 0, "critical_token": 1, "replacement": 40}
    rollouts = {
        "samples": [failed],
        "resamples": [mended | {"text": "mended"}],
        "critical": [place],
        "scores": [],
    }
    write_rows(tmp_path / "cases.parquet", case_rows(made, [query], rollouts, 3), CASE)
    (found,) = read_rows(tmp_path / "cases.parquet", CASE)
    words = [chat.decode(made.processor, [token]) for token in (30, 31, 32, 40, 41)]
    assert (found["kind"], found["tokens"], found["text"]) == (kind, words[:3], failed["text"])
    assert (found["critical_token"], found["replacement"], found["continuation"]) == (1, words[3], [words[4]])
    assert found["continued"] == "mended"


@pytest.mark.usefixtures("odd_is_correct")
def test_cases_have_a_share_for_every_token(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    sample_shard(suite, paths, POLICY, SAMPLES, 0)
    resample_shard(suite, paths, POLICY, PREFIX, 0)
    made = checkpoint("qwen2.5-vl")
    queries = shard_queries(suite, paths, POLICY, 0)
    samples = [
        row(query["query_id"], n, task=query["task"], token_ids=[30, 31, 32 + n])
        for query in queries
        for n in range(2)
    ]
    scores = [scored(each, 0.5, 0.2 + 0.1 * each["sample"]) for each in samples]
    rollouts = {"samples": samples, "resamples": [], "critical": [], "scores": scores}
    rows = case_rows(made, queries, rollouts, 3)
    assert [each["kind"] for each in rows] == (["dropped"] * 3 + ["kept"] * 3) * 2, "three of each task"
    assert case_rows(made, queries, rollouts, 1) == rows[::3]
    assert [each["query_id"] for each in rows[:3]] == [each["query_id"] for each in rows[3:6]]
    for each in rows:
        assert len(each["visual"]) == len(each["tokens"]) == 3
        assert (each["source"], each["sample"], each["extracted"]) == (
            "sample",
            0 if each["kind"] == "dropped" else 1,
            "7",
        )
        assert each["continuation"] is each["continued"] is None
        assert each["images"]
