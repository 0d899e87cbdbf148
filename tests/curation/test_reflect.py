"""Reflection on a pool of solutions, and rounds that accumulate: hand-made pools, and rules for any."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.curation.conftest import score
from vista.config import SelfImprovement
from vista.curation.select import Selected, Selector, refine, select
from vista.solutions import Solution, capped, in_order, latest, negatives, positives

R3V: dict[str, Any] = {"accumulate": True, "reflect": ["refine", "select"]}


def solution(name: str, age: int = 0, source: str = "sample", parent: int = -1) -> Solution:
    """``+3`` is right sample 3, ``-3`` wrong sample 3."""
    number, right = int(name[1:]), name[0] == "+"
    text = f"{name} of {age}"
    return Solution("q", (source, parent, number), [number], text, right, str(number), age)


def pool(*rounds: str) -> list[list[Solution]]:
    """Solutions by policy, the latest first: ``pool("+0 -1", "+0")``."""
    return [[solution(name, age) for name in names.split()] for age, names in enumerate(rounds)]


def selected(rounds: list[list[Solution]], seed: int = 0, **settings: Any) -> tuple[Selected, Selector]:
    method = SelfImprovement(kind="self-improvement", **{**R3V, **settings})
    made = Selector(method, seed, len(rounds))
    own, *older = rounds
    return made.select("q", own, {}, older=[(each, {}) for each in older]), made


def texts(solutions: Any) -> list[str]:
    return [each.text for each in solutions]


pools = st.lists(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), unique_by=lambda pair: pair[1], max_size=6),
    min_size=1,
    max_size=3,
).map(lambda rounds: pool(*(" ".join(f"{'+' if ok else '-'}{n}" for ok, n in names) for names in rounds)))


def test_the_latest_rounds_positives_are_trained_on_and_older_ones_only_where_it_has_none():
    both, counted = selected(pool("+0 +1 -2", "+0 +3"))
    assert texts(choice.positive for choice in both.choices) == ["+0 of 0", "+1 of 0"]
    assert (counted.counts["positives"], counted.counts["dropped_as_older"]) == (4, 2)
    older, counted = selected(pool("-0 -1", "+0 -1 +2", "+5"))
    assert texts(choice.positive for choice in older.choices) == ["+0 of 1", "+2 of 1"]
    assert (counted.counts["negatives"], counted.counts["dropped_as_older"]) == (3, 1)


def test_equal_numbers_of_two_rounds_are_two_solutions():
    first, second = solution("+0"), solution("+0", 1)
    assert first.place != second.place
    assert len(capped([first, second], 2, 0, 1)) == 2
    assert {s.text for n in range(40) for s in capped([first, second], 1, n, 1)} == {first.text, second.text}


def test_refining_shows_a_wrong_solution_of_any_round_and_answers_with_a_new_right_one():
    rounds = pool("+0 +1", "-0 +2", "-0")
    made = {}
    for seed in range(60):
        found, _ = selected(rounds, seed, reflect=["refine"])
        (reflection,) = found.reflections
        (shown,) = reflection.shown
        made[shown.text, reflection.right.text] = None
    assert set(made) == {(w, r) for w in ("-0 of 1", "-0 of 2") for r in ("+0 of 0", "+1 of 0")}


def test_candidates_come_from_all_rounds_and_one_or_two_of_the_three_are_right():
    rounds = pool("+0 -1", "+2 -3")
    counts: Counter[int] = Counter()
    seen = set()
    for seed in range(200):
        found, _ = selected(rounds, seed, reflect=["select"])
        (reflection,) = found.reflections
        counts[sum(each.correct for each in reflection.shown)] += 1
        seen.add(tuple(texts(reflection.shown)))
    assert set(counts) == {1, 2}
    assert all(70 < count < 130 for count in counts.values())
    # Four ways to leave one of the four out, in each of six orders.
    assert len(seen) == 4 * 6


def test_too_few_solutions_make_no_reflection():
    assert selected(pool("+0 +1 +2"))[0].reflections == []
    alone, _ = selected(pool("+0 -1"))
    assert [each.kind for each in alone.reflections] == ["refine"]
    assert selected(pool("-0 -1 -2"))[0] == Selected([], [])


def test_a_resample_that_failed_is_neither_corrected_nor_a_candidate():
    right, wrong = solution("+0"), solution("-0", source="rationalize")
    assert selected([[right, wrong]])[0].reflections == []


def test_the_filter_and_the_rule_against_duplicates_hold_for_candidates_as_well():
    same = [Solution("q", ("sample", -1, n), [n], "same text", True, "4") for n in range(3)]
    wrong = [solution("-7")]
    found, _ = selected([[*same, *wrong]], dedupe=True)
    assert [each.kind for each in found.reflections] == ["refine"]
    found, _ = selected([[*same, *wrong]])
    assert [each.kind for each in found.reflections] == ["refine", "select"]


def test_the_filter_compares_the_solutions_of_one_policy_with_each_other_alone():
    def scores(*shares: float) -> dict[Any, Any]:
        found = {}
        for number, share in enumerate(shares):
            row = {"query_id": "q", "task": "t", "sample": number, "source": "sample"}
            found["sample", -1, number] = score({**row, "parent": None, "correct": True}, share)
        return found

    new, old = pool("+0 +1 -7", "+0 +1 -8")
    settings = {**R3V, "filter": {"kind": "vas", "tau": -0.5}}
    made = Selector(SelfImprovement(kind="self-improvement", **settings), 0, 2)
    # The new policy looks at the image far less than the old one did; each loses its own lower one.
    found = made.select("q", new, scores(0.1, 0.2), older=[(old, scores(0.9, 0.8))])
    assert texts(choice.positive for choice in found.choices) == ["+1 of 0"]
    assert (made.counts["dropped_by_filter"], made.counts["dropped_as_older"]) == (2, 1)
    shown = next(each.shown for each in found.reflections if each.kind == "select")
    assert {each.text for each in shown if each.correct} <= {"+1 of 0", "+0 of 1"}


def test_a_random_filter_draws_anew_for_each_policy():
    names = " ".join(f"+{n}" for n in range(12))
    rounds = pool(names, names)
    made = Selector(SelfImprovement(kind="self-improvement", **R3V), 0, 2)
    drawn: list[float] = []

    class Drawing:
        """Keeps all and remembers the first number of each stream."""

        def keep(self, found: Any, context: Any) -> list[bool]:
            drawn.append(context.random().random())
            return [True] * len(found)

        def compares_just_two(self, context: Any) -> bool:
            return False

    made.filter = Drawing()  # type: ignore[assignment]
    made.select("q", rounds[0], {}, older=[(rounds[1], {})])
    made.select("q", rounds[0], {})
    assert drawn[0] != drawn[1]
    assert drawn[0] == drawn[2], "the latest policy's draw does not depend on there being older ones"


@given(pools, st.integers(0, 50), st.booleans())
def test_reflection_shows_what_it_says_for_any_pool(rounds: list[list[Solution]], seed: int, dedupe: bool):
    found, counted = selected(rounds, seed, dedupe=dedupe)
    everything = [each for own in rounds for each in own]
    right, wrong = positives(everything), negatives(everything)
    by_kind = {each.kind: each for each in found.reflections}
    assert len(by_kind) == len(found.reflections)
    assert ("refine" in by_kind) == bool(right and wrong)
    assert ("select" in by_kind) == bool(len(right) >= 1 and len(wrong) >= 1 and len(right + wrong) >= 3)
    if "refine" in by_kind:
        (shown,) = by_kind["refine"].shown
        assert shown in wrong
        assert by_kind["refine"].right in latest(right)
    if "select" in by_kind:
        shown3 = by_kind["select"].shown
        assert len({each.place for each in shown3}) == 3
        assert set(texts(shown3)) <= set(texts(everything))
        assert sum(each.correct for each in shown3) in (1, 2)
        assert by_kind["select"].right in shown3
        assert by_kind["select"].right.correct
    assert counted.counts["positives"] == len(right)


@given(pools, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_a_rounds_solutions_does_not_change_what_is_selected(
    rounds: list[list[Solution]], seed: int, random: Any
):
    mixed = [list(own) for own in rounds]
    for own in mixed:
        random.shuffle(own)
    assert selected(rounds, seed, max_per_query=2)[0] == selected(mixed, seed, max_per_query=2)[0]


@given(pools, st.integers(0, 5))
def test_in_its_first_round_an_accumulating_method_draws_what_any_other_does(
    rounds: list[list[Solution]], seed: int
):
    for objective in ({"kind": "sft"}, {"kind": "dpo"}):
        settings = {"objective": objective, "max_per_query": 2, "reflect": []}
        pooled, _ = selected(rounds[:1], seed, **settings)
        plain, _ = selected(rounds[:1], seed, **{**settings, "accumulate": False})
        assert pooled == plain


@given(pools)
def test_pairs_take_their_negatives_from_all_rounds(rounds: list[list[Solution]]):
    wrong = [each.place for own in rounds for each in negatives(in_order(own))]
    assume(wrong)
    found, _ = selected(rounds, objective={"kind": "dpo"}, reflect=[])
    assert all(choice.negative is not None and choice.negative.place in wrong for choice in found.choices)


def test_negatives_of_older_rounds_are_drawn_as_often_as_new_ones():
    rounds = pool(" ".join(f"+{n}" for n in range(10, 210)) + " -0", "-0", "-0")
    found, _ = selected(rounds, objective={"kind": "dpo"}, reflect=[])
    ages = Counter(choice.negative.age for choice in found.choices if choice.negative)
    assert set(ages) == {0, 1, 2}
    assert all(45 < count < 90 for count in ages.values())


def test_the_draws_are_those_of_their_stream_alone():
    right, wrong = pool("+0 +1 +2 +3", "-4 -5 -6 -7")
    for draw in (refine, select):
        first, second = (draw(right, wrong, np.random.default_rng(3)) for _ in range(2))
        assert first == second
