"""Gold rationales: what is read from the image, what is computed from it, and the answer.

A rationale is a list of claims, one word (or number) each, so that the first wrong one has a
place. It reads whole rows, from the top, then picks a cell or adds up one step at a time:
"row 2 : 3 7 1 . 3 + 7 = 10 + 1 = 11 . answer : 11".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vista.testbed.questions import Question, Scene, answer

# What a word of a rationale states: something seen, something worked out, the answer, or nothing
# (the words between, such as "row" and "+", which the question fixes).
Kind = Literal["read", "compute", "answer", "form"]


@dataclass(frozen=True)
class Claim:
    """One word or number of a rationale."""

    kind: Kind
    word: str


_OF_ONE_CELL = {"greater", "less", "digit"}
_SUMS = {"sum-row", "sum-rows", "sum-all"}


def rationale(scene: Scene, question: Question) -> list[Claim]:
    """The gold rationale of ``question``, with the answer at its end."""
    claims: list[Claim] = []
    for row in question.rows(scene):
        claims += _form(f"row {row} :")
        claims += [Claim("read", str(scene.digit((row, column)))) for column in range(1, scene.columns + 1)]
        claims += _form(".")
    digits = [scene.digit(cell) for cell in question.cells(scene)]
    if question.template in _OF_ONE_CELL:
        claims += [*_form(f"column {question.column} :"), Claim("compute", str(digits[0])), *_form(".")]
    if question.template in _SUMS:
        claims += [*_sum(digits), *_form(".")]
    return [*claims, *_form("answer :"), Claim("answer", answer(scene, question))]


def text(claims: list[Claim]) -> str:
    """The claims as a response."""
    return " ".join(claim.word for claim in claims)


def _form(words: str) -> list[Claim]:
    return [Claim("form", word) for word in words.split()]


def _sum(digits: list[int]) -> list[Claim]:
    """Add digits to a running total, one step each."""
    total = digits[0]
    claims = [Claim("compute", str(total))]
    for digit in digits[1:]:
        total += digit
        claims += [*_form("+"), Claim("compute", str(digit)), *_form("="), Claim("compute", str(total))]
    return claims


# The system turn of every testbed query. It names the hint so that the word "hint", which
# rationalisation adds to an instruction, is in the vocabulary of any corpus.
SYSTEM = "use any hint , then answer ."

_TOKEN = re.compile(r"\d|[^\s\d]+")


@dataclass(frozen=True)
class Token:
    """A word or a digit; ``glued`` digits continue the number to their left."""

    text: str
    glued: bool
    start: int  # character offset in the text that it was read from

    def same(self, other: Token) -> bool:
        """Whether both are the same entry of the vocabulary, wherever they occur."""
        return self.text == other.text and self.glued == other.glued


def tokens(text: str) -> list[Token]:
    """Split ``text`` into words and single digits; case and kind of white space do not matter."""
    found: list[Token] = []
    end_of_digit = -1
    for match in _TOKEN.finditer(text.lower()):
        digit = match.group().isdigit()
        found.append(Token(match.group(), digit and match.start() == end_of_digit, match.start()))
        end_of_digit = match.end() if digit else -1
    return found
