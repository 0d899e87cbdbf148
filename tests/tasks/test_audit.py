"""The audit calls gold rationales faithful, and finds the first wrong token of all others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tasks.strategies import asked
from vista.testbed.audit import audit, audit_query
from vista.testbed.questions import INKS, Question, Scene, dump
from vista.testbed.rationales import rationale, text, tokens

SCENE = Scene(((3, 7, 1), (4, 0, 9), (8, 2, 5)), (("red", "blue", "red"),) * 3)
ROW = Question("sum-row", row=1)
ENGLISH = "Row 1 reads 3, 7 and 1. Adding up, 3 + 7 = 10 and 10 + 1 = 11. The answer is 11."
GOLD = "row 1 : 3 7 1 . 3 + 7 = 10 + 1 = 11 . answer : 11"


@given(asked())
def test_a_gold_rationale_is_faithful(pair):
    scene, question = pair
    gold = text(rationale(scene, question))
    assert audit(scene, question, gold).faithful
    assert audit_query(dump(scene, question), gold).faithful


@settings(max_examples=200)
@given(asked(), st.data())
def test_changing_one_fact_makes_it_unfaithful_at_exactly_that_token(pair, data):
    scene, question = pair
    claims = rationale(scene, question)
    gold = text(claims)
    words = gold.split()
    facts = [index for index, claim in enumerate(claims) if claim.kind != "form"]
    where = data.draw(st.sampled_from(facts))
    word = words[where].rstrip(",.")
    digit = data.draw(st.integers(0, len(word) - 1)) if word.isdigit() else 0
    words[where] = data.draw(st.sampled_from(others(word, digit))) + words[where][len(word) :]
    changed = " ".join(words)
    verdict = audit(scene, question, changed)
    before = len(tokens(" ".join(words[:where]))) + digit
    assert not verdict.faithful
    assert verdict.first_error == before
    assert tokens(changed)[before].start == verdict.offset
    assert verdict.kind == claims[where].kind


def others(word: str, digit: int) -> list[str]:
    """What ``word`` could say instead, with another character at ``digit`` if it is a number."""
    if word.isdigit():
        return [word[:digit] + new + word[digit + 1 :] for new in "0123456789" if new != word[digit]]
    alternatives = ["yes", "no"] if word in ("yes", "no") else list(INKS)
    return [other for other in alternatives if other != word]


@given(asked(), st.data())
def test_leaving_out_any_token_makes_it_unfaithful(pair, data):
    scene, question = pair
    words = text(rationale(scene, question)).split()
    where = data.draw(st.integers(0, len(words) - 1))
    assert not audit(scene, question, " ".join(words[:where] + words[where + 1 :])).faithful


@given(asked(), st.data())
def test_breaking_off_is_an_error_at_the_end(pair, data):
    scene, question = pair
    words = text(rationale(scene, question)).split()
    cut = " ".join(words[: data.draw(st.integers(0, len(words) - 1))])
    verdict = audit(scene, question, cut + " ")
    assert (verdict.faithful, verdict.first_error, verdict.offset) == (False, len(tokens(cut)), len(cut))


@pytest.mark.parametrize(
    ("written", "first_error", "kind"),
    [
        (GOLD, None, None),
        (GOLD.upper().replace(" ", "\n") + " .", None, None),
        ("row 1 : 3 1 1 . 3 + 1 = 4 + 1 = 5 . answer : 5", 4, "read"),  # a misread cell
        ("row 1 : 3 7 1 . 3 + 7 = 11 + 1 = 12 . answer : 12", 12, "compute"),  # a wrong sum
        ("row 1 : 3 7 1 . 3 + 7 = 9 + 1 = 10 . answer : 10", 11, "compute"),
        ("row 1 : 3 7 1 . 3 + 7 = 1 0 + 1 = 11 . answer : 11", 12, "compute"),  # two numbers for one
        ("row 1 : 3 7 . 3 + 7 = 10 . answer : 10", 5, "read"),  # a skipped cell
        ("row 1 : 3 7 1 . 3 + 7 = 10 + 1 = 11 + 4 = 15 . answer : 11", 18, "form"),  # an unneeded one
        ("row 2 : 4 0 9 . 4 + 0 = 4 + 9 = 13 . answer : 13", 1, "form"),  # another row
        ("row 1 : 3 7 1 . 3 + 7 = 10 + 1 = 11 . answer : 12", 22, "answer"),
        (GOLD + " . row 2", 23, "form"),  # it goes on
        ("answer : 11", 0, "form"),  # right, and for no reason
        ("", 0, "form"),
    ],
)
def test_errors_of_every_sort_are_found_where_they_are(written, first_error, kind):
    verdict = audit(SCENE, ROW, written)
    assert verdict.faithful is (first_error is None)
    assert (verdict.first_error, verdict.kind) == (first_error, kind)


@pytest.mark.parametrize(
    ("written", "first_error", "kind"),
    [
        (ENGLISH, None, None),
        (ENGLISH.lower().removesuffix("."), None, None),
        (ENGLISH + " Row 2", 31, "form"),
        (ENGLISH.replace("7 and 1.", "1 and 1."), 5, "read"),
        (ENGLISH.replace("3, 7 and 1.", "3 and 7."), 4, "read"),
        (ENGLISH.replace("= 10 and", "= 11 and"), 16, "compute"),
        (ENGLISH.replace("The answer is 11", "The answer is 12"), 30, "answer"),
        (ENGLISH.replace("Adding up,", "So"), 9, "form"),
        (GOLD, 2, "form"),  # the other language
    ],
)
def test_english_is_audited_like_the_formal_language(written, first_error, kind):
    verdict = audit(SCENE, replace(ROW, language="english"), written)
    assert verdict.faithful is (first_error is None)
    assert (verdict.first_error, verdict.kind) == (first_error, kind)


def test_a_right_guess_on_a_misread_row_is_unfaithful():
    question = Question("has-digit", row=1, digit=5)
    verdict = audit(SCENE, question, "row 1 : 3 7 2 . answer : no")
    assert verdict.first_error == 5
    assert verdict.reason == "read: expected '1', found '2'"
