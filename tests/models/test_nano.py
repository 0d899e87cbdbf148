"""The nano models: ordinary checkpoints of three real architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.conftest import query
from vista import chat
from vista.config import Wording
from vista.engines.batching import collate
from vista.engines.checkpoints import load_checkpoint, save_checkpoint
from vista.images import open_images
from vista.models.nano import build_nano
from vista.models.pretrain import collect_words

WORDS = collect_words([query(index) for index in range(10)], Wording())


def batch(processor: Any, size: int = 24, order: chat.Order = "original") -> dict[str, torch.Tensor]:
    """Two prompts with responses of different lengths."""
    prompts = [chat.encode_query(processor, query(index, size), order) for index in range(2)]
    made = collate(prompts, [chat.gold_ids(processor, "row 45 : 6"), []], processor.tokenizer.pad_token_id)
    del made["response_mask"]
    return made


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_a_saved_model_and_processor_load_without_a_network_and_give_the_same_logits(
    architecture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    model, processor = build_nano(architecture, WORDS, seed=0)
    save_checkpoint(model, processor, tmp_path / "nano")
    loaded = load_checkpoint(tmp_path / "nano")
    assert type(loaded.model) is type(model)
    assert type(loaded.processor.inner) is type(processor)
    for order in ("original", "swapped"):
        assert torch.equal(
            logits(model, batch(processor, order=order)),
            logits(loaded.model, batch(loaded.processor, order=order)),
        )


def test_the_attention_kernels_agree(architecture: Any, tmp_path: Path) -> None:
    model, processor = build_nano(architecture, WORDS, seed=0)
    save_checkpoint(model, processor, tmp_path / "nano")
    eager = load_checkpoint(tmp_path / "nano", attention="eager").model
    inputs = batch(processor)
    torch.testing.assert_close(logits(model, inputs), logits(eager, inputs), atol=1e-5, rtol=1e-5)


def test_a_model_is_small(architecture: Any) -> None:
    model, _ = build_nano(architecture, WORDS, seed=0)
    assert 400_000 < sum(parameter.numel() for parameter in model.parameters()) < 800_000


@pytest.mark.parametrize("size", [24, 32])
def test_every_size_of_grid_can_be_shown(architecture: Any, size: int) -> None:
    model, processor = build_nano(architecture, WORDS, seed=0)
    prompt = chat.encode_query(processor, query(0, size))
    image = "<IMG_CONTEXT>" if architecture == "internvl" else "<|image_pad|>"
    seen = prompt.input_ids.count(processor.tokenizer.convert_tokens_to_ids(image))
    # InternVL scales an image to its tile; the others give each 8 × 8 cell its token.
    assert seen == (9 if architecture == "internvl" else (size // 8) ** 2)
    assert logits(model, batch(processor, size)).isfinite().all()


def test_pixel_values_are_centred_and_not_resampled(architecture: Any) -> None:
    _, processor = build_nano(architecture, WORDS, seed=0)
    picture = open_images(query(0))[0]
    values = chat.encode_query(processor, query(0)).image_features["pixel_values"]
    mean, std = processor.image_processor.image_mean[0], processor.image_processor.image_std[0]
    seen = (values.flatten() * std + mean).mul(255).round()
    expected = torch.tensor(list(picture.get_flattened_data())).flatten().float()
    assert torch.equal(seen.unique(), expected.unique())
    assert values.min() < 0 < values.max()


def test_the_prompt_has_the_form_of_the_real_families(architecture: Any) -> None:
    _, processor = build_nano(architecture, WORDS, seed=0)
    image = "<IMG_CONTEXT>\n" if architecture == "internvl" else "<|vision_start|><|image_pad|><|vision_end|>"
    turns = [*chat.messages(query(3), "swapped"), *chat.reply("row 3")]
    assert chat.render(processor, turns) == (
        "<|im_start|>system\nread the grid .<|im_end|>\n"
        f"<|im_start|>user\nwhich digit is in row 3 ?{image}<|im_end|>\n"
        "<|im_start|>assistant\nrow 3<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_end_of_a_turn_ends_a_response(architecture: Any, tmp_path: Path) -> None:
    model, processor = build_nano(architecture, WORDS, seed=0)
    save_checkpoint(model, processor, tmp_path / "nano")
    loaded = load_checkpoint(tmp_path / "nano")
    names = processor.tokenizer.convert_ids_to_tokens(loaded.end_ids)
    assert names == ["<|im_end|>", "<|endoftext|>"]
    assert loaded.pad_id == processor.tokenizer.pad_token_id
    assert loaded.context == 1024


def test_the_seed_fixes_the_weights_and_leaves_the_global_stream_alone(architecture: Any) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, same, other = (build_nano(architecture, WORDS, seed)[0].state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
