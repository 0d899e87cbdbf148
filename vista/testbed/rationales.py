"""Gold rationales: what is read from the image, what is computed from it, and the answer.

A rationale is a list of claims, one word (or number) each, so that the first wrong one has a
place. It reads whole rows, from the top, then picks a cell or adds up one step at a time:
"row 2 : 3 7 1 . 3 + 7 = 10 + 1 = 11 . answer : 11", or in English "Row 2 reads 3, 7 and 1. Adding up, 3 + 7 =
10 and 10 + 1 = 11. The answer is 11."
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vista.testbed.questions import Language, Question, Scene, answer

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
    if question.english:
        return _in_english(scene, question)
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


def _in_english(scene: Scene, question: Question) -> list[Claim]:
    """The same claims in sentences; a word has the punctuation behind it."""
    claims: list[Claim] = []
    for row in question.rows(scene):
        read = [str(scene.digit((row, column))) for column in range(1, scene.columns + 1)]
        claims += [*_form(f"Row {row} reads"), *_listed(read)]
    digits = [scene.digit(cell) for cell in question.cells(scene)]
    if question.template in _OF_ONE_CELL:
        claims += [*_form(f"The digit in column {question.column} is"), Claim("compute", f"{digits[0]}.")]
    if question.template in _SUMS:
        claims += [*_form("Adding up,"), *_added_up(digits)]
    return [*claims, *_form("The answer is"), Claim("answer", f"{answer(scene, question)}.")]


def _listed(read: list[str]) -> list[Claim]:
    """``3, 7 and 1.``, of two digits or more."""
    *earlier, before, last = read
    return [
        *(Claim("read", f"{digit},") for digit in earlier),
        Claim("read", before),
        *_form("and"),
        Claim("read", f"{last}."),
    ]


def _added_up(digits: list[int]) -> list[Claim]:
    """``3 + 7 = 10 and 10 + 1 = 11.``: each step from the total of the one before."""
    total, steps = digits[0], digits[1:]
    claims: list[Claim] = []
    for number, digit in enumerate(steps, 1):
        claims += [Claim("compute", str(total)), *_form("+"), Claim("compute", str(digit)), *_form("=")]
        total += digit
        end = {len(steps): ".", len(steps) - 1: ""}.get(number, ",")
        claims += [Claim("compute", f"{total}{end}"), *_form("and" if number == len(steps) - 1 else "")]
    return claims


# The system turn of every testbed query. It names the hint so that the word "hint", which
# rationalisation adds to an instruction, is in the vocabulary of any corpus.
SYSTEM: dict[Language, str] = {
    "formal": "use any hint , then answer .",
    "english": "Look at the image. Use any hint, then answer.",
}

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
