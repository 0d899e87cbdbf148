"""Images of every odd kind: what is no image is refused, and what is odd is shown as it looks."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.malformed.harness import SAMPLE, Case, Spoil, World, case, refused
from vista.images import decode_image

TRAIN_QUERIES = "results/tasks/cells/train.parquet"
NAMED = ["'cells-train-00001'", "image 0"]
SHADES = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), kind)


def shown(data: bytes | None, path: str | None = None) -> Spoil:
    """Give the second query this image."""
    return lambda world: world.rows(
        TRAIN_QUERIES, lambda rows: rows[1].update(images=[{"bytes": data, "path": path}])
    )


def folder(world: World) -> None:
    world.path("picture.png").mkdir()
    shown(None, "picture.png")(world)


REFUSED = [
    case("an image of no bytes", SAMPLE, NAMED, shown(b"")),
    case("an image that is text", SAMPLE, NAMED, shown(b"<html>not found</html>")),
    case("a png that is cut short", SAMPLE, NAMED, shown(noise("PNG")[:2000])),
    case("a jpeg that is cut short", SAMPLE, NAMED, shown(noise("JPEG")[:1000])),
    case("a gif that is cut short", SAMPLE, NAMED, shown(noise("GIF")[:600])),
    case("a png of nothing but its signature", SAMPLE, NAMED, shown(noise("PNG")[:8])),
    case("a decompression bomb", SAMPLE, NAMED, shown(encoded(Image.new("1", (20_000, 20_000))))),
    case("half a decompression bomb", SAMPLE, NAMED, shown(encoded(Image.new("1", (10_000, 10_000))))),
    case("an image of neither bytes nor path", SAMPLE, NAMED, shown(None)),
    case("an image that is a missing file", SAMPLE, NAMED, shown(None, "nowhere.png")),
    case("a folder in the place of an image", SAMPLE, NAMED, folder),
    case(
        "an image a thousand times as wide as high",
        SAMPLE,
        ["'cells-train-00001'"],
        shown(encoded(Image.new("RGB", (3000, 3)))),
    ),
]


@pytest.mark.parametrize("spoilt", REFUSED)
def test_what_is_no_image_is_refused(spoilt: Case, world: World) -> None:
    refused(world, spoilt)


def palette() -> bytes:
    """Black, then a white that is transparent."""
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putdata([0, 1])
    return encoded(image, transparency=1)


def animated() -> bytes:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("make", "colours"),
    [
        (lambda: encoded(Image.new("RGB", (1, 1), "red")), {(255, 0, 0)}),
        (lambda: encoded(Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "TIFF"), {(0, 0, 0)}),
        (lambda: encoded(Image.fromarray(np.full((2, 2), 0x8000, np.uint16))), {(128, 128, 128)}),
        (lambda: encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0))), {(255, 255, 255)}),
        (lambda: encoded(Image.new("LA", (2, 2), (0, 255))), {(0, 0, 0)}),
        (lambda: encoded(Image.new("1", (2, 2), 1)), {(255, 255, 255)}),
        (palette, {(0, 0, 0), (255, 255, 255)}),
        (animated, {(255, 0, 0)}),
    ],
    ids=["1x1", "cmyk", "16-bit", "transparent", "grey-alpha", "bilevel", "palette", "animated"],
)
def test_an_odd_image_is_shown_as_it_looks(
    make: Callable[[], bytes], colours: set[tuple[int, int, int]]
) -> None:
    picture = decode_image(make())
    assert picture.mode == "RGB"
    assert {colour for _, colour in picture.getcolors()} == colours


def test_a_suffix_that_lies_does_no_harm(tmp_path: Any) -> None:
    (tmp_path / "picture.jpg").write_bytes(encoded(Image.fromarray(SHADES)))
    picture = decode_image(tmp_path / "picture.jpg")
    assert (np.array(picture)[..., 0] == SHADES).all()
