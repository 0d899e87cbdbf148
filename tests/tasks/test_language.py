"""The vocabulary of the testbed: small, closed, and the same in every task."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from vista.records import Split
from vista.task_kinds.grid import grid_query
from vista.testbed.questions import load
from vista.testbed.rationales import SYSTEM, rationale, text, tokens

ROWS = 360


def texts(name, task):
    """Every text of the task's first queries, gold rationales of all splits included."""
    for split in get_args(Split):
        if getattr(task.sizes, split):
            for index in range(ROWS):
                row = grid_query(name, task, split, index)
                yield from (row["system"], row["instruction"], text(rationale(*load(row["scene"]))))


@pytest.fixture(scope="module")
def corpus(suite):
    return {name: list(texts(name, task)) for name, task in suite.tasks.items()}


def vocabulary(lines):
    return {(token.text, token.glued) for line in lines for token in tokens(line)}


def test_a_number_is_read_digit_by_digit_and_two_numbers_are_not_one():
    assert [(t.text, t.glued, t.start) for t in tokens("a 45 .")] == [
        ("a", False, 0), ("4", False, 2), ("5", True, 3), (".", False, 5)
    ]  # fmt: skip
    assert [t.glued for t in tokens("4 5")] == [False, False]


def test_texts_are_lower_case_words_and_numbers_with_single_spaces(corpus):
    for lines in corpus.values():
        for line in lines:
            assert re.fullmatch(r"([a-z]+|\d+|[.,:?+=])( ([a-z]+|\d+|[.,:?+=]))*", line), line


def test_the_vocabulary_has_at_most_eighty_tokens(corpus):
    assert 50 <= len(vocabulary(line for lines in corpus.values() for line in lines)) <= 80


def test_the_pretraining_corpus_has_every_token_of_every_task(corpus):
    known = vocabulary(corpus["printed"])
    for name, lines in corpus.items():
        assert vocabulary(lines) <= known, name


def test_the_pretraining_corpus_has_the_words_of_a_hint(corpus):
    assert vocabulary(["hint : the answer is"]) <= vocabulary(corpus["printed"])
    assert all("hint" in text for text in SYSTEM.values())


def test_rationales_fit_the_length_limit(corpus, suite):
    longest = {
        name: max(len(tokens(line)) for line in lines if "answer :" in line) for name, lines in corpus.items()
    }
    assert all(length <= 75 for length in longest.values())
    assert all(longest[name] <= 70 for name in longest if name != "grid-large")
