"""Tiny vision-language models of real transformers architectures, with random weights.

Stage ``models``; ``vista.models.build`` trains and saves them (``vista models``). By default about
0.6 million parameters: three text layers of width 128, two vision layers of width 64, patches
of 4 pixels merged two by two. One visual token is 8 × 8 pixels, so 9 for a 24 × 24 image. With them come
their tokenizer, one token for each word of the testbed's language, and their chat templates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    GenerationConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from vista.errors import VistaError

Architecture = Literal["qwen2.5-vl", "qwen3-vl", "internvl"]

IMAGE_SIZE = 24
PATCH = 4
MERGE = 2
VISUAL_TOKENS = (IMAGE_SIZE // PATCH // MERGE) ** 2
# Grids are mostly light paper: about zero mean and unit variance.
CENTRED: dict[str, Any] = {"image_mean": [0.7] * 3, "image_std": [0.3] * 3}
# About 1 / sqrt(width). The usual 0.02 is meant for wide models; in these, attention starts out so
# even that reading takes more than twice as many steps to begin.
INITIALIZER_RANGE = 0.08
HEAD = 32
VISION_HEAD = 16


@dataclass(frozen=True)
class Size:
    """How deep and wide the two parts of a model are; a text head is 32 wide, a vision head 16."""

    layers: int = 3
    width: int = 128  # a multiple of 64: two heads share a key
    vision_layers: int = 2
    vision_width: int = 64  # a multiple of 16

    @property
    def text(self) -> dict[str, Any]:
        """The text decoder's part of a config."""
        return {
            "hidden_size": self.width,
            "intermediate_size": 2 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.width // HEAD,
            "num_key_value_heads": self.width // HEAD // 2,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            "initializer_range": INITIALIZER_RANGE,
        }

    @property
    def vision(self) -> dict[str, Any]:
        """What the vision towers' configs have in common."""
        return {
            "hidden_size": self.vision_width,
            "intermediate_size": 2 * self.vision_width,
            "initializer_range": INITIALIZER_RANGE,
        }

    @property
    def vision_heads(self) -> int:
        """Attention heads of the vision tower."""
        return self.vision_width // VISION_HEAD


NANO = Size()
# Rotary channels for time, height and width: half of a head's 32.
ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0}
# Rows and columns turn with the slower channels. A small base makes neighbours in a grid of three
# differ by an angle that can be told apart; with 10,000 it would be a thousandth of a turn.
MROPE: dict[str, Any] = {**ROPE, "rope_theta": 10.0, "mrope_section": [4, 6, 6]}


def build_nano(
    architecture: Architecture, words: Sequence[str], seed: int, size: Size = NANO
) -> tuple[Any, Any]:
    """A model with random weights and its processor.

    Args:
        architecture: Which transformers classes.
        words: What the tokenizer knows, besides digits and chat roles.
        seed: Seed of the weights; the global random state is left as it was.
        size: Depth and width.

    Returns:
        ``(model, processor)``, the model on the CPU in float32 and in training mode.

    Raises:
        VistaError: a word is empty or contains white space.
    """
    tokenizer = build_tokenizer(words, architecture)
    builders: dict[str, Callable[[PreTrainedTokenizerFast, Size], tuple[Any, Any]]] = {
        "qwen2.5-vl": _qwen2_5_vl,
        "qwen3-vl": _qwen3_vl,
        "internvl": _internvl,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = builders[architecture](tokenizer, size)
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    return model.train(), processor


def _text(tokenizer: PreTrainedTokenizerFast, size: Size, **more: Any) -> dict[str, Any]:
    """The text part of a config."""
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return {**size.text, **ends, "bos_token_id": None, "vocab_size": len(tokenizer), **more}


def _qwen_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Ids of the tokens that mark vision in the Qwen families."""
    marks = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()}


def _qwen_pictures() -> dict[str, Any]:
    """Settings of the Qwen image and video processors: images keep their size up to 64 × 64."""
    return {
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "size": {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": 64 * 64},
        **CENTRED,
    }


def _qwen_config(
    config: Any, tokenizer: PreTrainedTokenizerFast, size: Size, vision: Any, **text: Any
) -> Any:
    """The config of a Qwen family, with what only it has in ``vision`` and ``text``."""
    return config(
        text_config=_text(tokenizer, size, **{"rope_parameters": MROPE, **text}),
        vision_config={
            **size.vision,
            "depth": size.vision_layers,
            "num_heads": size.vision_heads,
            "patch_size": PATCH,
            "temporal_patch_size": 2,
            "spatial_merge_size": MERGE,
            "out_hidden_size": size.width,
            **vision,
        },
        tie_word_embeddings=True,
        **_qwen_tokens(tokenizer),
    )


def _qwen_processor(processor: Any, video: Any, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The processor of a Qwen family."""
    return processor(
        image_processor=Qwen2VLImageProcessor(**_qwen_pictures()),
        tokenizer=tokenizer,
        video_processor=video(**_qwen_pictures()),
        chat_template=QWEN,
    )


def _qwen2_5_vl(tokenizer: PreTrainedTokenizerFast, size: Size) -> tuple[Any, Any]:
    vision = {"fullatt_block_indexes": list(range(size.vision_layers)), "window_size": 112}
    config = _qwen_config(Qwen2_5_VLConfig, tokenizer, size, vision)
    processor = _qwen_processor(Qwen2_5_VLProcessor, Qwen2VLVideoProcessor, tokenizer)
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _qwen3_vl(tokenizer: PreTrainedTokenizerFast, size: Size) -> tuple[Any, Any]:
    positions = (IMAGE_SIZE // PATCH) ** 2
    vision = {"num_position_embeddings": positions, "deepstack_visual_indexes": [0]}
    # transformers interleaves anyway; vLLM, only if told so.
    rope = {**MROPE, "mrope_interleaved": True}
    config = _qwen_config(Qwen3VLConfig, tokenizer, size, vision, head_dim=HEAD, rope_parameters=rope)
    processor = _qwen_processor(Qwen3VLProcessor, Qwen3VLVideoProcessor, tokenizer)
    return Qwen3VLForConditionalGeneration(config), processor


def _internvl(tokenizer: PreTrainedTokenizerFast, size: Size) -> tuple[Any, Any]:
    """InternVL sees one tile: an image of any other size is scaled to 24 × 24 pixels."""
    vision = {
        **size.vision,
        "num_hidden_layers": size.vision_layers,
        "num_attention_heads": size.vision_heads,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH,
        "attention_bias": True,
        "layer_scale_init_value": 1.0,  # the small values of deep towers only slow two layers down
    }
    config = InternVLConfig(
        text_config=_text(tokenizer, size, model_type="qwen2", rope_parameters=ROPE),
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=VISUAL_TOKENS,
        downsample_ratio=1 / MERGE,
        tie_word_embeddings=True,
    )
    return InternVLForConditionalGeneration(config), internvl_processor(tokenizer)


def internvl_processor(tokenizer: PreTrainedTokenizerFast) -> Any:
    """The processor of an InternVL that sees one tile, whatever its decoder is."""
    tile = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=tile, min_patches=1, max_patches=1, **CENTRED),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=tile, **CENTRED),
        image_seq_length=VISUAL_TOKENS,
        chat_template=INTERNVL,
    )


PAD, UNKNOWN, END_OF_TURN = "<|endoftext|>", "<unk>", "<|im_end|>"
ROLES = ("system", "user", "assistant")
SPECIAL = (
    PAD,
    UNKNOWN,
    "<|im_start|>",
    END_OF_TURN,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<video>",
)

# What processors ask their tokenizer for by name.
NAMED_SPECIAL = {
    "qwen2.5-vl": {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    "qwen3-vl": {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    },
    "internvl": {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
}

_TURNS = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- 'IMAGE' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- else -%}
{{- raise_exception('unknown content type: ' + part['type']) -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

QWEN = _TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
INTERNVL = _TURNS.replace("IMAGE", "<IMG_CONTEXT>\\n")


def build_tokenizer(words: Iterable[str], architecture: str) -> PreTrainedTokenizerFast:
    """A tokenizer that knows ``words``, all digits, the chat roles and the special tokens.

    Args:
        words: The language; order and repetition do not matter.
        architecture: Which special tokens the processor asks for: a key of ``NAMED_SPECIAL``.

    Raises:
        VistaError: a word is empty or contains white space.
    """
    backend = Tokenizer(WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
            pre_tokenizers.Split(Regex(r"▁?[0-9]"), behavior="isolated"),
        ]
    )
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    vocabulary = [*SPECIAL, *_pieces(backend, words)]
    backend.model = WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token=UNKNOWN)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END_OF_TURN,
        extra_special_tokens=[token for token in SPECIAL if token not in (PAD, UNKNOWN, END_OF_TURN)],
        model_specific_special_tokens=NAMED_SPECIAL[architecture],
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=1024,
    )


def _pieces(backend: Tokenizer, words: Iterable[str]) -> list[str]:
    """The tokens that ``words`` are made of, in a fixed order."""
    digits = [str(digit) for digit in range(10)]
    pieces = [*digits, *(f"▁{digit}" for digit in digits)]
    for word in sorted({*words, *ROLES}):
        if not word or word != "".join(word.split()) or "▁" in word:
            raise VistaError(
                f"vocabulary: {word!r} is not one word; words are non-empty, without white space"
            )
        pieces += [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(word)]
    return list(dict.fromkeys(pieces))
