"""From a template's tokens to a prompt's: kinds are carried over, whatever stands between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vista.errors import VistaError
from vista.segments import align

IMAGE, SOFT, NEWLINE, TWO_NEWLINES, THREE_NEWLINES = 100, 101, 10, 11, 12
BETWEEN = 9

texts = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=6)


@given(runs=st.lists(texts, min_size=1, max_size=4), tokens=st.integers(1, 5))
def test_the_kinds_of_text_around_expanded_images_are_kept(
    runs: list[list[tuple[int, int]]], tokens: int
) -> None:
    plain, kinds, expanded, expected = [], [], [], []
    for number, run in enumerate(runs):
        if number:
            plain.append(IMAGE)
            kinds.append(0)
            expanded += [SOFT] * tokens
            expected += [BETWEEN] * tokens
        plain += [token for token, _ in run]
        kinds += [kind for _, kind in run]
        expanded += [token for token, _ in run]
        expected += [kind for _, kind in run]
    assert align(plain, kinds, expanded, {IMAGE}, BETWEEN) == expected


def test_a_newline_that_merges_with_those_before_an_image_stays_text() -> None:
    found = align([1, NEWLINE, IMAGE, 2], [0, 1, 1, 1], [1, THREE_NEWLINES, SOFT, SOFT, 2], {IMAGE}, BETWEEN)
    assert found == [0, 1, BETWEEN, BETWEEN, 1]


def test_a_newline_that_merges_with_those_behind_an_image_stays_text() -> None:
    found = align([1, IMAGE, NEWLINE, 2], [0, 1, 1, 1], [1, SOFT, THREE_NEWLINES, 2], {IMAGE}, BETWEEN)
    assert found == [0, BETWEEN, 1, 1]


def test_lines_that_the_processor_adds_belong_to_the_image() -> None:
    expanded = [1, TWO_NEWLINES, SOFT, TWO_NEWLINES, 2]
    found = align([1, IMAGE, 2], [0, 1, 1], expanded, {IMAGE}, BETWEEN)
    assert found == [0, BETWEEN, BETWEEN, BETWEEN, 1]


def test_a_prompt_that_ends_in_its_image_has_no_text_behind_it() -> None:
    assert align([1, IMAGE], [0, 1], [1, SOFT, SOFT], {IMAGE}, BETWEEN) == [0, BETWEEN, BETWEEN]


def test_a_prompt_with_other_words_is_refused() -> None:
    with pytest.raises(VistaError, match="does not contain the text of its chat template"):
        align([1, IMAGE, 2, 3], [0, 1, 1, 1], [1, SOFT, 4, 5], {IMAGE}, BETWEEN)
