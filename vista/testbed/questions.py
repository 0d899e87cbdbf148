"""Scenes of the testbed, the questions about them, in three families of rising difficulty, and the answers.

``closed`` questions are answered yes or no. Each of their templates has a skewed prior, keyed
to its words ("greater": mostly yes; "less" and "is there a 7": mostly no), so that a guess from
the text alone is right about three times in four: language prior bias lives here. ``open``
questions read and compare; ``chain`` questions add up, the hardest all cells of the grid. A
fourth family, ``read``, transcribes the whole grid: it is for pretraining corpora, where it
teaches a model from scratch to look.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Literal, get_args

import numpy as np

from vista.errors import VistaError
from vista.records import AnswerType

Family = Literal["read", "closed", "open", "chain"]
# Few words and one way to say each thing, for models that are trained from nothing; or the same in sentences,
# for models that know English.
Language = Literal["formal", "english"]

# Of more cells than this, no sum is asked: its rationale would be far longer than any on a 3×3 grid.
LONGEST_SUM = 9


INKS = ("red", "green", "blue", "black")

Cell = tuple[int, int]  # row and column, both counted from 1 as in the questions


@dataclass(frozen=True)
class Scene:
    """Digits and the names of their inks, both as tuples of rows."""

    digits: tuple[tuple[int, ...], ...]
    inks: tuple[tuple[str, ...], ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.digits)

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.digits[0])

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, row by row."""
        return _grid_cells(self.rows, self.columns)

    def digit(self, cell: Cell) -> int:
        """The digit in a cell."""
        return self.digits[cell[0] - 1][cell[1] - 1]

    def ink(self, cell: Cell) -> str:
        """The ink of a cell."""
        return self.inks[cell[0] - 1][cell[1] - 1]


@cache
def _grid_cells(rows: int, columns: int) -> tuple[Cell, ...]:
    return tuple((row, column) for row in range(1, rows + 1) for column in range(1, columns + 1))


def draw_scene(rng: np.random.Generator, rows: int, columns: int, uniform: float) -> Scene:
    """A random scene; with probability ``uniform`` its cells have one digit and one ink."""
    same = rng.random() < uniform
    digits = rng.integers(10, size=(rows, columns))
    if same:
        digits[:] = digits[0, 0]
    inks = rng.integers(len(INKS), size=(rows, columns))
    if same:
        inks[:] = inks[0, 0]
    return Scene(
        tuple(tuple(row) for row in digits.tolist()),
        tuple(tuple(INKS[ink] for ink in row) for row in inks.tolist()),
    )


@dataclass(frozen=True)
class Question:
    """A template and what fills it: one row or two, perhaps a column; no row means all of them."""

    template: str
    row: int | None = None
    second: int | None = None  # another row, further down
    column: int | None = None
    digit: int | None = None
    language: Language | None = None  # formal, if not said

    @property
    def english(self) -> bool:
        """Whether it is asked, and to be answered, in English sentences."""
        return self.language == "english"

    @property
    def place(self) -> str:
        """The cell or the rows in words, such as "row 2 column 3" or "row 1 and row 3"."""
        if self.second is not None:
            return f"row {self.row} and row {self.second}"
        named = (("row", self.row), ("column", self.column))
        between = ", " if self.english else " "
        return between.join(f"{name} {number}" for name, number in named if number is not None)

    def rows(self, scene: Scene) -> list[int]:
        """The rows that have to be read, from the top."""
        if self.row is None:
            return list(range(1, scene.rows + 1))
        return [self.row] if self.second is None else [self.row, self.second]

    def cells(self, scene: Scene) -> list[Cell]:
        """The cells asked about, row by row."""
        return [
            (row, column)
            for row in self.rows(scene)
            for column in range(1, scene.columns + 1)
            if self.column in (None, column)
        ]


@dataclass(frozen=True)
class Template:
    """A kind of question.

    ``wording`` and ``english`` ask it. ``fillings`` gives every question of this kind that can be asked
    about a scene. ``yes_share`` is a closed template's prior. Grids of more than ``max_cells`` cells are not
    asked it.
    """

    name: str
    family: Family
    answer_type: AnswerType
    wording: str
    english: str
    fillings: Callable[[Scene], list[Question]]
    yes_share: float | None = None
    max_cells: int | None = None


def _cells(name: str, digits: range | None = None) -> Callable[[Scene], list[Question]]:
    """About one cell, and a digit if ``digits`` are given."""
    return lambda scene: [
        Question(name, row, column=column, digit=digit)
        for row, column in scene.cells
        for digit in (digits if digits is not None else [None])
    ]


def _rows(name: str, digits: bool = False) -> Callable[[Scene], list[Question]]:
    """About one row, and a digit if asked for."""
    return lambda scene: [
        Question(name, row, digit=digit)
        for row in range(1, scene.rows + 1)
        for digit in (range(10) if digits else [None])
    ]


def _two_rows(scene: Scene) -> list[Question]:
    """About any two rows."""
    rows = range(1, scene.rows + 1)
    return [Question("sum-rows", row, second) for row in rows for second in rows if row < second]


def _whole(name: str) -> Callable[[Scene], list[Question]]:
    """About the grid as a whole."""
    return lambda _: [Question(name)]


TEMPLATES = {
    template.name: template
    for template in (
        Template(
            "read-digits",
            "read",
            "open",
            "read all digits .",
            "Please read all the digits.",
            _whole("read-digits"),
        ),
        Template(
            "has-digit",
            "closed",
            "closed",
            "is there a {digit} in {place} ?",
            "Is there a {digit} in {place}?",
            _rows("has-digit", digits=True),
            yes_share=0.25,
        ),
        Template(
            "greater",
            "closed",
            "closed",
            "is {place} greater than {digit} ?",
            "Is the digit in {place} greater than {digit}?",
            _cells("greater", range(1, 4)),
            yes_share=0.75,
        ),
        Template(
            "less",
            "closed",
            "closed",
            "is {place} less than {digit} ?",
            "Is the digit in {place} less than {digit}?",
            _cells("less", range(2, 5)),
            yes_share=0.25,
        ),
        Template(
            "digit",
            "open",
            "number",
            "which digit is in {place} ?",
            "Which digit is in {place}?",
            _cells("digit"),
        ),
        Template(
            "largest",
            "open",
            "number",
            "which digit is the largest in {place} ?",
            "Which is the largest digit in {place}?",
            _rows("largest"),
        ),
        Template(
            "smallest",
            "open",
            "number",
            "which digit is the smallest in {place} ?",
            "Which is the smallest digit in {place}?",
            _rows("smallest"),
        ),
        Template(
            "sum-row",
            "chain",
            "number",
            "what is the sum of {place} ?",
            "What is the sum of the digits in {place}?",
            _rows("sum-row"),
        ),
        Template(
            "sum-rows",
            "chain",
            "number",
            "what is the sum of {place} ?",
            "What is the sum of the digits in {place}?",
            _two_rows,
        ),
        Template(
            "sum-all",
            "chain",
            "number",
            "what is the sum of all cells ?",
            "What is the sum of all the digits?",
            _whole("sum-all"),
            max_cells=LONGEST_SUM,
        ),
    )
}


def templates_of(family: Family, cells: int) -> list[Template]:
    """The family's templates that can be asked about a grid of this many cells, in a fixed order."""
    return [
        template
        for template in TEMPLATES.values()
        if template.family == family and (template.max_cells is None or cells <= template.max_cells)
    ]


def ask(template: Template, scene: Scene, rng: np.random.Generator) -> Question:
    """A random question of this kind; a closed one after drawing its answer from the prior.

    Where no filling has the answer drawn (a cell greater than 4, in a grid of ones), any
    filling will do.
    """
    candidates = template.fillings(scene)
    if template.yes_share is None:
        return candidates[rng.integers(len(candidates))]
    wanted = _yes(bool(rng.random() < template.yes_share))
    shuffled: list[Question] = [candidates[index] for index in rng.permutation(len(candidates))]
    return next((question for question in shuffled if answer(scene, question) == wanted), shuffled[0])


def instruction(question: Question) -> str:
    """The question in words."""
    template = TEMPLATES[question.template]
    wording = template.english if question.english else template.wording
    return wording.format(place=question.place, digit=question.digit)


def answer(scene: Scene, question: Question) -> str:
    """The right answer."""
    cells = question.cells(scene)
    digits = [scene.digit(cell) for cell in cells]
    match question.template:
        case "read-digits":
            return "done"
        case "has-digit":
            return _yes(question.digit in digits)
        case "greater" | "less" if question.digit is not None:
            larger = question.template == "greater"
            return _yes(digits[0] > question.digit if larger else digits[0] < question.digit)
        case "digit":
            return str(digits[0])
        case "largest":
            return str(max(digits))
        case "smallest":
            return str(min(digits))
        case "sum-row" | "sum-rows" | "sum-all":
            return str(sum(digits))
        case _:
            raise VistaError(f"{question} is not a testbed question; make the task's queries again")


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def dump(scene: Scene, question: Question) -> str:
    """The ground truth of a query as JSON: its ``scene`` column."""
    asked = {name: value for name, value in vars(question).items() if value is not None}
    truth = {"digits": scene.digits, "inks": scene.inks, "question": asked}
    return json.dumps(truth, separators=(",", ":"))


def load(text: str) -> tuple[Scene, Question]:
    """The inverse of ``dump``.

    Raises:
        VistaError: the text is something else.
    """
    try:
        truth = json.loads(text)
        scene = Scene(
            tuple(tuple(int(digit) for digit in row) for row in truth["digits"]),
            tuple(tuple(str(ink) for ink in row) for row in truth["inks"]),
        )
        known = {field.name for field in fields(Question)}
        question = Question(**{name: value for name, value in truth["question"].items() if name in known})
        answer(scene, question)  # refuses an unknown template and a place outside the grid
        if question.language not in (None, *get_args(Language)):
            raise ValueError(f"language {question.language!r}")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise VistaError(
            f"scene {text[:80]!r} is not the ground truth of a testbed query ({error!r}); "
            "make the task's queries again"
        ) from error
    return scene, question
