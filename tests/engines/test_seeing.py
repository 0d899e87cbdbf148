"""Images of a prompt with several rows, encoded once, against images that are encoded for each row."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.nano import ARCHITECTURES, SQUARE, STRIP, checkpoint, query
from vista.chat import Prompt, encode_query
from vista.engines.batching import collate
from vista.engines.seeing import seen_once

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def prompts(architecture: str) -> list[Prompt]:
    """Three prompts, one of them with two images and one with none, in an order that mixes their rows."""
    made, first = checkpoint(architecture), query(0, words=5)
    both = query(1, words=5, size=STRIP)
    both["images"] = [*both["images"], *query(2, size=SQUARE)["images"]]
    asked = [encode_query(made.processor, each) for each in (first, both, {**first, "images": []})]
    return [asked[number] for number in (0, 1, 0, 2, 1, 0, 2)]


@every_architecture
def test_rows_of_a_prompt_read_the_bits_that_each_would_read_alone(architecture: str) -> None:
    made, shown = checkpoint(architecture), prompts(architecture)
    batch = collate(shown, [[20, 21]] * len(shown), made.pad_id)
    del batch["response_mask"], batch["attention_mask"]
    with torch.inference_mode():
        inputs = seen_once(made.model, shown, batch)
        plain, once = (made.model(**each, use_cache=False).logits for each in (batch, inputs))
    assert ("pixel_values" in inputs) == (
        architecture == "qwen3-vl"
    )  # whose images are used in several layers
    assert torch.equal(plain, once)


@every_architecture
def test_the_tower_sees_no_image_twice(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, shown = checkpoint(architecture), prompts(architecture)
    model, seen = made.model.base_model, []
    own = model.get_image_features

    def noted(pixel_values: torch.Tensor, *rest: object, **more: object) -> object:
        seen.append(len(pixel_values))
        return own(pixel_values, *rest, **more)

    monkeypatch.setattr(model, "get_image_features", noted)
    different = [shown[0], shown[1], shown[3]]
    with torch.inference_mode():
        for rows in (shown, different, [replace(prompt) for prompt in shown]):
            batch = collate(rows, [[20, 21]] * len(rows), made.pad_id)
            del batch["response_mask"], batch["attention_mask"]
            made.model(**seen_once(made.model, rows, batch), use_cache=False)
    once, alone, unknown = seen
    assert alone < unknown
    assert once == (unknown if architecture == "qwen3-vl" else alone)
