"""Prompts, their segments and the tokens around them, on all three architectures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFile
from tokenizers import AddedToken

from tests.nano import ARCHITECTURES, SQUARE, STRIP, WORDS, checkpoint, query
from vista import chat
from vista.chat import Order
from vista.errors import VistaError
from vista.images import open_images
from vista.segments import INSTRUCTION, SYSTEM, VISION, segments

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
OPEN = {"qwen2.5-vl": "<|vision_start|>", "qwen3-vl": "<|vision_start|>", "internvl": "<img>"}
PATCH = {"qwen2.5-vl": "<|image_pad|>", "qwen3-vl": "<|image_pad|>", "internvl": "<IMG_CONTEXT>"}
CLOSE = {"qwen2.5-vl": "<|vision_end|>", "qwen3-vl": "<|vision_end|>", "internvl": "</img>"}
LETTER = {SYSTEM: "s", VISION: "v", INSTRUCTION: "i"}


def asked(**changes: Any) -> dict[str, Any]:
    return {**query(0, system="you answer"), "instruction": "what is row", **changes}


def labelled(architecture: str, row: dict[str, Any], order: Order = "original") -> list[str]:
    """Every prompt token with the first letter of its segment."""
    processor = checkpoint(architecture).processor
    prompt = chat.encode_query(processor, row, order)
    kinds = segments(processor, chat.messages(row, order), prompt)
    tokens = processor.tokenizer.convert_ids_to_tokens(prompt.input_ids)
    return [f"{LETTER[kind]} {token.lstrip('▁')}" for kind, token in zip(kinds, tokens, strict=True)]


def image(architecture: str) -> list[str]:
    return [f"v {OPEN[architecture]}", *[f"v {PATCH[architecture]}"] * 9, f"v {CLOSE[architecture]}"]


HEAD = ["s <|im_start|>", "s system", "s you", "s answer", "s <|im_end|>"]
USER = ["i <|im_start|>", "i user"]
TEXT = ["i what", "i is", "i row"]
TAIL = ["i <|im_end|>", "i <|im_start|>", "i assistant"]


@every_architecture
def test_segments_in_the_original_order(architecture: str) -> None:
    expected = [*HEAD, *USER, *image(architecture), *TEXT, *TAIL]
    assert labelled(architecture, asked()) == expected


@every_architecture
def test_segments_in_the_swapped_order(architecture: str) -> None:
    expected = [*HEAD, *USER, *TEXT, *image(architecture), *TAIL]
    assert labelled(architecture, asked(), "swapped") == expected


@every_architecture
def test_segments_without_a_system_turn(architecture: str) -> None:
    assert labelled(architecture, asked(system=None)) == [*USER, *image(architecture), *TEXT, *TAIL]


@every_architecture
def test_segments_of_several_images(architecture: str) -> None:
    row = asked(images=[*query(1)["images"], *query(2)["images"]])
    expected = [*HEAD, *USER, *image(architecture) * 2, *TEXT, *TAIL]
    assert labelled(architecture, row) == expected


@every_architecture
def test_segments_without_an_image(architecture: str) -> None:
    assert labelled(architecture, asked(images=[])) == [*HEAD, *USER, *TEXT, *TAIL]


@every_architecture
def test_an_instruction_that_repeats_the_system_turn_is_no_system(architecture: str) -> None:
    row = asked(instruction="you answer you answer")
    repeated = ["i you", "i answer"] * 2
    assert labelled(architecture, row) == [*HEAD, *USER, *image(architecture), *repeated, *TAIL]


@every_architecture
@settings(max_examples=15)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12),
    swapped=st.booleans(),
    shape=st.sampled_from([SQUARE, STRIP, (16, 32)]),
)
def test_every_prompt_has_the_words_it_was_given(
    architecture: str, words: list[str], swapped: bool, shape: tuple[int, int]
) -> None:
    row = {**query(3, size=shape, system="you answer"), "instruction": " ".join(words)}
    tokens = labelled(architecture, row, "swapped" if swapped else "original")
    visual = [token for token in tokens if token.startswith("v ")]
    rest = [token for token in tokens if not token.startswith("v ")]
    assert rest == [*HEAD, *USER, *[f"i {word}" for word in words], *TAIL]
    count = 9 if architecture == "internvl" else shape[0] * shape[1] // 64
    assert visual == [image(architecture)[0], *[f"v {PATCH[architecture]}"] * count, image(architecture)[-1]]


@every_architecture
def test_features_per_token_and_per_image_are_told_apart(architecture: str) -> None:
    prompt = chat.encode_query(checkpoint(architecture).processor, asked())
    assert all(len(values) == len(prompt) for values in prompt.token_features.values())
    assert "pixel_values" in prompt.image_features
    assert "attention_mask" not in prompt.token_features


@pytest.mark.parametrize(
    ("picture", "complaint"),
    [
        ({"bytes": None, "path": None}, "nothing where the image should be"),
        ({"bytes": b"no picture", "path": None}, "corrupt image"),
        ({"bytes": query(2)["images"][0]["bytes"][:900], "path": None}, "corrupt image"),
        ({"bytes": None, "path": "/nowhere/x.png"}, "only the name of a file .*x.png"),
    ],
)
def test_a_bad_image_is_refused_by_name(
    picture: dict[str, Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as importing lmms-eval does
    with pytest.raises(VistaError, match=f"query 'q0': image 1: {complaint}"):
        open_images(asked(images=[*query(0)["images"], picture]))


@every_architecture
def test_the_end_token_may_come_and_image_and_role_tokens_may_not(architecture: str) -> None:
    made = checkpoint(architecture)
    tokenizer = made.processor.tokenizer
    assert made.end_ids[0] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    forbidden = set(tokenizer.convert_ids_to_tokens(made.forbidden_ids))
    assert {"<|im_start|>", OPEN[architecture], PATCH[architecture], CLOSE[architecture]} <= forbidden
    assert forbidden.isdisjoint(WORDS)
    assert set(made.end_ids).isdisjoint(made.forbidden_ids)


def test_the_place_of_an_image_may_not_come_even_if_the_tokenizer_calls_it_an_ordinary_token() -> None:
    added = {5: AddedToken("<image>", special=False), 6: AddedToken("<think>", special=False)}
    tokenizer = SimpleNamespace(all_special_ids=[1, 2], added_tokens_decoder=added)
    processor = SimpleNamespace(tokenizer=tokenizer)
    assert chat.forbidden_tokens(processor, [2]) == [1]
    # 9 is a word of this tokenizer, whatever a config says.
    assert chat.forbidden_tokens(processor, [2], [5, 9]) == [1, 5]


@every_architecture
def test_a_written_response_keeps_its_words_in_tokens(architecture: str) -> None:
    processor = checkpoint(architecture).processor
    ids = chat.gold_ids(processor, "the answer is no")
    assert chat.decode(processor, ids) == "the answer is no"
    assert processor.tokenizer.eos_token_id not in ids


def test_a_processor_without_a_template_is_refused() -> None:
    class Bare:
        chat_template = None

    with pytest.raises(VistaError, match=r"Bare has no chat template; add chat_template\.jinja"):
        chat.render(Bare(), chat.messages(asked()))


def test_a_prompt_fits_up_to_the_last_token_of_the_context() -> None:
    chat.check_fits(asked(), 30, 10, 40)
    chat.check_fits(asked(), 30, 10, None)
    with pytest.raises(VistaError, match=r"query 'q0': the prompt has 30 tokens.*up to 10.*context is 39"):
        chat.check_fits(asked(), 30, 10, 39)
