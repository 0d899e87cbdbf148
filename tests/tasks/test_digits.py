"""Where the digits come from, and that no scan is in both train and test."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vista.testbed.painting import CELL, FONTS, VARIANTS, pool


def test_every_handwritten_scan_is_in_exactly_one_pool():
    counted = [len(stack) for split in ("train", "test") for stack in pool("handwritten", split)]
    assert sum(counted) == len(load_digits().images) == 1797
    scans = {
        split: {scan.tobytes() for stack in pool("handwritten", split) for scan in stack}
        for split in ("train", "test")
    }
    assert not scans["train"] & scans["test"]


def test_scans_stand_in_the_stack_of_their_own_digit():
    data = load_digits()
    scans = (data.images / 16).astype(np.float32)
    label = {scan.tobytes(): digit for scan, digit in zip(scans, data.target, strict=True)}
    for split in ("train", "test"):
        for digit, stack in enumerate(pool("handwritten", split)):
            assert all(label[scan.tobytes()] == digit for scan in stack)


@pytest.mark.parametrize("kind", ["handwritten", "printed"])
def test_pools_are_stratified_by_digit(kind):
    for train, test in zip(pool(kind, "train"), pool(kind, "test"), strict=True):
        assert len(test) / (len(train) + len(test)) == pytest.approx(1 / 3, abs=0.01)


def test_the_seed_split_shares_the_scans_of_train():
    assert pool("handwritten", "seed") is pool("handwritten", "train")


@pytest.mark.parametrize("kind", ["handwritten", "printed"])
def test_images_are_cells_of_ink_between_zero_and_one(kind):
    for stack in pool(kind, "train"):
        assert stack.shape[1:] == (CELL, CELL)
        assert stack.dtype == np.float32
        assert stack.min() >= 0.0
        assert stack.max() == 1.0


def test_there_is_a_printed_glyph_for_each_font_and_variant_and_no_two_are_equal():
    for train, test in zip(pool("printed", "train"), pool("printed", "test"), strict=True):
        glyphs = {glyph.tobytes() for glyph in (*train, *test)}
        assert len(glyphs) == len(FONTS) * VARIANTS


def test_printed_digits_are_recognisable_from_one_another():
    """A nearest-mean classifier knows the held-out glyphs."""
    means = np.stack([stack.mean(axis=0) for stack in pool("printed", "train")])
    right = total = 0
    for digit, stack in enumerate(pool("printed", "test")):
        distance = ((stack[:, None] - means[None]) ** 2).sum(axis=(2, 3))
        right += int((distance.argmin(axis=1) == digit).sum())
        total += len(stack)
    assert right / total > 0.8
