"""Images that several rows of a batch share, encoded once: samples and solutions of one query show the same.

For ``vista.engines.hf`` and ``vista.engines.forced``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.models.internvl.modeling_internvl import InternVLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

from vista.chat import Prompt
from vista.engines.batching import image_features, to_device

# Models that take what their vision tower made of images, in place of the images, and add nothing between.
MODELS = (InternVLForConditionalGeneration, Qwen2_5_VLForConditionalGeneration)


def seen_once(model: Any, prompts: Sequence[Prompt], inputs: dict[str, Any]) -> dict[str, Any]:
    """A model's inputs with the images of each prompt encoded once, however many rows it has.

    Args:
        model: The model.
        prompts: The prompt of each row; one object where it is the same.
        inputs: What ``batching.collate`` made of them, on the model's device.
    """
    different = list({id(prompt): prompt for prompt in prompts}.values())
    if len(different) == len(prompts) or type(model) not in MODELS or "pixel_values" not in inputs:
        return inputs
    features = to_device(image_features(different), inputs["input_ids"].device)
    output = model.base_model.get_image_features(**features, return_dict=True)
    # One entry for each image, or for each tile.
    counted = "image_grid_thw" if "image_grid_thw" in features else "pixel_values"
    encoded = iter(output.pooler_output)
    own: dict[int, list[torch.Tensor]] = {}
    for prompt in different:
        count = len(prompt.image_features[counted]) if counted in prompt.image_features else 0
        own[id(prompt)] = [next(encoded) for _ in range(count)]
    entries = [entry for prompt in prompts for entry in own[id(prompt)]]
    output.pooler_output = torch.stack(entries) if counted == "pixel_values" else entries
    rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
    return {**rest, "mm_encoder_outputs": {"image": output}}
