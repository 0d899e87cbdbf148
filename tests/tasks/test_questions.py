"""Questions, their answers, and the skewed priors of the closed ones."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given

from tests.tasks.strategies import asked
from vista.errors import VistaError
from vista.task_kinds.grid import grid_query
from vista.testbed.questions import TEMPLATES, Question, Scene, answer, dump, instruction, load, templates_of
from vista.testbed.rationales import rationale, text
from vista.verdicts import answer_of

SCENE = Scene(
    ((3, 7, 1), (4, 0, 9), (8, 2, 5)),
    (("red", "blue", "red"), ("black", "black", "green"), ("green", "red", "red")),
)


@pytest.mark.parametrize(
    ("question", "words", "right", "gold"),
    [
        (
            Question("read-digits"),
            "read all digits .", "done", "row 1 : 3 7 1 . row 2 : 4 0 9 . row 3 : 8 2 5 . answer : done",
        ),
        (
            Question("has-digit", row=2, digit=9),
            "is there a 9 in row 2 ?", "yes", "row 2 : 4 0 9 . answer : yes",
        ),
        (
            Question("greater", row=1, column=2, digit=6),
            "is row 1 column 2 greater than 6 ?", "yes", "row 1 : 3 7 1 . column 2 : 7 . answer : yes",
        ),
        (
            Question("less", row=3, column=3, digit=5),
            "is row 3 column 3 less than 5 ?", "no", "row 3 : 8 2 5 . column 3 : 5 . answer : no",
        ),
        (
            Question("digit", row=3, column=1),
            "which digit is in row 3 column 1 ?", "8", "row 3 : 8 2 5 . column 1 : 8 . answer : 8",
        ),
        (
            Question("largest", row=3),
            "which digit is the largest in row 3 ?", "8", "row 3 : 8 2 5 . answer : 8",
        ),
        (
            Question("smallest", row=2),
            "which digit is the smallest in row 2 ?", "0", "row 2 : 4 0 9 . answer : 0",
        ),
        (
            Question("sum-row", row=1),
            "what is the sum of row 1 ?", "11", "row 1 : 3 7 1 . 3 + 7 = 10 + 1 = 11 . answer : 11",
        ),
        (
            Question("sum-rows", row=1, second=3),
            "what is the sum of row 1 and row 3 ?", "26",
            "row 1 : 3 7 1 . row 3 : 8 2 5 . "
            "3 + 7 = 10 + 1 = 11 + 8 = 19 + 2 = 21 + 5 = 26 . answer : 26",
        ),
        (
            Question("sum-all"),
            "what is the sum of all cells ?", "39",
            "row 1 : 3 7 1 . row 2 : 4 0 9 . row 3 : 8 2 5 . 3 + 7 = 10 + 1 = 11 + 4 = 15 "
            "+ 0 = 15 + 9 = 24 + 8 = 32 + 2 = 34 + 5 = 39 . answer : 39",
        ),
    ],
)  # fmt: skip
def test_each_template_asks_answers_and_explains_as_written_by_hand(question, words, right, gold):
    assert instruction(question) == words
    assert answer(SCENE, question) == right
    assert text(rationale(SCENE, question)) == gold


@pytest.mark.parametrize(
    ("question", "words", "gold"),
    [
        (
            Question("read-digits"),
            "Please read all the digits.",
            "Row 1 reads 3, 7 and 1. Row 2 reads 4, 0 and 9. Row 3 reads 8, 2 and 5. The answer is done.",
        ),
        (
            Question("has-digit", row=2, digit=9),
            "Is there a 9 in row 2?", "Row 2 reads 4, 0 and 9. The answer is yes.",
        ),
        (
            Question("greater", row=1, column=2, digit=6),
            "Is the digit in row 1, column 2 greater than 6?",
            "Row 1 reads 3, 7 and 1. The digit in column 2 is 7. The answer is yes.",
        ),
        (
            Question("less", row=3, column=3, digit=5),
            "Is the digit in row 3, column 3 less than 5?",
            "Row 3 reads 8, 2 and 5. The digit in column 3 is 5. The answer is no.",
        ),
        (
            Question("digit", row=3, column=1),
            "Which digit is in row 3, column 1?",
            "Row 3 reads 8, 2 and 5. The digit in column 1 is 8. The answer is 8.",
        ),
        (
            Question("largest", row=3),
            "Which is the largest digit in row 3?", "Row 3 reads 8, 2 and 5. The answer is 8.",
        ),
        (
            Question("smallest", row=3),
            "Which is the smallest digit in row 3?", "Row 3 reads 8, 2 and 5. The answer is 2.",
        ),
        (
            Question("sum-row", row=1),
            "What is the sum of the digits in row 1?",
            "Row 1 reads 3, 7 and 1. Adding up, 3 + 7 = 10 and 10 + 1 = 11. The answer is 11.",
        ),
        (
            Question("sum-rows", row=1, second=3),
            "What is the sum of the digits in row 1 and row 3?",
            "Row 1 reads 3, 7 and 1. Row 3 reads 8, 2 and 5. Adding up, 3 + 7 = 10, 10 + 1 = 11, "
            "11 + 8 = 19, 19 + 2 = 21 and 21 + 5 = 26. The answer is 26.",
        ),
        (
            Question("sum-all"),
            "What is the sum of all the digits?",
            "Row 1 reads 3, 7 and 1. Row 2 reads 4, 0 and 9. Row 3 reads 8, 2 and 5. Adding up, 3 + 7 = 10, "
            "10 + 1 = 11, 11 + 4 = 15, 15 + 0 = 15, 15 + 9 = 24, 24 + 8 = 32, 32 + 2 = 34 and 34 + 5 = 39. "
            "The answer is 39.",
        ),
    ],
)  # fmt: skip
def test_the_same_in_english_sentences(question, words, gold):
    english = replace(question, language="english")
    assert instruction(english) == words
    assert answer(SCENE, english) == answer(SCENE, question)
    assert text(rationale(SCENE, english)) == gold


def test_two_columns_add_up_in_one_step():
    question = Question("sum-row", row=1, language="english")
    scene = Scene(((3, 7), (4, 0)), (("red", "red"),) * 2)
    assert text(rationale(scene, question)) == (
        "Row 1 reads 3 and 7. Adding up, 3 + 7 = 10. The answer is 10."
    )


def test_the_hand_made_cases_cover_every_template():
    for test in (
        test_each_template_asks_answers_and_explains_as_written_by_hand,
        test_the_same_in_english_sentences,
    ):
        assert {case[0].template for case in test.pytestmark[0].args[1]} == set(TEMPLATES)


def test_a_task_in_english_shows_the_same_scenes_and_finds_the_answers_of_its_rationales(suite):
    formal = suite.tasks["grid-chain"]
    english = formal.model_copy(update={"language": "english"})
    for index in range(60):
        one, other = (grid_query("grid-chain", task, "seed", index) for task in (formal, english))
        assert other["system"] == "Look at the image. Use any hint, then answer."
        assert one["images"] == other["images"]
        assert one["answer"] == other["answer"]
        assert load(other["scene"])[1] == replace(load(one["scene"])[1], language="english")
        assert answer_of(other, other["rationale"]) == other["answer"]


@given(asked())
def test_the_scene_column_gives_back_scene_and_question(pair):
    assert load(dump(*pair)) == pair


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "{}",
        "[1]",
        '{"digits": [[1]], "inks": [["red"]], "question": {"template": "colour"}}',
        '{"digits": [[1]], "inks": [["red"]], "question": {"template": "digit", "row": 2, "column": 1}}',
        '{"digits": [[1]], "inks": [["red"]], "question": {"template": "read-digits", "language": "latin"}}',
    ],
)
def test_what_is_no_ground_truth_is_refused(broken):
    with pytest.raises(VistaError, match="testbed"):
        load(broken)


def test_a_large_grid_is_not_asked_for_the_sum_of_all_cells():
    assert "sum-all" in {template.name for template in templates_of("chain", 9)}
    assert "sum-all" not in {template.name for template in templates_of("chain", 16)}


@pytest.fixture(scope="module")
def closed(suite):
    """Template and answer of 2,000 closed test queries."""
    rows = [grid_query("grid-closed", suite.tasks["grid-closed"], "test", index) for index in range(2000)]
    return [(json.loads(row["scene"])["question"], row["answer"]) for row in rows]


def test_guessing_from_the_template_alone_is_right_three_times_in_four(closed):
    by_template = defaultdict(Counter)
    for question, right in closed:
        by_template[question["template"]][right] += 1
    assert len(by_template) == 3
    for name, answers in by_template.items():
        majority, count = answers.most_common(1)[0]
        assert 0.65 <= count / answers.total() <= 0.85, name
        assert majority == ("yes" if name in ("has-ink", "greater") else "no")


def test_guessing_from_all_words_is_hardly_better_than_from_the_template(closed):
    by_words = defaultdict(Counter)
    for question, right in closed:
        by_words[question["template"], question.get("digit"), question.get("ink")][right] += 1
    guessed = sum(answers.most_common(1)[0][1] for answers in by_words.values())
    assert 0.65 <= guessed / len(closed) <= 0.85


def test_yes_and_no_are_about_as_frequent_overall(closed):
    assert 0.4 <= sum(right == "yes" for _, right in closed) / len(closed) <= 0.6
