"""How methods look: one colour and one marker each, the same in every figure of every suite.

A colour and a shape say what a method does, its filling what is done with it: filled is SFT, hollow is DPO
(``r3v-select``: the other way of decoding), half filled goes on from a checkpoint or has a higher cap. The
methods of ``config/methods.yaml`` have looks of their own, which differ in shape or filling, so they are told
apart without colour. Any other method takes one of the looks that are left, by its name alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vista.errors import VistaError

# Okabe and Ito's colours, told apart without red and green, without the yellow that white paper swallows.
BLACK, GREY, BLUE, SKY = "#000000", "#8A8A8A", "#0072B2", "#56B4E9"
GREEN, ORANGE, RED, PINK = "#009E73", "#E69F00", "#D55E00", "#CC79A7"
COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK, GREY)

Dash = str | tuple[int, tuple[int, ...]]
DASHES: tuple[Dash, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (6, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)))
SHAPES = ("o", "s", "^", "D", "v", ">", "<", "d", "P", "X", "*", "h", "p")
FILLS = ("full", "none", "left", "bottom", "right", "top")
LINES = ("+", "x", "1", "2", "3", "4")  # markers that have nothing to fill


@dataclass(frozen=True)
class Look:
    """A colour, a marker, how it is filled (as matplotlib calls it), and the dashes of its line."""

    color: str
    marker: str
    fill: str = "full"
    dash: Dash = "-"

    @property
    def style(self) -> dict[str, Any]:
        """As ``Axes.plot`` takes it; what is not filled is white, so that no line shows through."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.dash,
            "fillstyle": "full" if self.fill == "none" else self.fill,
            "markerfacecolor": "white" if self.fill == "none" else self.color,
            "markerfacecoloralt": "white",
            "markeredgewidth": 0.8,
        }

    @property
    def point(self) -> dict[str, Any]:
        """The same without a line."""
        return self.style | {"linestyle": ""}


LOOKS = {
    # Where everything starts.
    "zero-shot": Look(GREY, "X"),
    "sft-seed": Look(BLACK, "P", dash=(0, (1, 1))),
    # Baselines.
    "rest-em": Look(BLUE, "s"),
    "rest-em-continue": Look(BLUE, "s", "right", (0, (6, 1))),
    "dpo": Look(BLUE, "s", "none", "--"),
    "dpo-continue": Look(BLUE, "s", "left", "-."),
    "rest-em-cap10": Look(BLUE, "s", "bottom", (0, (3, 1, 1, 1))),
    "star": Look(SKY, "v"),
    "star-plus": Look(SKY, "v", "none", "--"),
    "rft": Look(GREEN, ">"),
    "r3v": Look(GREEN, "*", dash="--"),
    "r3v-select": Look(GREEN, "*", "none", "-."),
    # VISTA, and one component alone.
    "vista-sft": Look(RED, "o"),
    "vista-sft-continue": Look(RED, "o", "right", (0, (6, 1))),
    "vista-dpo": Look(RED, "o", "none", "--"),
    "vista-dpo-continue": Look(RED, "o", "left", "-."),
    "vista-sft-cap10": Look(RED, "o", "bottom", (0, (3, 1, 1, 1))),
    "vista-prefix-only": Look(ORANGE, "^"),
    "vista-prefix-only-dpo": Look(ORANGE, "^", "none", "--"),
    "vista-prefix-only-cap10": Look(ORANGE, "^", "bottom", (0, (3, 1, 1, 1))),
    "vista-vas-only": Look(PINK, "D"),
    "vista-vas-only-dpo": Look(PINK, "D", "none", "--"),
    # Reinforcement learning, and its controls.
    "grpo": Look(ORANGE, "X", "left", (0, (6, 1))),
    "rloo": Look(PINK, "X", "right", (0, (6, 1))),
    "grpo-faithful": Look(BLACK, "X", "none", (0, (6, 1))),
    "grpo-format": Look(GREY, "X", "bottom", (0, (6, 1))),
    # Controls of the filter and of the resampling: grey ones know nothing, black ones the truth.
    "random-drop": Look(GREY, "d", dash="--"),
    "oracle-filter": Look(BLACK, "d", "none", "--"),
    "vig": Look(GREEN, "h", dash=(0, (6, 1))),
    "logprob": Look(SKY, "h", "none", (0, (6, 1))),
    "random-prefix": Look(GREY, "p", dash="-."),
    "gold-prefix": Look(BLACK, "p", "none", "-."),
    "budget-matched": Look(PINK, "<", dash="-."),
    "number-matched": Look(PINK, "<", "none", (0, (1, 1))),
}
# The looks that are left, neighbours unlike each other.
_TAKEN = {(look.marker, look.fill) for look in LOOKS.values()}
_MARKS = [(shape, fill) for fill in FILLS for shape in SHAPES if (shape, fill) not in _TAKEN]
_MARKS += [(line, "full") for line in LINES]
OTHERS = [
    Look(COLOURS[(turn + place) % len(COLOURS)], *mark, DASHES[(2 * turn + place) % len(DASHES)])
    for turn in range(len(COLOURS))
    for place, mark in enumerate(_MARKS)
]
# Whatever is no method (tasks, segments of a prompt, faithfulness) takes these by its place. The first ones
# differ most in grey.
SERIES = [
    Look(color, marker, "full", dash)
    for color, marker, dash in zip(
        (BLUE, ORANGE, BLACK, PINK, GREEN, SKY, RED, GREY), SHAPES, (*DASHES, (0, (6, 2, 1, 2))), strict=False
    )
]
HATCHES = ("", "//////", "......", "xxxxxx", "------", "oooo", "++++++", "|||||||")  # by place, as SERIES


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """The look of each method, no two alike.

    One that is not in ``LOOKS`` has the look of ``OTHERS`` that a digest of its name says. Only where two of
    ``methods`` would have the same, the later one in the alphabet takes the next that is free; so pass
    all methods of a table, not only those that are drawn.

    Args:
        methods: Names, in any order, repeated or not.

    Returns:
        By name, in the order of ``methods``.

    Raises:
        VistaError: more methods of one's own than there are looks.
    """
    names = list(dict.fromkeys(methods))
    own = sorted(name for name in names if name not in LOOKS)
    if len(own) > len(OTHERS):
        raise VistaError(
            f"{len(own)} methods that config/methods.yaml does not have, but a figure can tell only "
            f"{len(OTHERS)} apart; draw it from a table with fewer"
        )
    wished = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % len(OTHERS) for name in own}
    # Whoever comes first has its wish, before the others take what is left.
    first = {place: name for name, place in reversed(wished.items())}
    found = {name: OTHERS[place] for place, name in first.items()}
    free = [place for place in range(len(OTHERS)) if place not in first]
    for name in own:
        if name not in found:
            place = next((place for place in free if place > wished[name]), free[0])
            free.remove(place)
            found[name] = OTHERS[place]
    return {name: LOOKS.get(name) or found[name] for name in names}


def series(names: Iterable[str]) -> dict[str, Look]:
    """The look of each of a few things that are no methods, by place; more than eight repeat."""
    return {name: SERIES[place % len(SERIES)] for place, name in enumerate(dict.fromkeys(names))}
