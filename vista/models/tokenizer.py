"""A word-level tokenizer for the nano models, of transformers' ordinary fast kind.

Stage ``models``; used by ``vista.models.nano``. Its language is words separated by single
spaces. A word is one token that carries its leading space (``▁row``). Numbers are split digit
by digit: a digit after a space (``▁4``) and a digit right after another (``5``) are different
tokens, so ``45`` is ``▁4 5`` and decodes to ``45`` again. A newline counts as a space.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from vista.errors import VistaError

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
