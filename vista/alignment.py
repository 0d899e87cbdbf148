"""From tokens of a chat template's text to the same tokens in the prompt that was made of it.

Used by ``vista.chat`` to find the segments of a prompt; knows token ids and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from vista.errors import VistaError


def align(
    plain: Sequence[int], kinds: Sequence[int], expanded: Sequence[int], image: set[int], between: int
) -> list[int]:
    """Carry ``kinds`` from the tokens of the template over to the prompt's tokens.

    ``plain`` is cut at its image tokens into runs of text; the runs stand in ``expanded`` in
    the same order, and all that lies between them is of kind ``between``. Where what the processor writes
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
    """Where ``run`` stands in ``expanded`` from ``position`` on, and what of it had to be cut off.

    Args:
        run: Tokens of the template's text between two placeholders.
        expanded: The prompt.
        position: Where the run before it ended.
        follows_image: Its left edge may be cut.
        ends: It ends the prompt, so it is matched from the end; else its right edge may be cut.

    Returns:
        Index of the first token matched, tokens cut off at the left, tokens cut off at the right.

    Raises:
        VistaError: not a token of it is there.
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
