"""Which segment of the prompt each token belongs to: what VISTA sums attention over (paper: Sec. 3, step 3).

Generic over model families: it uses only the processor's chat template and image token. ``align``
uses only token ids. For ``vista score``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vista.chat import Message, Prompt, begins_itself, render, try_render
from vista.errors import VistaError

SYSTEM, VISION, INSTRUCTION = 0, 1, 2


def segments(processor: Any, turns: Sequence[Message], prompt: Prompt) -> list[int]:
    """Which segment each prompt token belongs to: ``SYSTEM``, ``VISION`` or ``INSTRUCTION``.

    Every token has one. *System* is the system turn with its markers, whether the query gives
    one or the template has a default; *vision* is what the processor puts in place of the
    image placeholder, with the markers around it; *instruction* is the rest: the user turn's text
    and the template's remaining markers.

    Found by comparing the template's text, tokenised as it is, with the prompt, in which each
    placeholder has become a run of image tokens; so no family needs its own offsets.
    """
    text = render(processor, turns)
    first, last = _system_span(processor, turns, text)
    encoded = processor.tokenizer(
        text, return_offsets_mapping=True, add_special_tokens=not begins_itself(processor, text)
    )
    plain: list[int] = encoded["input_ids"]
    kinds = [SYSTEM if first <= start < last else INSTRUCTION for start, _ in encoded["offset_mapping"]]
    image = _image_tokens(processor, turns, plain)
    begun = _begin_tokens(processor, plain, prompt.input_ids)
    lead = [INSTRUCTION if plain[0] in image else kinds[0]] * begun
    return [*lead, *align(plain, kinds, prompt.input_ids[begun:], image, VISION)]


def _begin_tokens(processor: Any, plain: Sequence[int], expanded: Sequence[int]) -> int:
    """How many tokens a processor has put before the template's text to begin with: at most one."""
    names = ("bos_token_id", "cls_token_id", "eos_token_id")
    begins = {getattr(processor.tokenizer, name, None) for name in names}
    return int(expanded[0] in begins and plain[0] != expanded[0])


def _system_span(processor: Any, turns: Sequence[Message], text: str) -> tuple[int, int]:
    """First character of the system turn, and the first one after it; nothing without one."""
    if turns[0]["role"] != "system":
        return 0, _default_system_end(processor, turns, text)
    content: str = turns[0]["content"][0]["text"]
    alone = try_render(processor, turns[:1])
    if content in alone and text.startswith(alone):
        return 0, len(alone)
    # Some templates fold the system text into the user turn: then the segment is only that text.
    start = text.find(content.strip())
    if start < 0:
        raise VistaError(
            "the chat template leaves the system turn out; its model cannot be asked queries with one"
        )
    return start, start + len(content.strip())


def _default_system_end(processor: Any, turns: Sequence[Message], text: str) -> int:
    """End of the system turn that a template writes by default; 0 if it writes none.

    What follows a system turn that is given is what follows the template's as well.
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
    return end if says else 0  # a begin token alone is not a turn


def _image_tokens(processor: Any, turns: Sequence[Message], plain: Sequence[int]) -> set[int]:
    """Ids of special tokens that the template writes only because there is an image."""
    without = [
        {"role": turn["role"], "content": [part for part in turn["content"] if part["type"] != "image"]}
        for turn in turns
    ]
    bare = set(processor.tokenizer(render(processor, without))["input_ids"])
    special = set(processor.tokenizer.added_tokens_decoder) | set(processor.tokenizer.all_special_ids)
    return (set(plain) & special) - bare


def align(
    plain: Sequence[int], kinds: Sequence[int], expanded: Sequence[int], image: set[int], between: int
) -> list[int]:
    """Carry ``kinds`` from the tokens of the template over to the prompt's tokens.

    ``plain`` is cut at its image tokens into runs of text; the runs are in ``expanded`` in
    the same order, and everything between them is of kind ``between``. Where what the processor writes
    around an image merges with the text beside it (a newline with a newline) into other tokens,
    the run is matched without its edge, and the merged token is the text's.

    Args:
        plain: Tokens of the template's text, placeholders not expanded.
        kinds: The kind of each of them.
        expanded: Tokens of the prompt.
        image: Tokens that the template writes for an image.
        between: The kind of what the processor puts in their place.

    Raises:
        VistaError: a run is not in the prompt.
    """
    found = [between] * len(expanded)
    position = 0
    for first, last in _runs(plain, image):
        run = list(plain[first:last])
        ends = last == len(plain)
        at, left, right = _place(run, expanded, position, first > 0, ends)
        kept = len(run) - left - right
        found[at : at + kept] = kinds[first + left : last - right]
        if left:
            found[at - 1] = kinds[first + left - 1]
        if right and at + kept < len(expanded):
            found[at + kept] = kinds[last - right]
        position = at + kept
    return found


def _runs(plain: Sequence[int], image: set[int]) -> list[tuple[int, int]]:
    """Start and end of each run of ``plain`` without an image token."""
    runs: list[tuple[int, int]] = []
    start = 0
    for index, token in enumerate([*plain, None]):
        if token is None or token in image:
            if index > start:
                runs.append((start, index))
            start = index + 1
    return runs


def _place(
    run: list[int], expanded: Sequence[int], position: int, follows_image: bool, ends: bool
) -> tuple[int, int, int]:
    """Where ``run`` is in ``expanded`` from ``position`` on, and how much of it had to be cut off.

    Args:
        run: Tokens of the template's text between two placeholders.
        expanded: The prompt.
        position: Where the run before it ended.
        follows_image: Its left edge may be cut.
        ends: It ends the prompt, so it is matched from the end; else its right edge may be cut.

    Returns:
        Index of the first token matched, tokens cut off at the left, tokens cut off at the right.

    Raises:
        VistaError: none of its tokens is there.
    """
    for cut in range(len(run)):
        for left in range(cut + 1) if follows_image else [0]:
            right = cut - left
            if right and ends:
                continue
            core = run[left : len(run) - right]
            if ends:  # so that no repetition misleads
                at = len(expanded) - len(core)
                matches = at >= position and list(expanded[at:]) == core
            else:
                at = _find(expanded, core, position)
                matches = at >= 0
            if matches:
                return at, left, right
    raise VistaError(
        "the prompt does not contain the text of its chat template token by token; "
        "segments cannot be found for this processor"
    )


def _find(haystack: Sequence[int], needle: Sequence[int], start: int) -> int:
    """Index of the first ``needle`` in ``haystack`` from ``start`` on, or -1."""
    for at in range(start, len(haystack) - len(needle) + 1):
        if list(haystack[at : at + len(needle)]) == list(needle):
            return at
    return -1
