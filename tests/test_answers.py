"""What counts as the answer of a response, and when it is right."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vista.answers import extract, verify
from vista.errors import VistaError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("row 2 : 3 + 7 = 10 . answer : 10", "10"),
        ("row 2 column 3 : 7 . answer : yes .", "yes"),
        ("answer : 5 . answer : 7 . row 2 : 3", "7"),
        ("Looking at it closely.\nAnswer: left lung.", "left lung"),
        ("**Answer:** 42", "42"),
        ("So the answer is **B**.", "B"),
        ("The correct answer is: 3.5 cm.", "3.5 cm"),
        ("Answer:\n12", "12"),
        (r"Therefore \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"The answer is \boxed{ 5 }", "5"),
        (r"\boxed{4}, no: the answer is 5", "5"),
        (r"Answer = $\sqrt{3}$.", r"\sqrt{3}"),
        ("row 2 : 3 + 7 = 10", None),
        ("row 2 : 3 . answer :", None),
        ("answer : 5 . answer : .", None),
        (r"\boxed{3", None),
        (r"\boxed{}", None),
        ("answered 5", None),
        ("", None),
    ],
)
def test_the_last_marked_answer_is_extracted(text, found):
    assert extract(text) == found


@pytest.mark.parametrize(
    ("found", "answer", "right"),
    [
        ("yes", "yes", True),
        ("Yes.", "yes", True),
        ("No , there is none", "no", True),
        ("yes", "no", False),
        ("not sure", "no", False),
        ("nothing", "no", False),
        ("yes or no", "yes", False),
        ("", "yes", False),
        (None, "no", False),
        ("Right", "right", True),
        ("left", "right", False),
    ],
)
def test_closed_answers_are_judged_by_yes_or_no(found, answer, right):
    assert verify(found, answer, "closed", ["yes", "no"]) is right


@pytest.mark.parametrize(
    ("found", "answer", "right"),
    [
        ("red", "red", True),
        ("  The  Left lung. ", "left lung", True),
        ("two", "2", True),
        ("left", "left lung", False),
        ("", "red", False),
        ("...", "red", False),
        (None, "red", False),
    ],
)
def test_open_answers_are_judged_as_normalised_text(found, answer, right):
    assert verify(found, answer, "open") is right


@pytest.mark.parametrize(
    ("found", "answer", "right"),
    [
        ("11", "11", True),
        ("011", "11", True),
        ("11.0", "11", True),
        ("1,000", "1000", True),
        ("12 cm", "12", True),
        ("x = 12", "12", True),
        (r"12^\circ", "12", True),
        ("1/2", "0.5", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"6\sqrt{3}", r"6 \sqrt { 3 }", True),
        ("10.392305", r"6\sqrt{3}", True),
        ("12.5", r"\frac{25}{2}", True),
        ("10.39", r"6\sqrt{3}", False),
        ("12", "11", False),
        ("1 1", "11", False),
        ("3 + 4", "7", False),
        ("red", "7", False),
        ("seven", "7", False),
        ("+", "7", False),
        ("0", "-0", True),
        ("1e999999999", "7", False),
        ("9" * 400 + "^9", "7", False),
        ("", "7", False),
        (None, "7", False),
    ],
)
def test_numbers_are_judged_by_value(found, answer, right):
    assert verify(found, answer, "number") is right


@pytest.mark.parametrize(
    ("found", "answer", "choices", "right"),
    [
        ("B", "B", ["cat", "dog"], True),
        ("(b)", "B", ["cat", "dog"], True),
        ("B. dog", "B", ["cat", "dog"], True),
        ("dog", "B", ["cat", "dog"], True),
        ("The dog.", "dog", ["cat", "dog"], True),
        ("B", "dog", ["cat", "dog"], True),
        ("B. cat", "B", ["cat", "dog"], False),
        ("A", "B", ["cat", "dog"], False),
        ("C", "B", ["cat", "dog"], False),
        ("bird", "B", ["cat", "dog"], False),
        ("b", "B", None, True),
        ("", "B", ["cat", "dog"], False),
        (None, "B", None, False),
    ],
)
def test_choices_are_judged_by_letter_or_text(found, answer, choices, right):
    assert verify(found, answer, "choice", choices) is right


@pytest.mark.parametrize(
    ("answer", "answer_type", "choices"),
    [
        ("", "open", None),
        ("  ", "closed", None),
        ("hello", "number", None),
        ("E", "choice", ["cat", "dog"]),
        ("bird", "choice", ["cat", "dog"]),
        ("7", "integer", None),
    ],
)
def test_a_malformed_ground_truth_is_an_error_even_if_nothing_was_found(answer, answer_type, choices):
    with pytest.raises(VistaError, match="answer"):
        verify(None, answer, answer_type, choices)


@given(st.text())
def test_any_text_is_extracted_from_without_an_error_and_never_gives_blank(text):
    found = extract(text)
    assert found is None or found.strip()


@given(st.text(alphabet="0123456789 .+-=,yesno", max_size=20))
def test_what_stands_before_the_last_mark_does_not_matter(junk):
    assert extract(f"{junk} answer : 3 . answer : 12") == "12"


@settings(max_examples=60)
@given(
    st.text(max_size=30),
    st.sampled_from([("yes", "closed"), ("red", "open"), ("7", "number"), ("A", "choice")]),
)
def test_no_response_makes_the_verifier_fail(found, gold):
    assert verify(found, gold[0], gold[1], ["cat", "dog"] if gold[1] == "choice" else None) in (True, False)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_integers_are_right_exactly_if_equal(found, answer):
    assert verify(str(found), str(answer), "number") is (found == answer)


@given(st.decimals(-1000, 1000, places=3))
def test_a_number_is_right_however_it_is_padded(value: Decimal):
    assert verify(f" {value}0 ", str(value), "number")
