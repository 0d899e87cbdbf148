"""A scene is what an image shows: a grid of digits, each in an ink. It is drawn, then painted.

The scene is the ground truth that answers, gold rationales and the audit are computed from.
Serves the stage ``tasks``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vista.tasks.testbed.digits import CELL, Pool

PAPER = (0.92, 0.92, 0.92)
INKS = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.05, 0.55, 0.10),
    "blue": (0.10, 0.20, 0.90),
    "black": (0.08, 0.08, 0.08),
}

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
    names = list(INKS)
    inks = rng.integers(len(names), size=(rows, columns))
    if same:
        inks[:] = inks[0, 0]
    return Scene(
        tuple(tuple(row) for row in digits.tolist()),
        tuple(tuple(names[ink] for ink in row) for row in inks.tolist()),
    )


def paint(scene: Scene, pool: Pool, noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pixels of a scene, ``[rows · 8, columns · 8, 3]``; each cell takes a random image of its digit.

    Args:
        scene: What to paint.
        pool: The images to draw from.
        noise: Standard deviation of the Gaussian noise on each value, where 1 is full range.
        rng: The image's own stream.
    """
    strength = np.empty((scene.rows * CELL, scene.columns * CELL, 1), dtype=np.float32)
    colour = np.empty((scene.rows * CELL, scene.columns * CELL, 3), dtype=np.float32)
    for row, column in scene.cells:
        images = pool[scene.digit((row, column))]
        area = slice((row - 1) * CELL, row * CELL), slice((column - 1) * CELL, column * CELL)
        strength[area] = images[rng.integers(len(images))][:, :, None]
        colour[area] = INKS[scene.ink((row, column))]
    values = np.asarray(PAPER, dtype=np.float32) * (1 - strength) + colour * strength
    values += np.float32(noise) * rng.standard_normal(values.shape, dtype=np.float32)
    return (np.clip(values, 0.0, 1.0) * 255.0).round().astype(np.uint8)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG bytes of an RGB image."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
