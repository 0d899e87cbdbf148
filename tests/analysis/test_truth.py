"""The first error of a rationale is found among the policy's own tokens, whatever its tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.tasks.strategies import asked
from vista.analysis.truth import Truth, first_error, read_tokenizer, token_at
from vista.errors import VistaError
from vista.models.nano import build_tokenizer
from vista.seeding import generator
from vista.testbed.questions import Question, Scene, ask, draw_scene, dump, templates_of
from vista.testbed.rationales import rationale, text, tokens

SCENE = Scene(((3, 7, 1), (4, 0, 9), (8, 2, 5)), (("red",) * 3,) * 3)
SUM = Question("sum-row", row=1)
GOLD = "row 1 : 3 7 1 . 3 + 7 = 10 + 1 = 11 . answer : 11"


def rationales_of(count: int) -> list[str]:
    rng = generator("test", "corpus")
    found = []
    for _ in range(count):
        scene = draw_scene(rng, 3, 3, uniform=0.0)
        templates = [t for family in ("read", "closed", "open", "chain") for t in templates_of(family, 9)]
        found.append(text(rationale(scene, ask(templates[rng.integers(len(templates))], scene, rng))))
    return found


def word_level() -> Tokenizer:
    words = ["row", "column", ":", ".", "+", "=", "answer", "yes", "no", "done"]
    words += ["Row", "reads", "3,", "3.", "and", "The", "digit", "in", "is", "Adding", "up,"]
    words += ["yes.", "no.", "done."]
    return build_tokenizer(words, "qwen2.5-vl").backend_tokenizer


def byte_level() -> Tokenizer:
    """Pieces of any length, that cross the borders of numbers: "10 +" may be "1", "0", " +"."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(rationales_of(200), trainer)
    return tokenizer


WORDS, PIECES = word_level(), byte_level()


@settings(max_examples=200, deadline=None)
@given(asked(), st.data())
def test_the_first_error_of_a_corrupted_rationale_is_found_among_word_tokens(pair, data) -> None:
    scene, question = pair
    words = text(rationale(scene, question)).split()
    where = data.draw(st.integers(0, len(words) - 1))
    word = data.draw(st.sampled_from(["7", "12", "row", "+", "no", ""]))
    written = " ".join([*words[:where], *([word] if word else []), *words[where + 1 :]])
    truth = Truth({"q": dump(scene, question)})
    ids = WORDS.encode(written).ids
    # One token of the language is one of this tokenizer.
    assert first_error(truth, WORDS, "q", written, ids) == truth.audit("q", written).first_error


@settings(max_examples=200, deadline=None)
@given(asked(), st.data())
def test_the_first_error_is_in_the_piece_that_holds_its_character(pair, data) -> None:
    scene, question = pair
    words = text(rationale(scene, question)).split()
    where = data.draw(st.integers(0, len(words) - 1))
    written = " ".join([*words[:where], "no", *words[where + 1 :]])
    truth = Truth({"q": dump(scene, question)})
    verdict = truth.audit("q", written)
    encoded = PIECES.encode(written)
    found = first_error(truth, PIECES, "q", written, encoded.ids)
    if verdict.faithful:
        assert found is None
    else:
        ends = [end for _, end in encoded.offsets]
        assert found == sum(end <= verdict.offset for end in ends)  # one by one, as an oracle


@pytest.mark.parametrize("tokenizer", [WORDS, PIECES])
def test_a_rationale_that_breaks_off_errs_at_its_end(tokenizer: Tokenizer) -> None:
    truth = Truth({"q": dump(SCENE, SUM)})
    ids = tokenizer.encode("row 1 : 3 7").ids
    assert first_error(truth, tokenizer, "q", "row 1 : 3 7", ids) == len(ids)


@pytest.mark.parametrize("tokenizer", [WORDS, PIECES])
def test_one_that_is_cut_by_the_length_limit_has_no_error_as_far_as_it_is_faithful(
    tokenizer: Tokenizer,
) -> None:
    truth = Truth({"q": dump(SCENE, SUM)})
    words = GOLD.split()
    for count in range(1, len(words)):
        written = " ".join(words[:count])
        ids = tokenizer.encode(written).ids
        assert first_error(truth, tokenizer, "q", written, ids, finished=False) is None
        assert first_error(truth, tokenizer, "q", written, ids) == len(ids)
        wrong = written + " yes"
        ids = tokenizer.encode(wrong).ids
        at = first_error(truth, tokenizer, "q", wrong, ids, finished=False)
        assert at == first_error(truth, tokenizer, "q", wrong, ids)
        assert at is not None
        assert at < len(ids)


def test_a_faithful_rationale_has_no_error() -> None:
    truth = Truth({"q": dump(SCENE, SUM)})
    for written in (GOLD, GOLD + " ."):
        assert truth.faithful("q", written)
        assert first_error(truth, WORDS, "q", written, WORDS.encode(written).ids) is None


def test_white_space_in_front_shifts_nothing() -> None:
    ids = PIECES.encode("  " + GOLD).ids
    at = token_at(PIECES, ids, GOLD, GOLD.index("7"))
    assert "7" in PIECES.decode(ids[: at + 1])
    assert "7" not in PIECES.decode(ids[:at])


def test_tokens_of_another_text_are_refused() -> None:
    with pytest.raises(VistaError, match=r"decode to 'row 1', the text is 'row 2'"):
        token_at(WORDS, WORDS.encode("row 1").ids, "row 2", 4)


def test_a_solution_to_an_unknown_query_is_refused() -> None:
    with pytest.raises(
        VistaError, match="'other' is not among the train queries; delete the policy's rollouts"
    ):
        Truth({"q": dump(SCENE, SUM)}).faithful("other", GOLD)


def test_a_wrong_scene_names_its_query() -> None:
    with pytest.raises(VistaError, match=r"query 'q': scene '\{\}'"):
        Truth({"q": "{}"})


def test_a_base_model_without_a_fast_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(VistaError, match=r"tokenizer\.json: no such file"):
        read_tokenizer(tmp_path)


def test_the_languages_tokens_are_the_nano_tokenizers() -> None:
    for written in rationales_of(50):
        assert len(WORDS.encode(written).ids) == len(tokens(written))
