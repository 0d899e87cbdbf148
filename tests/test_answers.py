"""What counts as the answer of a response, and when it is right."""

from __future__ import annotations

import itertools
import re
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vista.answers import extract, verify
from vista.errors import VistaError
from vista.formulae import decimal


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
    ("found", "answer", "choices", "right"),
    [
        ("B", "A", ["B", "A", "C"], False),  # a lone letter is a letter, whatever the texts
        ("A", "A", ["B", "A", "C"], True),
        ("A. B", "A", ["B", "A", "C"], True),
        ("D", "B", ["A", "D"], True),  # no letter of a choice, so a text
        ("(c) Arizona", "C", ["West Virginia", "Louisiana", "Arizona"], True),
        ("C: arizona", "C", ["West Virginia", "Louisiana", "Arizona"], True),
        ("Louisiana", "C", ["West Virginia", "Louisiana", "Arizona"], False),
        ("B or C", "C", ["West Virginia", "Louisiana", "Arizona"], False),
        ("5", "B", ["4", "5", "6", "7"], True),
    ],
)
def test_choices_whose_texts_are_letters_or_numbers(found, answer, choices, right):
    assert verify(found, answer, "choice", choices) is right


@pytest.mark.parametrize(
    ("found", "answer", "right"),
    [
        ("chest", "Chest", True),
        ("Chest.", "Chest", True),
        ("the  chest", "Chest", True),
        ("thorax", "Chest", False),  # no synonyms
        ("lungs", "Lung", True),
        ("left lungs", "left lung", True),
        ("lung", "left lung", False),
        ("left", "left lung", False),
        ("pelvic cavities", "Pelvic Cavity", True),
        ("masses", "mass", True),
        ("abscesses", "abscess", True),
        ("pelvis", "pelvi", False),
        ("esophagus", "Esophagus", True),
        ("metastasis", "metastasis", True),
        ("X ray", "X-Ray", True),
        ("xray", "X-Ray", True),
        ("x-rays", "X-Ray", True),
        ("CT (computed tomography)", "CT", True),
        ("CT scan", "CT", False),
        ("Spinal Cord, Lung", "Lung, Spinal Cord", True),
        ("lung and spinal cord", "Lung, Spinal Cord", True),
        ("lung", "Lung, Spinal Cord", False),
        ("lung, spinal cord, heart", "Lung, Spinal Cord", False),
        ("left lung, right", "Right Lung, Left", False),
        ("two", "2", True),
        ("T2-weighted", "T2 weighted", True),
        ("non enhancing tumor", "Non-enhancing Tumor", True),
        ("no", "None", False),
        ("transverse plane", "Transverse  Plane", True),
        ("yes", "chest", False),
        ("...", "chest", False),
        ("", "chest", False),
        (None, "chest", False),
    ],
)
def test_medical_terms_are_judged_without_case_punctuation_plural_and_order(found, answer, right):
    assert verify(found, answer, "term") is right


@pytest.mark.parametrize(
    ("found", "answer", "right"),
    [
        ("5", "5", True),
        ("x = 5", "5", True),
        ("5 cm", "5", True),
        ("5 cm", "5 cm", True),
        ("5", "5 cm", True),
        ("5 centimeters", "5 cm", True),
        ("5 mm", "5 cm", False),
        ("12 cm^2", "12 square cm", True),
        (r"12\,\mathrm{cm}^2", "12", True),
        ("12 cm²", "12 cm^{2}", True),
        ("12 cm", "12 cm^2", False),
        ("12 square units", "12", True),
        ("7 in.", "7 inches", True),
        (r"30^\circ", "30", True),
        (r"30 ^ { \circ }", "30", True),
        ("30 degrees", r"30^\circ", True),
        ("30°", "30 deg", True),
        ("30 degrees", "30 cm", False),
        ("60", "30", False),
        (r"m\angle 1 = 45^\circ", "45", True),
        ("5√2", r"5 \sqrt { 2 }", True),
        ("5√(2)", r"5 \sqrt { 2 }", True),
        (r"\sqrt{50}", r"5 \sqrt { 2 }", True),
        ("7.07", r"5 \sqrt { 2 }", False),  # no rounding that was not asked for
        (r"\sqrt{2}", r"5 \sqrt { 2 }", False),
        ("9/2", r"\frac { 9 } { 2 }", True),
        ("4.5", r"\frac { 9 } { 2 }", True),
        (r"\dfrac{9}{2}", r"\frac { 9 } { 2 }", True),
        ("2/9", r"\frac { 9 } { 2 }", False),
        (r"36\pi", r"36 \pi", True),
        ("36π", r"36 \pi", True),
        (r"36\pi\text{ square inches}", r"36 \pi", True),
        ("113.1", r"36 \pi", False),
        ("36", r"36 \pi", False),
        ("2:3", "2 : 3", True),
        ("2:3:4", "2 : 3 : 4", True),
        ("2:4:3", "2 : 3 : 4", False),
        ("6.4", "6 . 4", True),
        ("6.40", "6.4", True),
        ("6.5", "6.4", False),
        ("1,200", "1200", True),
        ("−3", "-3", True),
        ("3 + 2x", "2x + 3", True),
        ("cannot be determined", "5", False),
        ("5 or 6", "5", False),
        ("", "5", False),
        (None, "5", False),
    ],
)
def test_formulae_are_judged_by_value_and_unit(found, answer, right):
    assert verify(found, answer, "math") is right


@pytest.mark.parametrize(
    ("found", "answer", "right"),
    [
        ("14", "14", True),
        ("14.7", "14", True),
        ("14.71", "14", False),
        ("13.3", "14", True),
        ("-14", "14", False),
        ("5%", "0.05", True),
        ("5%", "5", False),
        ("5%", "5%", True),
        ("5.2%", "5%", True),
        ("2011", "2014", True),  # years are numbers: a weakness of the measure
        ("0", "0", True),
        ("0.0", "0", False),  # nothing is within 5 % of zero
        ("no", "No", True),
        ("Yes", "No", False),
        ("Rep/Lean Rep", "rep/lean rep", True),
        ("1,200", "1200", False),  # as published: a comma makes it a text
        ("fourteen", "14", False),
        ("14 bars", "14", False),
        ("nan", "14", False),
        ("", "14", False),
        (None, "No", False),
    ],
)
def test_chart_answers_are_judged_within_five_percent(found, answer, right):
    assert verify(found, answer, "relaxed") is right


STATES = ["West Virginia", "Louisiana", "Arizona", "Oklahoma"]
ROOTS = ["5", r"5 \sqrt { 2 }", r"5 \sqrt { 3 }", "10"]


@pytest.mark.parametrize(
    "stated",
    [
        "B",
        "b",
        "(B)",
        "(b)",
        "[B]",
        "{B}",
        "B.",
        "B)",
        "B:",
        "B. Louisiana",
        "B) Louisiana",
        "B: Louisiana",
        "B - Louisiana",
        "B, Louisiana",
        "B (Louisiana)",
        "(B) Louisiana",
        "(B). Louisiana",
        "(B). Louisiana lies farthest south",
        "Louisiana",
        "louisiana.",
        "Louisiana (B)",
        "Option B",
        "option (B)",
        "choice B: Louisiana",
        "letter B",
        "The correct answer is B",
        "B because it lies south",
        "B, since Arizona lies north",
        "B. BECAUSE: Arizona lies north of it",
        r"\text{B}",
        r"\textbf{(B) }",
        r"\text{(B)} \text{Louisiana}",
        "$B$",
        r"\(B\)",
        "**B**",
        "**B. Louisiana**",
        "B. The state of Louisiana",
        "B is correct",
    ],
)
def test_a_choice_is_right_however_its_letter_and_text_are_written(stated):
    assert verify(stated, "B", "choice", STATES)
    assert verify(stated, "Louisiana", "choice", STATES)
    assert not verify(stated, "A", "choice", STATES)


@pytest.mark.parametrize(
    "stated",
    [
        "B or C",
        "B and C",
        "B, C",
        "B/C",
        "B & C",
        "(B) or (C)",
        "(B)(C)",
        "B. C.",
        "B. Arizona",
        "(B) Arizona",
        "B (Arizona)",
        "B: Arizona",
        "B, Arizona",
        "B - Arizona",
        "B — Arizona",
        "B Arizona",
        "(B). Arizona lies farthest south",
        "Louisiana (C)",
        "not B",
        "both B and C",
        "either B or C",
        "B? C?",
        "E",
        "none",
        "BC",
        "Louisiana or Arizona",
        "(B",
        "B or",
    ],
)
def test_a_response_that_names_two_choices_or_none_names_no_choice(stated):
    for answer in "ABCD":
        assert not verify(stated, answer, "choice", STATES)


@pytest.mark.parametrize(
    "form", ["A ({})", "A. {}", "A: {}", "A, {}", "A - {}", "A {}", "(A) {}", "A) {}", "**A** ({})"]
)
def test_the_letter_a_before_another_choice_is_no_article(form):
    assert not verify(form.format("West Virginia"), "B", "choice", ["Louisiana", "West Virginia"])
    assert verify(form.format("Louisiana"), "A", "choice", ["Louisiana", "West Virginia"])


@pytest.mark.parametrize(
    ("found", "answer", "choices", "right"),
    [
        ("a dog", "B", ["cat", "dog"], True),
        ("A dog", "B", ["cat", "dog"], True),
        ("the dog", "B", ["cat", "dog"], True),
        ("A", "A", ["cat", "dog"], True),
        ("a", "A", ["cat", "dog"], True),
        ("A bird", "A", ["cat", "dog"], False),
        ("18", "D", ["9", "12", "18", "18"], True),  # two choices with one text are equally right
        ("(C) 18", "D", ["9", "12", "18", "18"], True),
        ("(B) 18", "D", ["9", "12", "18", "18"], False),
        ("2,256", "C", ["191.5", "1128", "2256", "4512"], True),
        ("2256.0", "C", ["191.5", "1128", "2256", "4512"], True),
        ("C. 1128", "C", ["191.5", "1128", "2256", "4512"], False),
        (r"$5\sqrt{3}$", "C", ROOTS, True),
        ("5√3", "C", ROOTS, True),
        (r"C. $5\sqrt{3}$", "C", ROOTS, True),
        (r"\text{(C) } 5\sqrt{3}", "C", ROOTS, True),
        (r"C. $5\sqrt{2}$", "C", ROOTS, False),
        ("5", "C", ROOTS, False),
        (r"\textbf{(D) } 60^\circ", "D", ["15°", "30°", "45°", "60°"], True),
        ("60 degrees", "D", ["15°", "30°", "45°", "60°"], True),
        ("0.5", "A", [r"\frac{1}{2}", r"\frac{1}{3}"], True),
        ("No", "B", ["Yes", "No"], True),
        ("(A) No", "B", ["Yes", "No"], False),
        ("sample B", "B", ["neither", "sample B", "sample A"], True),
        ("(C) sample A", "C", ["neither", "sample B", "sample A"], True),
        ("(C) sample B", "C", ["neither", "sample B", "sample A"], False),
        ("the same as before", "B", ["the same", "the same as before"], True),
        ("B. the same as before", "B", ["the same", "the same as before"], True),
    ],
)
def test_choices_are_told_apart_by_their_texts_and_values(found, answer, choices, right):
    assert verify(found, answer, "choice", choices) is right


@pytest.mark.parametrize("word", ["yes", "no"])
@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("{Word}", True),
        ("{Word}.", True),
        ("{Word}, there is no fracture", True),
        ("{Word}, there is a fracture", True),
        ("{Word}; the {other} side is clear", True),
        ("{Word} there is one", True),
        ("{Word} because the lung is clear", True),
        ("({Word})", True),
        ("(A) {Word}", True),
        ("it is {word}", True),
        ("{Word} - {other} doubt", True),
        ("{word} or {other}", False),
        ("{word}/{other}", False),
        ("{word} and {other}", False),
        ("{word}, {other}", False),
        ("{word} {other}", False),
        ("{word}; {other}.", False),
        ("{word} fracture", False),  # neither "fracture" nor "no fracture" answers
        ("{word} evidence of one", False),
        ("{word} abnormalities are seen", False),
        ("not {word}", False),
        ("the {word} answer", False),
        ("{word}ish", False),
        ("un{word}", False),
        ("", False),
    ],
)
def test_yes_and_no_are_read_by_one_rule(word, form, said):
    other = "no" if word == "yes" else "yes"
    text = form.format(word=word, Word=word.title(), other=other)
    assert verify(text, word, "closed") is said
    assert not verify(text, other, "closed")


@pytest.mark.parametrize(
    ("found", "answer", "right"),
    [
        ("computed tomography (CT)", "CT", True),
        ("computed tomography (CT)", "Computed Tomography", True),
        ("CT (computed tomography)", "computed tomography", True),
        ("Magnetic Resonance Imaging (MRI)", "MRI", True),
        ("lung (heart)", "heart", False),
        ("lung (not the heart)", "heart", False),
        ("left lung (right)", "right", False),
        (r"\text{Left Lung}", "left lung", True),
        ("the **left** lung", "left lung", True),
        ("lung or heart", "lung", False),
    ],
)
def test_a_term_may_come_with_its_short_form(found, answer, right):
    assert verify(found, answer, "term") is right


@pytest.mark.parametrize(
    "answer",
    [
        "U.S.",
        "Rabbit**",
        "LAAP*",
        "Inc.",
        "Helmerich & Payne, Inc.",
        "J. Smith",
        "St. Louis",
        "Germany vs. United States",
        "No. 1",
        "Don't know",
        "$1.2",
        "5%",
        "[Germany, France]",
        "Since 2010",
        "a; b",
        "1:5",
    ],
)
def test_a_chart_answer_is_right_by_itself_after_any_mark(answer):
    for form in ("Answer: {}", "Answer:\n{}", "The answer is: {}", "**Answer:** {}", "<answer>{}</answer>"):
        assert verify(extract(form.format(answer)), answer, "relaxed"), form


@pytest.mark.parametrize(
    ("found", "answer"),
    [(r"25\%", "25%"), (r"\text{China}", "China"), ("**25%**", "25%"), (r"\$5", "$5"), ("`Yes`", "Yes")],
)
def test_a_chart_answer_may_be_in_latex_or_markdown(found, answer):
    assert verify(found, answer, "relaxed")


def test_of_a_chart_answer_nothing_else_is_forgiven():
    for found, answer in [
        ("Rabbit", "Rabbit**"),
        ("Facebook Messenger", "Facebook Messenger*"),
        ("US", "U.S."),
    ]:
        assert not verify(found, answer, "relaxed")


@pytest.mark.parametrize(
    ("answer", "answer_type", "choices"),
    [
        ("", "open", None),
        ("", "term", None),
        (" ", "math", None),
        ("", "relaxed", None),
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


@settings(max_examples=60)
@given(
    st.text(max_size=30),
    st.sampled_from(
        [
            ("yes", "closed"),
            ("red", "open"),
            ("7", "number"),
            ("A", "choice"),
            ("lung", "term"),
            (r"5 \sqrt { 2 }", "math"),
            ("0.5", "relaxed"),
        ]
    ),
)
def test_no_response_makes_the_verifier_fail(found, gold):
    assert verify(found, gold[0], gold[1], ["cat", "dog"] if gold[1] == "choice" else None) in (True, False)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_integers_are_right_exactly_if_equal(found, answer):
    assert verify(str(found), str(answer), "number") is (found == answer)


@given(st.decimals(-1000, 1000, places=3))
def test_a_number_is_right_however_it_is_padded(value: Decimal):
    assert verify(f" {value}0 ", str(value), "number")


WORDS = st.lists(st.sampled_from(["Left Lung", "CT", "T2", "pelvis", "2", "None", "an ulcer"]), min_size=1)


@given(st.one_of(WORDS.map(", ".join), st.text(min_size=1).filter(str.strip)))
def test_a_term_or_chart_answer_is_right_by_itself(answer):
    assert verify(answer, answer, "term")
    if not re.search("nan|inf", answer.casefold()):  # numbers to the measure, and equal to none
        assert verify(answer, answer, "relaxed")


@pytest.mark.parametrize("answer", ["__init__", "_0_", "__a b__", '"left lung"', "`x`", "“T2”", "<b>x</b>"])
@pytest.mark.parametrize("answer_type", ["closed", "open", "term", "math"])
def test_a_truth_that_looks_like_emphasis_is_met_by_itself(answer, answer_type):
    assert verify(answer, answer, answer_type)
    assert verify(extract(f"Answer: {answer}"), answer, answer_type)
    assert not verify(f"{answer} or 7", answer, answer_type)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["{a}", r"{a} \sqrt {{ {b} }}", r"\frac {{ {a} }} {{ {b} }}", r"{a} \pi", "{a} : {b}"]),
    st.integers(1, 99),
    st.integers(1, 99),
    st.sampled_from(["", " cm", r"^\circ", " square feet"]),
)
def test_a_formula_is_right_by_itself_with_or_without_its_unit(form, a, b, unit):
    gold = form.format(a=a, b=b)
    assert verify(gold, gold, "math")
    assert verify(gold + unit, gold, "math")
    assert verify(gold.replace(" ", ""), gold + unit, "math")


@given(WORDS, st.randoms(use_true_random=False))
def test_the_order_of_a_list_of_terms_does_not_matter(terms, random):
    shuffled = random.sample(terms, len(terms))
    assert verify(", ".join(shuffled), ", ".join(terms), "term")


@given(
    st.sampled_from(["yes", "no"]),
    st.sampled_from(["yes", "no", "maybe", "yes, there is", "no lung", ""]),
    st.sampled_from([str.upper, str.title, str.lower]),
    st.text(alphabet=" \t\n", max_size=3),
)
def test_verdicts_on_yes_and_no_do_not_depend_on_case_and_blanks(answer, found, case, blanks):
    verdict = verify(found, answer, "closed")
    assert verify(blanks + case(found) + blanks, answer, "closed") is verdict
    assert verify(found, case(answer), "closed") is verdict


@pytest.mark.parametrize(
    "stated",
    [
        "B (or C)",
        "B (or possibly C)",
        "B, possibly C",
        "B as well as C",
        "B along with C",
        "B plus C",
        "B, but also C",
        "B, no wait, C",
        "B. No, C",
        "B (Louisiana) or C (Arizona)",
        "B. Louisiana, C. Arizona",
        "B. Louisiana / C. Arizona",
        "(B) Louisiana and (C) Arizona",
        "B. Louisiana and Arizona",
        "B. Louisiana, Arizona",
        "'B', 'C'",
        '"B", "C"',
        '["B", "C"]',
        "B is incorrect",
        "B is not correct",
        "B cannot be right",
        "B isn't the answer",
        "Louisiana, option C",
    ],
)
def test_a_letter_that_is_joined_to_another_choice_or_denied_is_no_answer(stated):
    for answer in "ABCD":
        assert not verify(stated, answer, "choice", STATES)


@pytest.mark.parametrize(
    "stated",
    [
        "B, not C",
        "B rather than C",
        "B (C is farther north)",
        "B, but C is close",
        "B. Louisiana (Arizona is farther north)",
        "B. Louisiana, which lies south of Arizona",
        "B. Louisiana and its neighbours",
        "[B]",
        "[B. Louisiana]",
        "Louisiana, option B",
        "Louisiana, which is option (B)",
        "（B）",
        "Ｂ",
        "B、Louisiana",
        "B：Louisiana",
        r"\text{B. Louisiana}",
    ],
)
def test_what_else_follows_a_letter_does_not_matter(stated):
    assert verify(stated, "B", "choice", STATES)
    assert not verify(stated, "C", "choice", STATES)


GENOTYPES = ["Aa", "AA", "aa"]
SIGNED = ["-5", "5", "1/5", "-1/5"]
INTERVALS = ["(0, 3)", "(1, 2)", "[1, 2)", "[0, 3]"]
SAMPLES = ["neither; the samples have the same temperature", "sample A", "sample B"]
POLES = ["yes", "no"]


@pytest.mark.parametrize(
    "choices", [GENOTYPES, SIGNED, INTERVALS, SAMPLES, POLES, ["the A", "a", "an A"], ["x'", "x"]]
)
@pytest.mark.parametrize(
    "form", ["{letter}", "({letter})", "{letter}. {text}", "{letter}: {text}", "({letter}) {text}", "{text}"]
)
def test_choices_that_nearly_agree_are_told_apart_in_any_order(choices, form):
    for order in itertools.permutations(choices):
        for text in order:
            stated = form.format(letter="ABCD"[order.index(text)], text=text)
            if len(stated) > 1 or form == "{letter}":  # a lone letter is a letter, whatever the texts
                named = [
                    verify(extract(f"Answer: {stated}"), answer, "choice", order)
                    for answer in "ABCD"[: len(order)]
                ]
                assert named == [answer == text for answer in order], (stated, order)


@pytest.mark.parametrize(
    ("found", "answer", "choices"),
    [
        ("no, there are not fewer", "B", POLES),
        ("definitely no, there are none", "B", POLES),
        ("yes, but it is not the smallest", "A", POLES),
        ("neither", "A", SAMPLES),
        ("sample A (B)", "B", SAMPLES),
        ("c + f = f + b (C)", "C", ["a + b = j + l", "g = h", "c + f = f + b"]),
        (r"\text{A. \frac{4}{3}}", "A", [r"\frac{4}{3}", "0.75"]),
        ("E. cannot be determined, since it is small", "E", ["1", "2", "3", "4", "cannot be determined"]),
    ],
)
def test_the_text_of_a_choice_may_be_cut_short_or_continued(found, answer, choices):
    for letter in "ABCDE"[: len(choices)]:
        assert verify(found, letter, "choice", choices) is (letter == answer)


@pytest.mark.parametrize(
    ("found", "answer", "right"),
    [
        ("10%", "10", False),
        ("10%", "10%", True),
        ("1.2", "1 2", False),
        ("1 2", "1.2", False),
        ("-3", "3", False),
        ("3", "-3", False),
        ("−3", "-3", True),
        ("5-10 minutes", "5-10 minutes", True),
        ("T-2", "T2", False),
        ("hepatitis", "hepatitis A", False),
        ("hepatitis a", "hepatitis A", True),
        ("pneumonia (or edema)", "pneumonia", False),
        ("pneumonia (differential: edema)", "pneumonia", True),
        ("CT (MRI)", "MRI", False),
        ("CT (MRI)", "CT", True),
        ("MRI (T2)", "T2", False),
        ("chest (AP)", "AP", False),
        ("anteroposterior (AP)", "AP", True),
        ("chest x-ray (CXR)", "CXR", True),
    ],
)
def test_signs_and_decimals_are_part_of_a_term_and_other_terms_in_brackets_are_not(found, answer, right):
    assert verify(found, answer, "term") is right


@pytest.mark.parametrize(
    "form", ["{} (or {})", "'{}'/'{}'", "{} → {}", "{} - wait, {}", "{}, maybe {}", "[{}/{}]"]
)
def test_yes_and_no_together_are_neither(form):
    for one, other in (("yes", "no"), ("no", "yes")):
        found = extract(f"Answer: {form.format(one, other)}")
        assert not verify(found, "yes", "closed")
        assert not verify(found, "no", "closed")


@pytest.mark.parametrize(
    ("found", "answer", "answer_type", "right"),
    [
        *(("10⁵", "105", kind, False) for kind in ("number", "math", "open", "closed", "term", "relaxed")),
        *(("105", "10⁵", kind, False) for kind in ("number", "math", "open", "term", "relaxed")),
        *(("3²", "32", kind, False) for kind in ("number", "math", "open", "term")),
        *(("10⁵", "10^5", kind, True) for kind in ("math", "open", "term", "number")),
        *(("10⁵", "100000", kind, True) for kind in ("math", "number")),
        *(("1.5×10⁻³", "0.0015", kind, True) for kind in ("math", "number")),
        *(("2ⁿ", "2n", kind, False) for kind in ("math", "open")),
        *(("3½", "3.5", kind, True) for kind in ("math", "number")),
        *(("3½", "31/2", kind, False) for kind in ("math", "number", "open", "term")),
        *(("½", "1/2", kind, True) for kind in ("math", "open")),
        *(("⅓", "0.3333333333", kind, True) for kind in ("math", "number")),
        *(("½", "12", kind, False) for kind in ("math", "number", "open", "term")),
        *(("10₂", "102", kind, False) for kind in ("math", "number", "open", "term")),
        *(("H₂O", "H2O", kind, True) for kind in ("open", "term")),
        *(("1①", "11", kind, False) for kind in ("math", "number", "open", "term")),
        *(("①", "1", kind, True) for kind in ("math", "number", "open", "term")),
        *(("４２", "42", kind, True) for kind in ("math", "number", "open", "term")),
        *(("𝟒𝟐", "42", kind, True) for kind in ("math", "number", "open", "term")),
        *(("Ⅳ", "IV", kind, True) for kind in ("open", "term")),
        ("Ⅳ", "4", "number", False),
        ("36 cm²", "36", "number", True),
        ("ﬁbrosis", "fibrosis", "term", True),
    ],
)
def test_a_number_is_read_as_it_is_written_in_unicode(
    found: str, answer: str, answer_type: str, right: bool
) -> None:
    assert verify(found, answer, answer_type) is right


SIGNS = [chr(code) for code in range(0x80, 0x30000) if unicodedata.category(chr(code)) in ("No", "Nl")]


def test_no_sign_of_a_number_becomes_a_digit_of_another() -> None:
    """Whatever Unicode's compatibility form makes of it, such as 7² of 72."""
    wrong = []
    for sign in SIGNS:
        digits = unicodedata.normalize("NFKC", sign)
        for one, other in ((f"7{sign}", f"7{digits}"), (f"{sign}7", f"{digits}7")):
            if other.isdecimal() and (decimal(one) is not None or verify(one, other, "open")):
                wrong.append(sign)
    assert not wrong
    assert len(SIGNS) > 500
