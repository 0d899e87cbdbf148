"""Further families, as tiny random checkpoints, on which ``tests.test_fitness`` tries the check of a model.

What their prompts look like is not written down, as it is for those of ``tests.families``.
"""

from __future__ import annotations

from typing import Any

import transformers as hf

from tests.families import (
    IDEFICS,
    MROPE,
    PINPOINTS,
    QWEN2_5,
    QWEN3,
    QWEN_IDS,
    QWEN_TOWER,
    ROPE,
    SIGLIP,
    TILE,
    TOKENS,
    VISION,
    WIDTH,
    byte_tokenizer,
    qwen3_5_of,
    qwen_pictures,
    qwen_processor,
    qwen_tokenizer,
    text_config,
    token_ids,
)


def qwen3_5_moe() -> tuple[Any, Any]:
    """The same with experts in place of the feed-forward layers."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    sizes = {"shared_expert_intermediate_size": 32, **experts}
    return qwen3_5_of(hf.Qwen3_5MoeConfig, hf.Qwen3_5MoeForConditionalGeneration, **sizes)


LLAMA = "{{- '<|begin_of_text|>' -}}" + QWEN3.replace(
    "<|vision_start|><|image_pad|><|vision_end|>", "<image>"
)


def llama_tokenizer(*special: str, **named: str) -> Any:
    """With a begin token that the template writes."""
    words = ["<|im_start|>", "<|begin_of_text|>", "<image>", *special]
    return byte_tokenizer(words, "<|im_end|>", "<|endoftext|>", named, bos_token="<|begin_of_text|>")


def _llava_next(text: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = llama_tokenizer()
    config = hf.LlavaNextConfig(
        text_config=text_config(tokenizer, **text),
        vision_config=SIGLIP,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_grid_pinpoints=PINPOINTS,
        image_seq_length=TOKENS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    size = {"height": TILE, "width": TILE}
    processor = hf.LlavaNextProcessor(
        image_processor=hf.LlavaNextImageProcessor(
            size={"shortest_edge": TILE}, crop_size=size, image_grid_pinpoints=PINPOINTS
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=LLAMA,
    )
    return hf.LlavaNextForConditionalGeneration(config), processor


def granite_vision() -> tuple[Any, Any]:
    """Its text config asks for scaled logits, and its class does not scale them."""
    scales = {"logits_scaling": 4.0, "attention_multiplier": 0.35, "embedding_multiplier": 2.0}
    text = {"model_type": "granite", "rope_parameters": dict(ROPE), "residual_multiplier": 0.5, **scales}
    return _llava_next(text)


def llava_next() -> tuple[Any, Any]:
    """The same class over Llama."""
    return _llava_next({"model_type": "llama", "rope_parameters": dict(ROPE)})


def mllama() -> tuple[Any, Any]:
    """Layers of cross-attention to the image, with a mask for each prompt token."""
    special = {"<|python_tag|>", "<|image|>"}
    tokenizer = llama_tokenizer(*sorted(special), image_token="<|image|>")
    text = text_config(tokenizer, rope_parameters=dict(ROPE), cross_attention_layers=[1])
    vision = {
        **VISION,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 4,
        "vision_output_dim": 64,
        "image_size": TILE,
        "patch_size": 8,
        "intermediate_layers_indices": [0],
    }
    text = {name: value for name, value in text.items() if name != "head_dim"}
    config = hf.MllamaConfig(
        text_config={**text, "tie_word_embeddings": False},
        vision_config=vision,
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    processor = hf.MllamaProcessor(
        image_processor=hf.MllamaImageProcessor(size={"height": TILE, "width": TILE}),
        tokenizer=tokenizer,
        chat_template=LLAMA.replace("<image>", "<|image|>"),
    )
    return hf.MllamaForConditionalGeneration(config), processor


MOLMO_TOKENS = ["<im_start>", "<im_end>", "<im_patch>", "<im_col>", "<low_res_im_start>", "<|video|>"]
MOLMO_TOKENS += ["<im_low>", "<frame_start>", "<frame_end>", "<|image|>"]


def molmo2() -> tuple[Any, Any]:
    """Its processor puts a begin token before the prompt, and numbers the patches of every row from 0."""
    tokenizer = byte_tokenizer(
        ["<|im_start|>", *MOLMO_TOKENS],
        "<|endoftext|>",
        "<|pad|>",
        {"image_token": "<|image|>", "video_token": "<|video|>"},
        bos_token="<|endoftext|>",
    )
    template = QWEN3.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image|>")
    text = {**text_config(tokenizer, rope_parameters=dict(ROPE)), "tie_word_embeddings": False}
    attention = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
    config = hf.Molmo2Config(
        text_config={**text, "vocab_size": len(tokenizer), "additional_vocab_size": 8},
        vision_config={
            **VISION,
            **attention,
            "num_hidden_layers": 2,
            "image_size": [TILE, TILE],
            "patch_size": 4,
        },
        adapter_config={
            **VISION,
            **attention,
            "vision_feature_layer": [1, 0],
            "text_hidden_size": WIDTH,
        },
        **token_ids(
            tokenizer,
            image_start_token_id="<im_start>",
            low_res_image_start_token_id="<low_res_im_start>",
            image_end_token_id="<im_end>",
            image_patch_id="<im_patch>",
            frame_start_token_id="<frame_start>",
            frame_end_token_id="<frame_end>",
        ),
    )
    size = {"height": TILE, "width": TILE}
    processor = hf.Molmo2Processor(
        image_processor=hf.Molmo2ImageProcessor(size=size, patch_size=4, max_crops=2, overlap_margins=[1, 1]),
        video_processor=hf.Molmo2VideoProcessor(size=size, patch_size=4),
        tokenizer=tokenizer,
        chat_template=template,
    )
    return hf.Molmo2ForConditionalGeneration(config), processor


def qwen2_vl() -> tuple[Any, Any]:
    """The predecessor of Qwen2.5-VL."""
    tokenizer = qwen_tokenizer()
    tower = {"embed_dim": 32, "hidden_size": WIDTH, "mlp_ratio": 2, **QWEN_TOWER}
    tower = {
        name: value for name, value in tower.items() if name not in ("intermediate_size", "out_hidden_size")
    }
    config = hf.Qwen2VLConfig(
        text_config=text_config(tokenizer, rope_parameters=dict(MROPE)),
        vision_config=tower,
        tie_word_embeddings=True,
        **token_ids(tokenizer, **QWEN_IDS),
    )
    processor = qwen_processor(hf.Qwen2VLProcessor, hf.Qwen2VLVideoProcessor, tokenizer, QWEN2_5)
    return hf.Qwen2VLForConditionalGeneration(config), processor


def qwen3_vl_moe() -> tuple[Any, Any]:
    """Qwen3-VL with experts in place of the feed-forward layers."""
    tokenizer = qwen_tokenizer(vision_start_token="<|vision_start|>", vision_end_token="<|vision_end|>")
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = hf.Qwen3VLMoeConfig(
        text_config={**text_config(tokenizer, rope_parameters=dict(MROPE)), **experts},
        vision_config={**QWEN_TOWER, "num_position_embeddings": 36, "deepstack_visual_indexes": [0]},
        tie_word_embeddings=True,
        **token_ids(tokenizer, **QWEN_IDS),
    )
    processor = qwen_processor(hf.Qwen3VLProcessor, hf.Qwen3VLVideoProcessor, tokenizer, QWEN3)
    return hf.Qwen3VLMoeForConditionalGeneration(config), processor


def llava() -> tuple[Any, Any]:
    """One square picture of fixed size."""
    tokenizer = llama_tokenizer()
    config = hf.LlavaConfig(
        text_config=text_config(tokenizer, model_type="llama", rope_parameters=dict(ROPE)),
        vision_config=SIGLIP,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_seq_length=TOKENS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    size = {"height": TILE, "width": TILE}
    processor = hf.LlavaProcessor(
        image_processor=hf.CLIPImageProcessor(size={"shortest_edge": TILE}, crop_size=size),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=LLAMA,
    )
    return hf.LlavaForConditionalGeneration(config), processor


AYA_TOKENS = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL"]
AYA_TOKENS += [f"TILE_{number}" for number in range(1, 13)]


def aya_vision() -> tuple[Any, Any]:
    """As Granite Vision: ``logit_scale`` of its text config is not applied by its class."""
    tokenizer = llama_tokenizer(*AYA_TOKENS)
    text = {"model_type": "cohere2", "logit_scale": 0.25, "layer_types": ["full_attention"] * 3}
    config = hf.AyaVisionConfig(
        text_config=text_config(tokenizer, rope_parameters=dict(ROPE), **text),
        vision_config={**SIGLIP, "patch_size": 4},
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
        downsample_factor=2,
        tie_word_embeddings=True,
    )
    size = {"height": TILE, "width": TILE}
    processor = hf.AyaVisionProcessor(
        image_processor=hf.GotOcr2ImageProcessor(
            size=size, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        patch_size=8,
        img_size=TILE,
        downsample_factor=1,
        image_token="<image>",
        chat_template=LLAMA,
    )
    return hf.AyaVisionForConditionalGeneration(config), processor


LFM_TOKENS = ["<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"]
LFM_TOKENS += [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)]


def lfm2_vl() -> tuple[Any, Any]:
    """Short convolutions in every other layer."""
    tokenizer = llama_tokenizer(*LFM_TOKENS, image_token="<image>")
    layers = {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2}
    text = text_config(tokenizer, model_type="lfm2", rope_parameters=dict(ROPE))
    config = hf.Lfm2VlConfig(
        text_config={**text, **layers, "block_auto_adjust_ff_dim": False},
        vision_config={
            **VISION,
            "model_type": "siglip2_vision_model",
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": 4,
            "num_patches": 36,
            "vision_use_head": False,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_size=32,
        downsample_factor=2,
        tie_word_embeddings=True,
    )
    pictures = hf.Lfm2VlImageProcessor(
        encoder_patch_size=4,
        tile_size=TILE,
        downsample_factor=2,
        do_image_splitting=False,
        min_image_tokens=4,
        max_image_tokens=16,
        max_num_patches=64,
    )
    processor = hf.Lfm2VlProcessor(image_processor=pictures, tokenizer=tokenizer, chat_template=LLAMA)
    return hf.Lfm2VlForConditionalGeneration(config), processor


def _pixtral(config_class: Any, model_class: Any, merge: int, **more: Any) -> tuple[Any, Any]:
    tokenizer = llama_tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    vision = {
        **VISION,
        "model_type": "pixtral",
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
        "image_size": 96,
        "patch_size": 8,
        "rope_parameters": dict(ROPE),
    }
    config = config_class(
        text_config=text_config(tokenizer, model_type="mistral", rope_parameters=dict(ROPE)),
        vision_config=vision,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        tie_word_embeddings=True,
        **more,
    )
    processor = hf.PixtralProcessor(
        image_processor=hf.PixtralImageProcessor(size={"longest_edge": 96}, patch_size=8),
        tokenizer=tokenizer,
        patch_size=8,
        spatial_merge_size=merge,
        chat_template=LLAMA.replace("<image>", "[IMG]"),
    )
    return model_class(config), processor


def mistral3() -> tuple[Any, Any]:
    """Pictures of any size, a token at the end of each row of patches."""
    return _pixtral(hf.Mistral3Config, hf.Mistral3ForConditionalGeneration, 2, spatial_merge_size=2)


def pixtral() -> tuple[Any, Any]:
    """The same in LLaVA's class."""
    whole = {"vision_feature_select_strategy": "full"}
    return _pixtral(hf.LlavaConfig, hf.LlavaForConditionalGeneration, 1, **whole)


GLM_IDS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}


def glm4v() -> tuple[Any, Any]:
    """GLM-4.1V: positions of several dimensions."""
    tokenizer = llama_tokenizer(*GLM_IDS.values())
    rope = {**MROPE, "partial_rotary_factor": 1.0}
    tower = {**QWEN_TOWER, "image_size": TILE}
    config = hf.Glm4vConfig(
        text_config=text_config(tokenizer, model_type="glm4v_text", rope_parameters=rope),
        vision_config=tower,
        tie_word_embeddings=True,
        **token_ids(tokenizer, **GLM_IDS),
    )
    size = {"shortest_edge": 64, "longest_edge": 2 * 96 * 96}
    pictures: dict[str, Any] = {**qwen_pictures(), "size": size}
    processor = hf.Glm4vProcessor(
        image_processor=hf.Glm4vImageProcessor(**pictures),
        tokenizer=tokenizer,
        video_processor=hf.Glm4vVideoProcessor(**pictures),
        chat_template=LLAMA.replace("<image>", "<|begin_of_image|><|image|><|end_of_image|>"),
    )
    return hf.Glm4vForConditionalGeneration(config), processor


def idefics2() -> tuple[Any, Any]:
    """A few latents for each picture."""
    special = ["<|begin_of_text|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    begin = {"bos_token": special[0]}
    tokenizer = byte_tokenizer(special, "<end_of_utterance>", "<|pad|>", {}, **begin)
    latents = {"hidden_size": WIDTH, "resampler_n_latents": 4, "resampler_depth": 1}
    heads = {"resampler_n_heads": 4, "resampler_head_dim": 8, "num_key_value_heads": 2}
    config = hf.Idefics2Config(
        text_config=text_config(tokenizer, model_type="mistral", rope_parameters=dict(ROPE)),
        vision_config={
            **VISION,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 2 * TILE,
            "patch_size": 8,
        },
        perceiver_config=latents | heads,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    size = {"longest_edge": 2 * TILE, "shortest_edge": TILE}
    processor = hf.Idefics2Processor(
        image_processor=hf.Idefics2ImageProcessor(size=size, do_image_splitting=False),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=IDEFICS,
    )
    return hf.Idefics2ForConditionalGeneration(config), processor


def deepseek_vl() -> tuple[Any, Any]:
    """One picture of fixed size, padded to a square."""
    tokenizer = llama_tokenizer("<image_placeholder>", image_token="<image_placeholder>")
    config = hf.DeepseekVLConfig(
        text_config=text_config(tokenizer, model_type="llama", rope_parameters=dict(ROPE)),
        vision_config=SIGLIP,
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
        tie_word_embeddings=True,
    )
    size = {"height": TILE, "width": TILE}
    processor = hf.DeepseekVLProcessor(
        image_processor=hf.DeepseekVLImageProcessor(size=size, min_size=14),
        tokenizer=tokenizer,
        num_image_tokens=TOKENS,
        chat_template=LLAMA.replace("<image>", "<image_placeholder>"),
    )
    return hf.DeepseekVLForConditionalGeneration(config), processor


TRIED = {
    "qwen2-vl": qwen2_vl,
    "qwen3-vl-moe": qwen3_vl_moe,
    "qwen3.5-moe": qwen3_5_moe,
    "llava-1.5": llava,
    "llava-next": llava_next,
    "idefics2": idefics2,
    "mistral3": mistral3,
    "pixtral": pixtral,
    "glm-4.1v": glm4v,
    "deepseek-vl": deepseek_vl,
    "lfm2-vl": lfm2_vl,
    "granite-vision": granite_vision,
    "aya-vision": aya_vision,
    "mllama": mllama,
    "molmo2": molmo2,
}
