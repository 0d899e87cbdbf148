"""Where the answer of a response is found, and what is none of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.answers import FORMS, GOLDS, RUNS
from vista.answers import extract, verify


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


YES = [
    "Answer: yes",
    "Answer : yes",
    "Answer：yes",
    "ANSWER: YES",
    "Ans: yes",
    "Answer => yes",
    "Answer = yes",
    "Final answer - yes",
    "Answer (yes or no): yes",
    "**Answer**: yes",
    "**Answer:** yes",
    "**Answer: yes**",
    "*Answer*: yes",
    "__Answer:__ yes",
    "_Answer_: yes",
    "`Answer`: yes",
    "**Final Answer**: yes",
    "### Answer\nyes",
    "### Answer:\nyes",
    "## **Final Answer**\n\n**yes**",
    "Answer\nyes",
    "**Answer**\n\nyes",
    "Answer:\nyes",
    "Answer:\n\n\n  yes",
    "Answer:\n- yes",
    "Answer:\n> yes",
    "Answer:\n```\nyes\n```",
    "Answer: `yes`",
    "Answer: 'yes'",
    'Answer: "yes."',
    "Answer: “yes”",
    "Answer: *yes*",
    "Answer: ***yes***",
    "Answer: <b>yes</b>",
    "Answer: yes</s>",
    "Answer: yes<|im_end|>",
    '{"answer": "yes"}',
    '{"reason": "it is there", "answer": "yes"}',
    "The answer is yes.",
    "The **answer** is yes",
    "The answer is: yes",
    "The answer is **yes**.",
    "The final answer is:\n\nyes",
    "So the answer would be yes.",
    "answer is yes",
    "The answer to the question is yes.",
    "The correct option is yes.",
    "<answer>yes</answer>",
    "<answer>\nyes\n</answer>",
    "<answer>Answer: yes</answer>",
    "<think>Answer: no?</think><answer>yes</answer>",
    "<think>\\boxed{no}</think>\nThe answer is yes.",
    r"\boxed{yes}",
    r"\boxed{\text{yes}}",
    r"$\boxed{\mathrm{yes}}$",
    r"\[ \boxed{ \textbf{yes} } \]",
    r"\fbox{yes}",
    r"Answer: $\text{yes}$",
    r"Answer: \(\text{yes}\).",
    "Answer:\n$$\n\\text{yes}\n$$",
    "Answer:\n\\[\n\\text{yes}\n\\]",
    r"Final Answer: The final answer is $\boxed{yes}$. I hope it is correct.",
    "Final Answer: The final answer is yes. I hope it is correct.",
    "Answer: yes\n\nThis answer is based on the opacity.",
    "Answer: yes\nThe answer is supported by the image.",
    "Answer: yes\nThe answer is not no.",
    "Answer: yes\nTo check the answer: look again.",
    "Answer: yes\nConfidence in the answer: high",
    "Answer: yes. The lung is opaque.",
    "Answer: yes! The lung is.",
    "Answer: yes, because the lung is opaque",
    "Answer: yes (as the lung is opaque)",
    "<|begin_of_box|>yes<|end_of_box|>",
]


@pytest.mark.parametrize("text", YES)
def test_an_answer_is_found_in_the_forms_that_models_write(text):
    assert extract(f"The lung is on the left.\n{text}").casefold() == "yes"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{2}. Wait, it is \boxed{3}", "3"),
        ("Answer: 2\nWait, that is wrong.\nAnswer: 3", "3"),
        ("<answer>2</answer> no, <answer>3</answer>", "3"),
        ("The answer is 2. Then again, the answer is 3.", "3"),
        (r"\boxed{2}. Actually, the answer is 3.", "3"),  # prose that takes a mark back
        (r"\boxed{2}. The answer is 3.", "2"),  # prose that does not
        ("Answer: 2\nHence the answer is correct.", "2"),
        (r"\boxed{2} or \boxed{3}", "2 or 3"),  # boxes side by side are one answer
        (r"$x = \boxed{2}$, $y = \boxed{3}$", "2 or 3"),
        (r"\boxed{2} $\boxed{2}$", "2"),
        ("The answer is not B.", None),
        ("The answer is clear from the picture.", None),
        ("To find the answer: look at the picture.", None),
        ("the question that this can best answer is whether it floats", None),
        ("Answer:", None),
        ("### Answer", None),
        ("<answer></answer>", None),
        ("Answer: **", None),
    ],
)
def test_an_explicit_mark_beats_prose_and_of_several_the_last_counts(text, found):
    assert extract(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Answer: 48. This follows since each half is 24.", "48"),
        ("Answer: 48. each half is 24", "48"),
        ("Answer: 48 because each half is 24", "48"),
        ("Answer: 48, which is twice 24.", "48"),
        ("Answer: 48 (since each half is 24)", "48"),
        ("Answer: St. Louis. It lies on a river.", "St. Louis"),
        ("Answer: 3.5 cm. It is short.", "3.5 cm"),
        ("Answer: B. Louisiana", "B. Louisiana"),  # the text of the choice is part of its answer
        ("Answer: (B). Louisiana", "(B). Louisiana"),
        ("Answer: J. Smith", "J. Smith"),
        ("Answer: U.S.", "U.S."),
        ("Answer: Rabbit**", "Rabbit**"),
    ],
)
def test_a_sentence_or_a_reason_after_an_answer_is_none_of_it(text, found):
    assert extract(text).removesuffix(".") == found.removesuffix(".")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{}\n\nWait, that is wrong. It should be 6.", None),
        ("{}\n\nWait, let me check: 2 + 3 = 6.", None),
        ("{}. Hmm, actually 6.", None),
        ("{}. Actually, 6.", None),
        ("{} - wait, 6", None),
        ("{}\n\nCorrection: 6", None),
        ("{}\n**Correction:** 6", None),
        ("{}\nOops, I swapped them.", None),
        ("{}\n\nWait, let me check. Yes. So the answer is 6.", "6"),
        ("{}\nHmm, no. Let me redo it.\nAnswer: 6", "6"),
        ("{}\n**Correction:** Answer: 6", "6"),
        ("{}\n\nThe wait time is not asked for.", "5"),
        ("{}\n\nNote: actually this uses a theorem.", "5"),
        ("{}. It is actually a right triangle.", "5"),
        ("Wait, I see it. {}", "5"),
        ("<think>\nHmm. {}? Wait, no.\n</think>\nAnswer: 5", "5"),
    ],
)
@pytest.mark.parametrize("mark", ["Answer: 5", r"\boxed{{5}}", "<answer>5</answer>", "The answer is 5"])
def test_an_answer_that_is_doubted_afterwards_counts_only_if_it_is_given_again(text, found, mark):
    assert extract(text.format(mark.replace("{{", "{").replace("}}", "}"))) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is therefore (B).", "(B)"),
        ("The answer is most likely B.", "B"),
        ("The answer is clearly **B**.", "B"),
        ("The answer is actually B.", "B"),
        ("The answer will be B.", "B"),
        ("The answer seems to be B.", "B"),
        ("Correct option: B", "B"),
        ("[Answer]: B", "B"),
        ("**Correct choice**: (B)", "(B)"),
        ("Please select the correct option:\nA or B.\nThe answer is B.", "B"),
        ("The answer is no. If the lung were clear, the answer would be yes.", "no"),
        ("If we add them, the answer would be B.", "B"),
        ("{'answer': 'B', 'sure': True}", "B"),
        ('{\n  "answer": "B",\n  "sure": true\n}', "B"),
        ("Answer: 'B', 'C'", "'B', 'C'"),
        ("Answer: > 5", "> 5"),
        ("Answer:\n> B", "B"),
        ("Answer:\n- B\n- C", "B, C"),
        ("Answer:\n* heart\n* lung", "heart, lung"),
        ("Answer:\n1. heart\n2. lung\n\nBoth are opaque.", "heart, lung"),
        ("Answer:\n- B\n\nC is farther north.", "B"),
        ("Answer: x = 5; y = 3", "x = 5; y = 3"),
        ("Answer: 5; or 6 if it is longer", "5; or 6 if it is longer"),
        ("Answer: 5; it is the longest side", "5"),
        ("Answer: 5 (approximately)", "5"),
        ("Answer: （Ｂ）", "(B)"),
        (r"\boxed{\text{A. \frac{4}{3}}}", r"A. \frac{4}{3}"),
    ],
)
def test_leads_lists_and_second_results_are_told_from_an_answer(text, found):
    assert extract(text) == found


def test_the_mark_of_a_prompt_counts_beside_the_usual_ones():
    assert extract("I see it. Final verdict -> yes", mark="final verdict ->") == "yes"
    assert extract("Final verdict -> yes", mark=None) is None
    assert extract("Final verdict -> no\nAnswer: yes", mark="Final verdict ->") == "yes"
    assert extract("Answer: yes\nFinal verdict -> no.", mark="Final verdict ->") == "no"
    assert extract("a+ 3 a+ 5", mark="a+") == "5"  # no pattern


@given(st.sampled_from(YES), st.text(alphabet="abc .\n", max_size=40))
def test_prose_before_a_mark_does_not_matter(text, prose):
    assert extract(f"{prose}\n{text}").casefold() == "yes"


@pytest.mark.parametrize("run", RUNS)
def test_no_text_holds_a_verdict_up(run):
    """Patterns that backtrack would take minutes to years; ``benchmarks/answers.py`` measures it."""
    for size in (1_000_000, 1_900, 290):
        body = (run * (size // len(run) + 1))[:size]
        for text in (form.format(body) for form in FORMS):
            found = extract(text)
            for answer_type, answer in GOLDS.items():
                choices = ["cat", "dog"] if answer_type == "choice" else None
                assert not verify(found, answer, answer_type, choices)
                assert not verify(text, answer, answer_type, choices)


@given(st.text())
def test_any_text_is_extracted_from_without_an_error_and_never_gives_blank(text):
    found = extract(text)
    assert found is None or found.strip()


@given(st.text(alphabet="0123456789 .+-=,yesno", max_size=20))
def test_what_stands_before_the_last_mark_does_not_matter(junk):
    assert extract(f"{junk} answer : 3 . answer : 12") == "12"
