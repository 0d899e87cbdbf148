"""Tiny random checkpoints of model families as they are published, and what their prompts look like.

Unlike the nano models, each has its family's own special tokens, the structure of its family's own
chat template, and a tokenizer of bytes. A suite would enter them with ``kind: path`` alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from vista.engines.checkpoints import save_checkpoint

TILE = 24  # pixels; patches of 4, merged two by two: 9 tokens for a tile
TOKENS = 9
WIDE = (48, 24)  # two tiles side by side
PLAIN = (24, 24)
SYSTEM = "You answer questions about a picture.\nThink first."
INSTRUCTION = "What is in row 3 of the picture?"
CORPUS = [SYSTEM, INSTRUCTION, "yes no so the answer is in step", "\n\n\n\n\n\n\n\n"] * 4

WIDTH = 32
TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
VISION: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64}
SIGLIP: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    **VISION,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": TILE,
    "patch_size": 8,
    "vision_use_head": False,
}
ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0}
MROPE: dict[str, Any] = {**ROPE, "mrope_section": [2, 1, 1]}

Piece = tuple[str, str]  # a segment (s, v or i) and its text


@dataclass(frozen=True)
class Family:
    """How to make a family's tiny model, and what its prompts look like, written by hand."""

    make: Callable[[], tuple[Any, Any]]
    # Of (parts of the user turn in order, system text or nothing): the whole prompt in pieces.
    prompt: Callable[[list[Piece], str | None], list[Piece]]
    image: Callable[[tuple[int, int]], str]  # what stands for an image of this size
    behind_image: str = ""  # what the template itself writes there
    before_text: str = ""

    def pieces(self, size: tuple[int, int], swapped: bool, system: str | None) -> list[Piece]:
        """The prompt that asks ``INSTRUCTION`` about one image."""
        image, text = ("v", self.image(size)), ("i", self.before_text + INSTRUCTION)
        behind = [("i", self.behind_image)] if self.behind_image else []
        return self.prompt([text, image, *behind] if swapped else [image, *behind, text], system)


# --- tokenizers ---


def byte_tokenizer(special: list[str], end: str, pad: str, named: dict[str, str], **more: Any) -> Any:
    """Bytes and some merges, split as GPT-2 does: Qwen's and Llama's kind."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return _fast(backend, special, end, pad, named, **more)


def gemma_tokenizer(special: list[str], named: dict[str, str]) -> Any:
    """Words with ``▁`` for a space, runs of newlines as one token, a begin token: Gemma's kind."""
    backend = Tokenizer(models.BPE(byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n+|[^\n]+"), "isolated")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=fallback, show_progress=False)
    backend.train_from_iterator([text.replace(" ", "▁") for text in CORPUS], trainer)
    tokenizer = _fast(backend, ["<bos>", *special], "<eos>", "<pad>", named, bos_token="<bos>")
    begin = tokenizer.convert_tokens_to_ids("<bos>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", begin)]
    )
    return tokenizer


def _fast(
    backend: Tokenizer, special: list[str], end: str, pad: str, named: dict[str, str], **more: Any
) -> Any:
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=end,
        pad_token=pad,
        extra_special_tokens=[token for token in special if token not in (end, pad)],
        model_specific_special_tokens=named,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        **more,
    )


def text_config(tokenizer: Any, **more: Any) -> dict[str, Any]:
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {**TEXT, **ids, "vocab_size": len(tokenizer), **more}


def token_ids(tokenizer: Any, **names: str) -> dict[str, int]:
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


# --- Qwen2.5-VL and Qwen3-VL ---

QWEN_TOKENS = ["<|im_start|>", "<|object_ref_start|>", "<|vision_start|>", "<|vision_end|>"]
QWEN_TOKENS += ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
QWEN_TURN = """\
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or 'image_url' in part -%}
{%- set seen.images = seen.images + 1 -%}
{%- if add_vision_id -%}{{- 'Picture ' ~ seen.images ~ ': ' -}}{%- endif -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
"""
QWEN_END = "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
# Inserts a system turn of its own if there is none.
QWEN2_5 = (
    "{%- set seen = namespace(images=0) -%}{%- for message in messages -%}"
    "{%- if loop.first and message.role != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}{%- endif -%}"
    + QWEN_TURN
    + "{%- endfor -%}"
    + QWEN_END
)
QWEN3 = (
    "{%- set seen = namespace(images=0) -%}"
    "{%- if tools -%}{{- raise_exception('no tools here') -}}{%- endif -%}"
    "{%- for message in messages -%}" + QWEN_TURN + "{%- endfor -%}" + QWEN_END
)


def qwen_tokenizer(**named: str) -> Any:
    return byte_tokenizer(
        QWEN_TOKENS,
        "<|im_end|>",
        "<|endoftext|>",
        {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", **named},
    )


def qwen_pictures() -> dict[str, Any]:
    size = {"shortest_edge": 8 * 8, "longest_edge": 96 * 96}
    return {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2, "size": size}


def qwen_processor(kind: type, video: type, tokenizer: Any, template: str) -> Any:
    """A processor of Qwen's families; they differ in their classes and templates alone."""
    return kind(
        image_processor=hf.Qwen2VLImageProcessor(**qwen_pictures()),
        tokenizer=tokenizer,
        video_processor=video(**qwen_pictures()),
        chat_template=template,
    )


QWEN_TOWER: dict[str, Any] = {
    **VISION,
    "depth": 2,
    "num_heads": 4,
    "patch_size": 4,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "out_hidden_size": WIDTH,
}


def qwen2_5_vl() -> tuple[Any, Any]:
    """Windowed attention in the first vision layer, as in all but a few of the real one's."""
    tokenizer = qwen_tokenizer()
    config = hf.Qwen2_5_VLConfig(
        text_config=text_config(tokenizer, rope_parameters=MROPE),
        vision_config={**QWEN_TOWER, "fullatt_block_indexes": [1], "window_size": 16},
        tie_word_embeddings=True,
        **token_ids(tokenizer, **QWEN_IDS),
    )
    processor = qwen_processor(hf.Qwen2_5_VLProcessor, hf.Qwen2VLVideoProcessor, tokenizer, QWEN2_5)
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_vl() -> tuple[Any, Any]:
    """Features of an early vision layer enter the first text layers (DeepStack)."""
    tokenizer = qwen_tokenizer(vision_start_token="<|vision_start|>", vision_end_token="<|vision_end|>")
    config = hf.Qwen3VLConfig(
        text_config=text_config(tokenizer, rope_parameters=MROPE),
        vision_config={**QWEN_TOWER, "num_position_embeddings": 36, "deepstack_visual_indexes": [0]},
        tie_word_embeddings=True,
        **token_ids(tokenizer, **QWEN_IDS),
    )
    processor = qwen_processor(hf.Qwen3VLProcessor, hf.Qwen3VLVideoProcessor, tokenizer, QWEN3)
    return hf.Qwen3VLForConditionalGeneration(config), processor


HYBRID: dict[str, Any] = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0},
}


def qwen3_5() -> tuple[Any, Any]:
    """Linear attention in every other layer, ⌊L/2⌋ among them; the cache keeps a state for these."""
    return qwen3_5_of(hf.Qwen3_5Config, hf.Qwen3_5ForConditionalGeneration)


def qwen3_5_of(config_class: Any, model_class: Any, **more: Any) -> tuple[Any, Any]:
    """The dense model, or with ``more`` the one with experts."""
    tokenizer = qwen_tokenizer(vision_start_token="<|vision_start|>", vision_end_token="<|vision_end|>")
    config = config_class(
        text_config={**text_config(tokenizer), **HYBRID, **more},
        vision_config={**QWEN_TOWER, "num_position_embeddings": 36},
        tie_word_embeddings=True,
        **token_ids(tokenizer, **QWEN_IDS),
    )
    processor = qwen_processor(hf.Qwen3VLProcessor, hf.Qwen3VLVideoProcessor, tokenizer, QWEN3)
    return model_class(config), processor


def _qwen_image(size: tuple[int, int]) -> str:
    count = size[0] * size[1] // 64
    return "<|vision_start|>" + "<|image_pad|>" * count + "<|vision_end|>"


def _im_turns(default: str | None = None, gap: str = "\n", lead: str = "", after: str = "\n") -> Any:
    """Prompts of ``<|im_start|>role … <|im_end|>`` turns."""

    def prompt(parts: list[Piece], system: str | None) -> list[Piece]:
        text = default if system is None else system
        head = [] if text is None else [("s", f"<|im_start|>system{gap}{lead}{text}<|im_end|>{after}")]
        tail = ("i", f"<|im_end|>{after}<|im_start|>assistant\n")
        return [*head, ("i", f"<|im_start|>user{gap}"), *parts, tail]

    return prompt


# --- InternVL ---

INTERNVL = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{- '<IMG_CONTEXT>\\n' -}}
{%- elif part.type == 'video' -%}{{- '<video>\\n' -}}
{%- elif part.type == 'text' -%}{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def internvl() -> tuple[Any, Any]:
    """An image is cut into up to four tiles, with a thumbnail behind them."""
    named = {"start_image_token": "<img>", "end_image_token": "</img>"}
    named |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer = byte_tokenizer(
        ["<|im_start|>", *named.values(), "<quad>", "<ref>", "<box>"], "<|im_end|>", "<|endoftext|>", named
    )
    vision = {
        **VISION,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": TILE,
        "patch_size": 4,
        "attention_bias": True,
    }
    config = hf.InternVLConfig(
        text_config=text_config(tokenizer, model_type="qwen2", rope_parameters=ROPE),
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=TOKENS,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
    tile = {"height": TILE, "width": TILE}
    processor = hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(
            size=tile, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        video_processor=hf.InternVLVideoProcessor(size=tile),
        image_seq_length=TOKENS,
        chat_template=INTERNVL,
    )
    return hf.InternVLForConditionalGeneration(config), processor


def _internvl_image(size: tuple[int, int]) -> str:
    tiles = {PLAIN: 1, WIDE: 3}[size]
    return "<img>" + "<IMG_CONTEXT>" * TOKENS * tiles + "</img>"


# --- LLaVA-OneVision ---

# Writes all images of a turn before its text, whatever the order of its parts.
LLAVA = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + ' ' -}}
{%- for part in message.content | selectattr('type', 'equalto', 'image') -%}{{- '<image>\\n' -}}{%- endfor -%}
{%- for part in message.content | selectattr('type', 'equalto', 'video') -%}{{- '<video>\\n' -}}{%- endfor -%}
{%- for part in message.content | selectattr('type', 'equalto', 'text') -%}
{%- if message.role != 'assistant' -%}{{- '\\n' + part.text -}}
{%- else -%}{% generation %}{{- '\\n' + part.text -}}{% endgeneration %}{%- endif -%}
{%- endfor -%}
{{- '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
PINPOINTS = [[TILE, TILE], [TILE, 2 * TILE], [2 * TILE, TILE]]


def llava_onevision() -> tuple[Any, Any]:
    """Any resolution: an overview, then the image in tiles with a newline token after each row."""
    tokenizer = byte_tokenizer(["<|im_start|>", "<image>", "<video>"], "<|im_end|>", "<|endoftext|>", {})
    config = hf.LlavaOnevisionConfig(
        text_config=text_config(tokenizer, model_type="qwen2", rope_parameters=ROPE),
        vision_config=SIGLIP,
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=True,
        **token_ids(tokenizer, image_token_index="<image>", video_token_index="<video>"),
    )
    size = {"height": TILE, "width": TILE}
    processor = hf.LlavaOnevisionProcessor(
        image_processor=hf.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=PINPOINTS),
        tokenizer=tokenizer,
        video_processor=hf.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=TOKENS,
        vision_feature_select_strategy="full",
        chat_template=LLAVA,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


def _llava_image(size: tuple[int, int]) -> str:
    rows, columns = size[1] // 8, size[0] // 8
    return "<image>" * (TOKENS + rows * (columns + 1))


# --- Gemma 3 ---

# The system text is folded into the user turn; the begin token is part of the template.
GEMMA = """\
{{- bos_token -}}
{%- if messages[0].role == 'system' -%}
{%- set prefix = messages[0].content[0].text + '\\n\\n' -%}{%- set rest = messages[1:] -%}
{%- else -%}{%- set prefix = '' -%}{%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('roles must alternate') -}}
{%- endif -%}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' -}}
{{- prefix if loop.first else '' -}}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{- '<start_of_image>' -}}
{%- elif part.type == 'text' -%}{{- part.text | trim -}}
{%- endif -%}
{%- endfor -%}
{{- '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""


def gemma3() -> tuple[Any, Any]:
    """Sliding windows in two of three layers; image tokens look at each other both ways."""
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    named |= {"image_token": "<image_soft_token>"}
    tokenizer = gemma_tokenizer(["<start_of_turn>", "<end_of_turn>", *named.values()], named)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = hf.Gemma3Config(
        text_config=text_config(tokenizer, layer_types=kinds, sliding_window=16, query_pre_attn_scalar=8),
        vision_config=SIGLIP | {"patch_size": 4},
        mm_tokens_per_image=TOKENS,
        tie_word_embeddings=True,
        **token_ids(
            tokenizer,
            boi_token_index="<start_of_image>",
            eoi_token_index="<end_of_image>",
            image_token_index="<image_soft_token>",
        ),
    )
    processor = hf.Gemma3Processor(
        image_processor=hf.Gemma3ImageProcessor(size={"height": TILE, "width": TILE}),
        tokenizer=tokenizer,
        image_seq_length=TOKENS,
        chat_template=GEMMA,
    )
    model = hf.Gemma3ForConditionalGeneration(config)
    # Published checkpoints end a turn with a token that is not the tokenizer's end of sequence.
    model.generation_config = hf.GenerationConfig(
        eos_token_id=list(token_ids(tokenizer, a="<eos>", b="<end_of_turn>").values()),
        pad_token_id=tokenizer.pad_token_id,
    )
    return model, processor


def _gemma_image(_: tuple[int, int]) -> str:
    """The processor puts empty lines around an image; they merge with a newline before them."""
    return "\n\n<start_of_image>" + "<image_soft_token>" * TOKENS + "<end_of_image>\n\n"


def _gemma_prompt(parts: list[Piece], system: str | None) -> list[Piece]:
    head: list[Piece] = [("i", "<bos><start_of_turn>user\n")]
    if system is not None:
        head += [("s", system), ("i", "\n\n")]
    return [*head, *parts, ("i", "<end_of_turn>\n<start_of_turn>model\n")]


# --- Idefics3 ---

IDEFICS = """\
{{- '<|begin_of_text|>' -}}
{%- for message in messages -%}
{{- message.role | capitalize -}}
{{- ':' if message.content[0].type == 'image' else ': ' -}}
{%- for part in message.content -%}
{%- if part.type == 'text' -%}{{- part.text -}}
{%- elif part.type == 'image' -%}{{- '<image>' -}}
{%- endif -%}
{%- endfor -%}
{{- '<end_of_utterance>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}
"""


def idefics3() -> tuple[Any, Any]:
    """Rows and columns of tiles are named by tokens; a smaller image of the whole comes last."""
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    special = ["<|begin_of_text|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    tokenizer = byte_tokenizer(
        [*special, "<global-img>", *places],
        "<end_of_utterance>",
        "<|finetune_right_pad_id|>",
        {},
        bos_token="<|begin_of_text|>",
    )
    config = hf.Idefics3Config(
        text_config=text_config(tokenizer, model_type="llama", rope_parameters=ROPE),
        vision_config={
            **VISION,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": TILE,
            "patch_size": 4,
        },
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    processor = hf.Idefics3Processor(
        image_processor=hf.Idefics3ImageProcessor(
            size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE}
        ),
        tokenizer=tokenizer,
        image_seq_len=TOKENS,
        chat_template=IDEFICS,
    )
    return hf.Idefics3ForConditionalGeneration(config), processor


def _idefics_image(size: tuple[int, int]) -> str:
    fake, tokens = "<fake_token_around_image>", "<image>" * TOKENS
    rows = {PLAIN: 2, WIDE: 1}[size]  # the longer side is scaled to two tiles
    text = "".join(
        "".join(f"{fake}<row_{row}_col_{column}>{tokens}" for column in (1, 2)) + "\n"
        for row in range(1, rows + 1)
    )
    return f"{text}\n{fake}<global-img>{tokens}{fake}"


def _idefics_prompt(parts: list[Piece], system: str | None) -> list[Piece]:
    begin = "<|begin_of_text|>"
    head = [("i", begin)] if system is None else [("s", f"{begin}System: {system}<end_of_utterance>\n")]
    user = ("i", "User:" if parts[0][0] == "v" else "User: ")
    return [*head, user, *parts, ("i", "<end_of_utterance>\nAssistant:")]


FAMILIES = {
    "qwen2.5-vl": Family(qwen2_5_vl, _im_turns("You are a helpful assistant."), _qwen_image),
    "qwen3-vl": Family(qwen3_vl, _im_turns(), _qwen_image),
    "qwen3.5": Family(qwen3_5, _im_turns(), _qwen_image),
    "internvl": Family(internvl, _im_turns(), _internvl_image, behind_image="\n"),
    "llava-onevision": Family(
        llava_onevision,
        _im_turns(gap=" ", lead="\n", after=""),
        _llava_image,
        behind_image="\n",
        before_text="\n",
    ),
    "gemma3": Family(gemma3, _gemma_prompt, _gemma_image),
    "idefics3": Family(idefics3, _idefics_prompt, _idefics_image),
}


def _maker(name: str) -> Callable[[], tuple[Any, Any]]:
    from tests.more_families import TRIED

    return FAMILIES[name].make if name in FAMILIES else TRIED[name]


@cache
def made(name: str) -> tuple[Any, Any]:
    """A family's model, far from uniform attention and predictions, and its processor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = _maker(name)()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.add_(0.15 * torch.randn(weight.shape))
    if model.generation_config.eos_token_id is None:
        model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    return model.eval(), processor


def save(name: str, folder: Path) -> Path:
    """A family's ordinary checkpoint folder."""
    model, processor = made(name)
    save_checkpoint(copy.deepcopy(model), processor, folder)
    return folder
