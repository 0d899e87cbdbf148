"""From a scene to the pixels of an image, painted with handwritten scans or printed glyphs of digits.

Digits are 8×8, ink in 0..1. Each kind is split once into two disjoint pools, stratified by digit:
``train`` (for the seed and train splits) and ``test``. The handwritten scans are scikit-learn's
``load_digits``, the glyphs are rendered from the fonts that matplotlib bundles; neither needs a network.
Serves the stage ``tasks``.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_digits

from vista.errors import VistaError
from vista.seeding import generator
from vista.testbed.questions import Scene

Kind = Literal["handwritten", "printed"]
Pool = tuple[NDArray[np.float32], ...]  # for each digit 0..9: [n, CELL, CELL], 0 is paper, 1 full ink

CELL = 8
TEST_SHARE = 1 / 3
VARIANTS = 12  # renderings of each glyph, each with its own shift, rotation and blur

FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmb10", "cmr10", "cmss10", "cmtt10"),
)

PAPER = (0.92, 0.92, 0.92)
COLOURS = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.05, 0.55, 0.10),
    "blue": (0.10, 0.20, 0.90),
    "black": (0.08, 0.08, 0.08),
}

_SCALE = 8  # glyphs are drawn this many times larger, then averaged down
_FONT_SIZE = 96


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


def pool(kind: Kind, split: str) -> Pool:
    """The images of each digit that a split may use; ``seed`` and ``train`` share theirs."""
    train, test = _split(kind)
    return test if split == "test" else train


@cache
def _split(kind: Kind) -> tuple[Pool, Pool]:
    """Both pools of a kind: a third of each digit's images, drawn once, is for testing."""
    images = _handwritten() if kind == "handwritten" else _printed()
    train, test = [], []
    for digit, stack in enumerate(images):
        order = generator("digit-pools", kind, digit).permutation(len(stack))
        held_out = round(TEST_SHARE * len(stack))
        test.append(stack[np.sort(order[:held_out])])
        train.append(stack[np.sort(order[held_out:])])
    return tuple(train), tuple(test)


def _handwritten() -> Pool:
    """All 1,797 scans by digit."""
    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)
    return tuple(images[data.target == digit] for digit in range(10))


def _printed() -> Pool:
    """``VARIANTS`` renderings of each digit in each font."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = []
    for name in FONTS:
        path = folder / f"{name}.ttf"
        if not path.exists():
            raise VistaError(f"{path}: no such font; reinstall matplotlib at the locked version")
        fonts.append(ImageFont.truetype(str(path), _FONT_SIZE))
    stacks = []
    for digit in range(10):
        rng = generator("printed-glyphs", digit)
        glyphs = [_glyph(font, digit, rng) for font in fonts for _ in range(VARIANTS)]
        stacks.append(np.stack(glyphs))
    return tuple(stacks)


def _glyph(font: ImageFont.FreeTypeFont, digit: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """One rendering, cut to its ink and scaled to nearly fill a cell, as the scans do."""
    side = CELL * _SCALE
    drawn = Image.new("L", (2 * _FONT_SIZE, 2 * _FONT_SIZE), 0)
    ImageDraw.Draw(drawn).text((_FONT_SIZE, _FONT_SIZE), str(digit), fill=255, font=font, anchor="mm")
    drawn = drawn.rotate(rng.uniform(-8, 8), resample=Image.Resampling.BICUBIC)
    drawn = drawn.crop(drawn.getbbox())
    height = rng.uniform(0.88, 1.0) * side
    width = min(drawn.width / drawn.height * height * rng.uniform(0.9, 1.15), side)
    drawn = drawn.resize((max(1, round(width)), round(height)), Image.Resampling.BILINEAR)
    shift = rng.uniform(-0.5, 0.5, size=2) * _SCALE
    corner = (round((side - drawn.width) / 2 + shift[0]), round((side - drawn.height) / 2 + shift[1]))
    cell = Image.new("L", (side, side), 0)
    cell.paste(drawn, corner)
    cell = cell.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.5) * _SCALE))
    small = cell.resize((CELL, CELL), Image.Resampling.BOX)
    ink: NDArray[np.float32] = np.array(small, dtype=np.float32)
    ink /= ink.max()  # the darkest pixel is full ink, as in the scans
    return ink
