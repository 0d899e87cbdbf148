"""Gold rationales: what is read from the image, what is computed from it, and the answer.

A rationale is a list of claims, one word (or number) each, so that the first wrong one has a
place. It names every cell that it reads by its place, reads in a fixed order, and computes one
step at a time: "row 2 : 3 + 7 = 10 + 1 = 11 . answer : 11". Serves the stage ``tasks``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vista.tasks.testbed.questions import Question, answer
from vista.tasks.testbed.scenes import Cell, Scene

# What a word of a rationale states: something seen, something worked out, the answer, or nothing
# (the words between, such as "row" and "+", which the question fixes).
Kind = Literal["read", "compute", "answer", "form"]


@dataclass(frozen=True)
class Claim:
    """One word or number of a rationale."""

    kind: Kind
    word: str


def rationale(scene: Scene, question: Question) -> list[Claim]:
    """The gold rationale of ``question``, with the answer at its end."""
    cells = question.cells(scene)
    match question.template:
        case "read-digits" | "read-inks":
            body = _read_by_rows(scene, inks=question.template == "read-inks")
        case "sum-row" | "sum-column":
            body = _form(question.place, ":") + _sum(scene, cells, None)[0]
        case "sum-all" | "sum-ink":
            body = _sum_by_rows(scene, question)
        case "has-ink" | "ink" | "count":
            body = _form(question.place, ":") + [Claim("read", scene.ink(cell)) for cell in cells]
        case _:
            body = _form(question.place, ":") + [Claim("read", str(scene.digit(cell))) for cell in cells]
    return [*body, *_form(".", "answer", ":"), Claim("answer", answer(scene, question))]


def text(claims: list[Claim]) -> str:
    """The claims as a response."""
    return " ".join(claim.word for claim in claims)


def _form(*words: str) -> list[Claim]:
    return [Claim("form", word) for phrase in words for word in phrase.split()]


def _read_by_rows(scene: Scene, inks: bool) -> list[Claim]:
    """Name every digit, or every ink, row by row."""
    claims: list[Claim] = []
    for row in range(1, scene.rows + 1):
        claims += _form(*([".", f"row {row}", ":"] if row > 1 else [f"row {row}", ":"]))
        cells = [cell for cell in scene.cells if cell[0] == row]
        claims += [Claim("read", scene.ink(cell) if inks else str(scene.digit(cell))) for cell in cells]
    return claims


def _sum(scene: Scene, cells: list[Cell], total: int | None) -> tuple[list[Claim], int | None]:
    """Add the cells to a running total (``None``: nothing read yet), one step each."""
    claims: list[Claim] = []
    for cell in cells:
        digit = scene.digit(cell)
        read = Claim("read", str(digit))
        if total is None:
            total = digit
            claims.append(read)
        else:
            total += digit
            claims += [Claim("form", "+"), read, Claim("form", "="), Claim("compute", str(total))]
    return claims, total


def _sum_by_rows(scene: Scene, question: Question) -> list[Claim]:
    """Go through the grid row by row, adding the cells that the question asks for."""
    claims: list[Claim] = []
    total: int | None = None
    for row in range(1, scene.rows + 1):
        asked = [
            cell
            for cell in question.cells(scene)
            if cell[0] == row and question.ink in (None, scene.ink(cell))
        ]
        steps, total = _sum(scene, asked, total)
        claims += _form(*([".", f"row {row}", ":"] if row > 1 else [f"row {row}", ":"])) + steps
    return claims
