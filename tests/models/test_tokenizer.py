"""The word-level tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vista.errors import VistaError
from vista.models.nano import build_tokenizer

WORDS = ["row", "column", "sum", "is", "+", "=", ":", ".", "?", "cells", "yes", "no"]
TOKENIZER = build_tokenizer(WORDS, "internvl")

language = st.lists(
    st.one_of(st.sampled_from(WORDS), st.integers(0, 10_000).map(str), st.sampled_from(["007", "00"])),
    min_size=1,
    max_size=30,
).map(" ".join)


def ids(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(language)
def test_decoding_gives_back_any_text_of_the_language(text: str) -> None:
    assert TOKENIZER.decode(ids(text)) == text
    assert TOKENIZER.unk_token_id not in ids(text)


@given(language, language)
def test_a_response_has_the_same_tokens_alone_and_after_its_prompt(prompt: str, response: str) -> None:
    opened = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    assert ids(opened + response) == ids(opened) + ids(response)


@given(language)
def test_offsets_point_at_the_words(text: str) -> None:
    encoded = TOKENIZER(text, return_offsets_mapping=True, add_special_tokens=False)
    pieces = [text[start:end] for start, end in encoded["offset_mapping"]]
    assert "".join(pieces) == text
    tokens = TOKENIZER.convert_ids_to_tokens(encoded["input_ids"])
    assert [piece.strip() for piece in pieces] == [token.strip("▁") for token in tokens]


def test_numbers_are_split_into_digits_that_know_whether_a_space_precedes() -> None:
    assert TOKENIZER.convert_ids_to_tokens(ids("row 45 4 5")) == ["▁row", "▁4", "5", "▁4", "▁5"]


def test_a_newline_counts_as_a_space() -> None:
    assert ids("row 4\nsum") == ids("row 4 sum")


def test_the_answer_does_not_depend_on_the_order_of_the_words() -> None:
    shuffled = build_tokenizer([*reversed(WORDS), "row"], "internvl")
    assert shuffled.get_vocab() == TOKENIZER.get_vocab()


@pytest.mark.parametrize("word", ["", "two words", "line\n", "a▁b"])
def test_what_is_no_word_is_refused(word: str) -> None:
    with pytest.raises(VistaError, match="not one word"):
        build_tokenizer(["row", word], "qwen2.5-vl")
