"""A scene is what an image shows: a grid of digits, each in an ink. It is drawn here, painted elsewhere.

The scene is the ground truth that answers, gold rationales and the audit are computed from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

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
        return _cells(self.rows, self.columns)

    def digit(self, cell: Cell) -> int:
        """The digit in a cell."""
        return self.digits[cell[0] - 1][cell[1] - 1]

    def ink(self, cell: Cell) -> str:
        """The ink of a cell."""
        return self.inks[cell[0] - 1][cell[1] - 1]


@cache
def _cells(rows: int, columns: int) -> tuple[Cell, ...]:
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
