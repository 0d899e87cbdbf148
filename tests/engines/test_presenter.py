"""Options of a checkpoint: where they come from, what they change, that they are not lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.families import INSTRUCTION, SYSTEM, save
from tests.nano import query
from vista import chat
from vista.config import Loading
from vista.engines.checkpoints import load_checkpoint, save_checkpoint
from vista.engines.presenter import load_processor, read_loading, shrunk, write_loading
from vista.errors import VistaError
from vista.evaluation.answering import Asked
from vista.evaluation.chat_model import VistaChatModel
from vista.evaluation.tasks.queries import doc_to_messages
from vista.lmms.asking import Decoding, split_images
from vista.segments import VISION, segments
from vista.training.data import Prompts

ROW = {**query(0, size=(48, 24), system=SYSTEM), "instruction": INSTRUCTION}
LOADING = Loading(dtype="bfloat16", attention="eager", max_pixels=32 * 16, chat={"add_vision_id": True})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("qwen2.5-vl", tmp_path_factory.mktemp("presenter") / "plain")


@pytest.fixture(scope="module")
def optioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save("qwen2.5-vl", tmp_path_factory.mktemp("presenter") / "optioned")
    write_loading(folder, LOADING)
    return folder


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), limit=st.integers(1, 5000))
def test_a_large_image_keeps_its_ratio_and_fits_and_a_small_one_stays(
    width: int, height: int, limit: int
) -> None:
    image = Image.new("L", (width, height))
    small = shrunk(image, limit)
    if width * height <= limit:
        assert small is image
        return
    assert small.width * small.height <= limit
    factor = (limit / (width * height)) ** 0.5
    for before, after in ((width, small.width), (height, small.height)):
        assert after == 1 or after == limit or before * factor - 1 <= after <= before * factor


def test_the_pixel_budget_and_the_templates_variables_change_the_prompt(plain: Path, optioned: Path) -> None:
    usual, own = (
        load_processor(folder).tokenizer.decode(chat.encode_query(load_processor(folder), ROW).input_ids)
        for folder in (plain, optioned)
    )
    assert usual.count("<|image_pad|>") == 6 * 3
    assert own.count("<|image_pad|>") == 4 * 2  # 32 × 16 pixels in tokens of 8 × 8
    assert "Picture 1: " in own
    assert "Picture 1: " not in usual


def test_options_of_the_processor_win_over_its_own(plain: Path) -> None:
    size = {"shortest_edge": 64, "longest_edge": 32 * 16}
    own = load_processor(plain, Loading(processor={"size": size}))
    assert chat.encode_query(own, ROW).input_ids.count(_image_token(own)) == 4 * 2


def test_segments_of_a_prompt_with_options_are_found(optioned: Path) -> None:
    processor = load_processor(optioned)
    prompt = chat.encode_query(processor, ROW)
    kinds = segments(processor, chat.messages(ROW), prompt)
    assert kinds.count(VISION) == 4 * 2 + 2
    vision = [token for token, kind in zip(prompt.input_ids, kinds, strict=True) if kind == VISION]
    assert set(vision[1:-1]) == {_image_token(processor)}


def test_all_stages_show_the_same_prompt(optioned: Path) -> None:
    shown = chat.encode_query(load_processor(optioned), ROW)
    made = load_checkpoint(optioned, device="cpu")
    (trained_on,) = Prompts(made.processor).of([{**ROW, "prompt": chat.messages(ROW)}])
    evaluated = _asked_by_lmms_eval(VistaChatModel(optioned, device="cpu"))
    for prompt in (trained_on, evaluated):
        assert prompt.input_ids == shown.input_ids
        assert torch.equal(prompt.image_features["pixel_values"], shown.image_features["pixel_values"])


def _asked_by_lmms_eval(model: VistaChatModel) -> chat.Prompt:
    """The prompt that lmms-eval's model class makes of ``ROW``."""
    asked = Asked("q", Decoding(8, ()), lambda candidates: split_images(doc_to_messages(ROW)))
    return model.answering.encode([asked], 8)[0]


def _image_token(processor: Any) -> int:
    token: int = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    return token


def test_type_and_attention_are_as_the_checkpoint_says_unless_told_otherwise(optioned: Path) -> None:
    made = load_checkpoint(optioned, device="cpu")
    assert made.model.dtype == torch.bfloat16
    assert made.model.config.get_text_config()._attn_implementation == "eager"
    told = load_checkpoint(optioned, device="cpu", dtype=torch.float32, attention="sdpa")
    assert told.model.dtype == torch.float32
    assert told.model.config.get_text_config()._attn_implementation == "sdpa"


def test_options_travel_to_what_is_saved_from_a_checkpoint(optioned: Path, tmp_path: Path) -> None:
    made = load_checkpoint(optioned, device="cpu", dtype=torch.float32, attention="sdpa")
    save_checkpoint(made.model, made.processor, tmp_path / "trained")
    assert read_loading(tmp_path / "trained") == LOADING


def test_a_checkpoint_without_options_has_no_file_of_them(plain: Path, tmp_path: Path) -> None:
    assert read_loading(plain) == Loading()
    made = load_checkpoint(plain, device="cpu")
    save_checkpoint(made.model, made.processor, tmp_path / "trained")
    assert not (tmp_path / "trained" / "loading.json").exists()


def test_a_checkpoint_cannot_ask_for_its_code_to_be_run(plain: Path, tmp_path: Path) -> None:
    assert "trust_remote_code" not in Loading.model_fields
    (tmp_path / "loading.json").write_text(json.dumps({"trust_remote_code": True}))
    with pytest.raises(VistaError, match=r"loading\.json: trust_remote_code: Extra inputs"):
        read_loading(tmp_path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"chat": {"add_vison_id": True}}, r"chat: .* no variable add_vison_id; it has .*add_vision_id"),
        ({"processor": {"sise": {}}}, r"processor: Qwen2VLImageProcessor has no option sise; it has .*size"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    plain: Path, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(VistaError, match=f"plain: {complaint}"):
        load_processor(plain, Loading(**options))
