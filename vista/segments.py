"""Which segment of the prompt each token belongs to: what VISTA sums attention over (paper: Sec. 3, step 3).

Generic over model families: all it knows is the processor's chat template and image token. It serves
``vista score``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vista.alignment import align
from vista.chat import Message, Prompt, begins_itself, render, try_render
from vista.errors import VistaError

SYSTEM, VISION, INSTRUCTION = 0, 1, 2


def segments(processor: Any, turns: Sequence[Message], prompt: Prompt) -> list[int]:
    """Which segment each prompt token belongs to: ``SYSTEM``, ``VISION`` or ``INSTRUCTION``.

    Every token has one. *System* is the system turn with its markers, whether the query gives
    one or the template has one of its own; *vision* is what the processor puts in place of the
    image placeholder, with the markers around it; *instruction* is the rest: the user turn's text
    and the template's remaining markers.

    Found by comparing the template's text, tokenised as it is, with the prompt, in which each
    placeholder has become a run of image tokens; so no family needs offsets of its own.
    """
    text = render(processor, turns)
    first, last = _system_span(processor, turns, text)
    encoded = processor.tokenizer(
        text, return_offsets_mapping=True, add_special_tokens=not begins_itself(processor, text)
    )
    plain: list[int] = encoded["input_ids"]
    kinds = [SYSTEM if first <= start < last else INSTRUCTION for start, _ in encoded["offset_mapping"]]
    return align(plain, kinds, prompt.input_ids, _image_tokens(processor, turns, plain), VISION)


def _system_span(processor: Any, turns: Sequence[Message], text: str) -> tuple[int, int]:
    """First character of the system turn, and the first one after it; nothing without one."""
    if turns[0]["role"] != "system":
        return 0, _default_system_end(processor, turns, text)
    content: str = turns[0]["content"][0]["text"]
    alone = try_render(processor, turns[:1])
    if content in alone and text.startswith(alone):
        return 0, len(alone)
    # Some templates fold the system text into the user turn: then it is that text alone.
    start = text.find(content.strip())
    if start < 0:
        raise VistaError(
            "the chat template leaves the system turn out; its model cannot be asked queries with one"
        )
    return start, start + len(content.strip())


def _default_system_end(processor: Any, turns: Sequence[Message], text: str) -> int:
    """Where the system turn ends that a template writes when it is given none; 0 if it writes none.

    What follows a system turn of our own is what follows the template's as well.
    """
    own: Message = {"role": "system", "content": [{"type": "text", "text": "x"}]}
    alone = try_render(processor, [own])
    whole = try_render(processor, [own, *turns], generation_prompt=True)
    rest = whole.removeprefix(alone)
    if not alone or "x" not in alone or rest == whole or not text.endswith(rest):
        return 0
    end = len(text) - len(rest)
    ids = processor.tokenizer(text[:end], add_special_tokens=False)["input_ids"]
    says = set(ids) - set(processor.tokenizer.all_special_ids)
    return end if says else 0  # a begin token by itself is no turn


def _image_tokens(processor: Any, turns: Sequence[Message], plain: Sequence[int]) -> set[int]:
    """Ids of special tokens that the template writes only because there is an image."""
    without = [
        {"role": turn["role"], "content": [part for part in turn["content"] if part["type"] != "image"]}
        for turn in turns
    ]
    bare = set(processor.tokenizer(render(processor, without))["input_ids"])
    special = set(processor.tokenizer.added_tokens_decoder) | set(processor.tokenizer.all_special_ids)
    return (set(plain) & special) - bare
