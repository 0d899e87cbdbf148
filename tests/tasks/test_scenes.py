"""Scenes and the images painted from them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vista.seeding import generator
from vista.testbed.painting import CELL, COLOURS, PAPER, encode_png, paint, pool
from vista.testbed.questions import Scene, draw_scene

SCENE = Scene(((3, 7), (1, 0)), (("red", "blue"), ("green", "black")))


def test_a_scene_is_read_by_rows_and_columns_counted_from_one():
    assert SCENE.digit((1, 2)) == 7
    assert SCENE.ink((2, 1)) == "green"
    assert SCENE.cells == ((1, 1), (1, 2), (2, 1), (2, 2))


def test_an_image_has_a_cell_for_each_digit_painted_in_its_ink():
    pixels = paint(SCENE, pool("handwritten", "train"), 0.0, generator("test"))
    assert pixels.shape == (2 * CELL, 2 * CELL, 3)
    for row, column in SCENE.cells:
        area = pixels[(row - 1) * CELL : row * CELL, (column - 1) * CELL : column * CELL].reshape(-1, 3)
        darkest = area[area.sum(axis=1).argmin()] / 255
        assert darkest == pytest.approx(COLOURS[SCENE.ink((row, column))], abs=0.01)


def test_without_noise_the_cells_are_scans_of_their_digits():
    pixels = paint(SCENE, pool("handwritten", "test"), 0.0, generator("test")) / 255
    for row, column in SCENE.cells:
        area = pixels[(row - 1) * CELL : row * CELL, (column - 1) * CELL : column * CELL]
        ink = np.array(COLOURS[SCENE.ink((row, column))])
        scans = pool("handwritten", "test")[SCENE.digit((row, column))][..., None]
        painted = np.array(PAPER) * (1 - scans) + ink * scans
        assert np.abs(painted - area).max(axis=(1, 2, 3)).min() < 0.003


def test_noise_has_the_standard_deviation_asked_for():
    blank = (np.zeros((1, CELL, CELL), dtype=np.float32),) * 10
    scene = draw_scene(generator("test"), 4, 4, 0.0)
    pixels = paint(scene, blank, 0.02, generator("noise")) / 255
    assert pixels.std() == pytest.approx(0.02, rel=0.1)


def test_the_same_stream_paints_the_same_bytes():
    images = [encode_png(paint(SCENE, pool("printed", "train"), 0.1, generator("a"))) for _ in range(2)]
    assert images[0] == images[1]
    assert images[0] != encode_png(paint(SCENE, pool("printed", "train"), 0.1, generator("b")))


def test_png_bytes_keep_every_pixel():
    pixels = paint(SCENE, pool("printed", "train"), 0.1, generator("test"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


def test_the_uniform_share_of_scenes_has_one_digit_in_every_cell():
    scenes = [draw_scene(generator("test", index), 3, 3, 0.4) for index in range(1000)]
    uniform = [len({digit for row in scene.digits for digit in row}) == 1 for scene in scenes]
    assert np.mean(uniform) == pytest.approx(0.4, abs=0.05)
