"""Scores, z-scores and cuts are those that curation trains by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vista.analysis.pools import Solutions, dropped, visual_shares, z_scores
from vista.errors import VistaError
from vista.filters import Context, ScoreFilterSettings
from vista.filters.logprob import LogprobSettings
from vista.filters.vas import VasSettings
from vista.filters.vig import VigSettings
from vista.plugins import make
from vista.records import SCORES
from vista.solutions import Solution

# A few values, so that some are equal, and the paper's −0.5 is hit exactly.
shares = st.sampled_from([0.1, 0.2, 0.2 + 1e-9, 0.3, 0.7])
# What a solution has besides its scores.
PLAIN = {"token_ids": [1], "text": "", "answer": None, "finished": True}


def score_row(index: int, query: str, vis: list[float], correct: bool = True) -> dict[str, object]:
    ins = [1.0 - value for value in vis]
    keys = {"query_id": query, "task": "t", "sample": index, "source": "sample", "parent": None}
    stated = {"correct": correct, "layers": list(range(len(vis))), "num_layers": len(vis)}
    return keys | stated | {"s_sys": [0.0] * len(vis), "s_vis": vis, "s_ins": ins}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), shares, shares, st.booleans()), min_size=1, max_size=20),
    st.sampled_from([-1.0, -0.5, 0.0, 0.5]),
    st.sampled_from(["positives", "all"]),
    st.sampled_from([0, 1]),
    st.integers(1, 4),
    st.sampled_from([[0.5], [0.0, 0.5]]),
)
def test_the_cut_drops_what_curation_drops(values, tau, scope, ddof, min_group, layers) -> None:
    cut = VasSettings(kind="vas", tau=tau, scope=scope, ddof=ddof, min_group=min_group, layers=layers)
    rows = [
        score_row(i, f"q{query}", [first, second], correct)
        for i, (query, first, second, correct) in enumerate(values)
    ]
    table = pa.Table.from_pylist(rows, schema=SCORES)
    frame, scored, depth = visual_shares(table, "here")
    frame["correct"] = [row["correct"] for row in rows]
    found = dropped(Solutions(frame, scored, depth), cut)
    assert set(frame.index[found]) == by_curation(cut, table.to_pylist())


# Differences of log-probabilities that are rounding, and some that are not.
logprobs = st.sampled_from([-1.0, -1.0 - 1e-7, -1.0 - 1e-4, -0.7, -3.0])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), logprobs, logprobs, st.booleans()), min_size=1, max_size=20),
    st.sampled_from([-1.0, -0.5, 0.5]),
    st.sampled_from(["positives", "all"]),
    st.sampled_from([VigSettings, LogprobSettings]),
)
def test_cuts_by_log_probability_drop_what_curation_drops(values, tau, scope, kind) -> None:
    cut = kind(kind=kind.model_fields["kind"].annotation.__args__[0], tau=tau, scope=scope)
    rows = [
        score_row(i, f"q{query}", [0.5], correct) | {"logprob": first, "logprob_without": second}
        for i, (query, first, second, correct) in enumerate(values)
    ]
    frame = pd.DataFrame(rows)
    frame["vig"] = frame["logprob"] - frame["logprob_without"]
    found = dropped(Solutions(frame, [], 0), cut)
    assert set(frame.index[found]) == by_curation(cut, rows)


def by_curation(cut: ScoreFilterSettings, rows: list[dict]) -> set[int]:
    """Indices of the solutions that curation's own filter drops, query by query."""
    fallen: set[int] = set()
    for query in {row["query_id"] for row in rows}:
        own = [row for row in rows if row["query_id"] == query]
        solutions = [Solution.of(row | PLAIN) for row in own]
        scores = {s.key: row for s, row in zip(solutions, own, strict=True)}
        context = Context(query, solutions, scores, lambda: np.random.default_rng(0))
        positives = [solution for solution in solutions if solution.correct]
        keep = make(cut).keep(positives, context)
        fallen |= {s.key[2] for s, stays in zip(positives, keep, strict=True) if not stays}
    return fallen


def test_z_scores_by_hand() -> None:
    values = pd.Series([1.0, 3.0, 5.0, 5.0, 2.0])
    queries = pd.Series(["a", "a", "b", "b", "c"])
    assert z_scores(values, queries).tolist() == [-1.0, 1.0, 0.0, 0.0, 0.0]


def test_the_visual_share_is_of_all_three_segments() -> None:
    row = score_row(0, "q", [0.0, 0.0]) | {"s_sys": [1.0, 2.0], "s_vis": [3.0, 1.0], "s_ins": [4.0, 1.0]}
    frame, layers, depth = visual_shares(pa.Table.from_pylist([row], schema=SCORES), "here")
    assert (layers, depth) == ([0, 1], 2)
    assert frame[["share0", "share1"]].to_numpy().tolist() == [[3 / 8, 1 / 4]]


def test_solutions_scored_at_different_layers_are_refused() -> None:
    rows = [score_row(0, "q", [0.5, 0.5]), score_row(1, "q", [0.5, 0.5]) | {"layers": [0, 2]}]
    with pytest.raises(VistaError, match="scored at different layers"):
        visual_shares(pa.Table.from_pylist(rows, schema=SCORES), "here")


def test_attention_that_sums_to_nothing_is_refused() -> None:
    row = score_row(0, "q", [0.5]) | {"s_vis": [0.0], "s_ins": [0.0]}
    with pytest.raises(VistaError, match="does not sum to more than 0"):
        visual_shares(pa.Table.from_pylist([row], schema=SCORES), "here")


def test_a_layer_that_was_not_scored_is_named() -> None:
    frame, _, _ = visual_shares(pa.Table.from_pylist([score_row(0, "q", [0.5])], schema=SCORES), "here")
    solutions = Solutions(frame.assign(correct=True), [0], 4)
    with pytest.raises(VistaError, match=r"layers \[2\] were not scored, only \[0\]"):
        dropped(solutions, VasSettings(kind="vas"))
