"""Which solutions are chosen, and that the numbers say what became of the others."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vista.config import SelfImprovement
from vista.curation.select import Selector
from vista.solutions import Key, Solution, capped, distinct, in_order, negatives, partner, positives

SFT, DPO = {"kind": "sft"}, {"kind": "dpo"}


def solution(key: Key, correct: bool, text: str | None = None) -> Solution:
    return Solution("q", key, [key[2]], f"text {key}" if text is None else text, correct)


@st.composite
def solution_sets(draw: st.DrawFn) -> list[Solution]:
    keys = st.tuples(
        st.sampled_from(["sample", "prefix", "rationalize", "plain"]), st.integers(0, 3), st.integers(0, 5)
    ).map(lambda key: (key[0], -1 if key[0] == "sample" else key[1], key[2]))
    chosen = draw(st.lists(keys, unique=True, max_size=15))
    return [solution(key, draw(st.booleans()), draw(st.sampled_from("abc"))) for key in chosen]


def selector(objective: dict[str, Any] | None = None, seed: int = 0, **settings: Any) -> Selector:
    method = SelfImprovement(kind="self-improvement", objective=objective or SFT, **settings)
    return Selector(method, seed, 1)


def test_failed_resamples_are_neither_positives_nor_negatives():
    good, bad = solution(("prefix", 0, 0), True), solution(("prefix", 0, 1), False)
    failed = solution(("sample", -1, 0), False)
    assert positives([good, bad, failed]) == [good]
    assert negatives([good, bad, failed]) == [failed]


def test_failed_plain_samples_of_a_matched_budget_are_no_negatives_either():
    good, bad = solution(("plain", -1, 0), True), solution(("plain", -1, 1), False)
    assert (positives([good, bad]), negatives([good, bad])) == ([good], [])


def test_samples_come_before_resamples_whatever_these_are_called():
    keys = [("sample", -1, 0), ("sample", -1, 7), ("a-name", 2, 0), ("a-name", 2, 1), ("zzz", -1, 0)]
    ordered = [solution(key, True) for key in keys]
    assert in_order(ordered[::-1]) == ordered


def test_texts_that_differ_in_case_and_spaces_alone_are_the_same():
    same = [solution(("sample", -1, n), True, text) for n, text in enumerate(["A  b", "a b\n", "a c"])]
    assert distinct(same) == [same[0], same[2]]


def test_every_negative_is_drawn_as_a_partner_about_equally_often():
    failed = [solution(("sample", -1, n), False) for n in range(4)]
    drawn = [partner(solution(("sample", -1, n), True), failed, 0, 1) for n in range(10, 410)]
    assert all(70 < drawn.count(negative) < 130 for negative in failed)


@given(solution_sets(), st.integers(1, 5), st.integers(0, 3))
def test_the_cap_is_a_subset_in_order_that_the_seed_alone_decides(
    solutions: list[Solution], limit: int, seed: int
):
    ordered = in_order(solutions)
    subset = capped(ordered, limit, seed, 1)
    assert len(subset) == min(limit, len(ordered))
    assert subset == [s for s in ordered if s in subset]
    assert subset == in_order(capped(ordered[::-1], limit, seed, 1))


@given(solution_sets(), st.integers(1, 5))
def test_what_is_dropped_before_the_cap_does_not_change_who_wins_among_the_rest(
    solutions: list[Solution], limit: int
):
    whole = capped(solutions, limit, 0, 1)
    assert set(_keys(whole)) - set(_keys(solutions[:1])) <= set(_keys(capped(solutions[1:], limit, 0, 1)))


@given(solution_sets(), st.booleans(), st.none() | st.integers(1, 4), st.sampled_from([SFT, DPO]))
def test_every_positive_is_chosen_or_counted_where_it_fell(
    solutions: list[Solution], dedupe: bool, limit: int | None, objective: dict[str, Any]
):
    made = selector(objective, dedupe=dedupe, max_per_query=limit)
    chosen = made.select("q", solutions, {}).choices
    fell = [
        made.counts[name]
        for name in (
            "dropped_by_filter",
            "dropped_as_older",
            "dropped_as_duplicates",
            "dropped_by_cap",
            "dropped_without_negative",
        )
    ]
    assert len(chosen) + sum(fell) == made.counts["positives"] == len(positives(solutions))
    assert made.counts["negatives"] == len(negatives(solutions))
    assert made.counts["queries_without_positives"] == (not positives(solutions))
    assert all(choice.positive.correct for choice in chosen)
    if objective == DPO:
        assert all(choice.negative in negatives(solutions) for choice in chosen)
    else:
        assert all(choice.negative is None for choice in chosen)


@given(solution_sets(), st.randoms(use_true_random=False))
def test_the_order_of_rollouts_does_not_change_the_choice(solutions: list[Solution], random: Any):
    mixed = list(solutions)
    random.shuffle(mixed)
    first = selector(DPO, max_per_query=2).select("q", solutions, {})
    assert first == selector(DPO, max_per_query=2).select("q", mixed, {})


def test_another_seed_draws_another_subset():
    many = [solution(("sample", -1, n), True) for n in range(20)]
    chosen = [_keys(capped(many, 3, seed, 1)) for seed in range(3)]
    assert len({tuple(keys) for keys in chosen}) == 3


def test_positives_of_a_query_without_negatives_make_no_pair():
    made = selector(DPO)
    assert made.select("q", [solution(("sample", -1, 0), True)], {}).choices == []
    assert made.counts["dropped_without_negative"] == 1


def _keys(solutions: list[Solution]) -> list[Key]:
    return [s.key for s in solutions]
