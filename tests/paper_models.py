"""Tiny random checkpoints of the paper's five models: their architectures, their vocabulary, their prompts.

The vocabulary is Qwen's own of 151,643 tokens, which PyPI's ``dashscope`` ships.
"""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from vista.engines.checkpoints import save_checkpoint

PAPER = ("qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen3-vl-2b", "internvl3-2b", "internvl3-8b")
SPECIAL = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
]
INTERNVL = ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}IMAGE"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROPE = {"rope_type": "default", "rope_theta": 1e6}
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
}
VISION: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32}


def ranks() -> dict[bytes, int]:
    """Qwen's byte sequences by rank."""
    found = importlib.util.find_spec("dashscope")
    assert found is not None
    assert found.submodule_search_locations
    file = Path(found.submodule_search_locations[0]) / "resources/qwen.tiktoken"
    lines = [line.split() for line in file.read_bytes().splitlines() if line]
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def merges(known: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The pair that each token was merged from: what its bytes come to by the merges before it."""
    for token, rank in sorted(known.items(), key=lambda item: item[1]):
        parts = [token[place : place + 1] for place in range(len(token))]
        while len(parts) > 2:
            pairs = [known.get(first + second, rank) for first, second in pairwise(parts)]
            place = min(range(len(pairs)), key=pairs.__getitem__)
            if pairs[place] >= rank:
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]


@cache
def backend() -> str:
    """Qwen2.5's tokenizer, serialised."""
    known, signs = ranks(), bytes_to_unicode()

    def text(token: bytes) -> str:
        return "".join(signs[byte] for byte in token)

    vocabulary = {text(token): rank for token, rank in known.items()}
    pairs = [(text(first), text(second)) for first, second in merges(known)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return str(tokenizer.to_str())


def tokenizer_of(internvl: bool) -> Any:
    """A model's tokenizer; InternVL's has tokens of its own for images."""
    inner = Tokenizer.from_str(backend())
    if internvl:
        inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in INTERNVL])
        named = dict(zip(("start_image_token", "end_image_token"), INTERNVL, strict=False))
        named |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    else:
        named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
        named |= {"vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>"}
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named,
        padding_side="left",
    )


def qwen(name: str) -> tuple[Any, Any]:
    """Qwen2.5-VL or Qwen3-VL."""
    tokenizer = tokenizer_of(internvl=False)
    third = name.startswith("qwen3")
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    marks = dict(zip(names, tokenizer.convert_tokens_to_ids(list(tokens)), strict=True))
    rope = {**ROPE, "mrope_section": [8, 4, 4], **({"mrope_interleaved": True} if third else {})}
    text = {**TEXT, "tie_word_embeddings": "7b" not in name, "rope_parameters": rope}
    vision = {**VISION, "depth": 4, "num_heads": 2, "out_hidden_size": 64, "spatial_merge_size": 2}
    patch = 16 if third else 14
    pictures = hf.Qwen2VLImageProcessor(
        patch_size=patch, size={"shortest_edge": (2 * patch) ** 2 * 4, "longest_edge": 12845056}
    )
    template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    parts = {
        "image_processor": pictures,
        "tokenizer": tokenizer,
        "video_processor": hf.Qwen2VLVideoProcessor(),
    }
    if third:
        vision |= {"patch_size": patch, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1, 2]}
        config = hf.Qwen3VLConfig(
            text_config={**text, "head_dim": 32}, vision_config=vision, tie_word_embeddings=True, **marks
        )
        processor = hf.Qwen3VLProcessor(**parts, chat_template=template)
        return hf.Qwen3VLForConditionalGeneration(config), processor
    vision |= {"patch_size": patch, "fullatt_block_indexes": [3], "window_size": 112}
    config = hf.Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=text["tie_word_embeddings"], **marks
    )
    return (
        hf.Qwen2_5_VLForConditionalGeneration(config),
        hf.Qwen2_5_VLProcessor(**parts, chat_template=template),
    )


def internvl(_: str) -> tuple[Any, Any]:
    """InternVL3 in transformers' own form."""
    tokenizer = tokenizer_of(internvl=True)
    text = {**TEXT, "model_type": "qwen2", "rope_parameters": ROPE, "tie_word_embeddings": False}
    vision = {**VISION, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": [56, 56]}
    config = hf.InternVLConfig(
        text_config=text,
        vision_config={**vision, "patch_size": [14, 14]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    processor = hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(
            size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=12
        ),
        tokenizer=tokenizer,
        video_processor=hf.InternVLVideoProcessor(size={"height": 56, "width": 56}),
        image_seq_length=4,
        chat_template=TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )
    return hf.InternVLForConditionalGeneration(config), processor


def write(name: str, folder: Path) -> Path:
    """A checkpoint folder of one of ``PAPER``, with the decoding defaults that published ones bring."""
    torch.manual_seed(PAPER.index(name))
    model, processor = (internvl if name.startswith("internvl") else qwen)(name)
    model.generation_config = hf.GenerationConfig(
        bos_token_id=151643, eos_token_id=[151645, 151643], pad_token_id=151643
    )
    model.generation_config.update(do_sample=True, repetition_penalty=1.05, top_k=1)
    save_checkpoint(model.to(torch.bfloat16).eval(), processor, folder)
    return folder
