"""From a scene to the pixels of an image. Serves the stage ``tasks``."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vista.tasks.testbed.digits import CELL, Pool
from vista.testbed.scenes import Scene

PAPER = (0.92, 0.92, 0.92)
COLOURS = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.05, 0.55, 0.10),
    "blue": (0.10, 0.20, 0.90),
    "black": (0.08, 0.08, 0.08),
}


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
        colour[area] = COLOURS[scene.ink((row, column))]
    values = np.asarray(PAPER, dtype=np.float32) * (1 - strength) + colour * strength
    values += np.float32(noise) * rng.standard_normal(values.shape, dtype=np.float32)
    return (np.clip(values, 0.0, 1.0) * 255.0).round().astype(np.uint8)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG bytes of an RGB image."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
