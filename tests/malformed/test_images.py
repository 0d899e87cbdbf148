"""Images of every odd kind: what is no image is refused, and what is odd is shown as it looks."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from tests.malformed.harness import SAMPLE, Case, Spoil, World, case, refused
from vista.errors import VistaError
from vista.images import FORMATS, as_seen, decode_image, decoded, plain_format, seen_size

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


def not_numbers(value: float) -> bytes:
    return encoded(Image.fromarray(np.array([[0.0, value], [0.5, 1.0]], np.float32)), "TIFF")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
REFUSED = [
    case("a program in PostScript", SAMPLE, NAMED, shown(EPS)),
    case("a format that is not opened", SAMPLE, NAMED, shown(encoded(Image.new("RGB", (4, 4)), "TGA"))),
    case("an image with NaN", SAMPLE, [*NAMED, "NaN or infinite"], shown(not_numbers(np.nan))),
    case("an image with infinity", SAMPLE, [*NAMED, "NaN or infinite"], shown(not_numbers(-np.inf))),
    case("an image without a row", SAMPLE, NAMED, shown(b"P6 4 0 255\n")),
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


def grey(values: Any, kind: type, form: str = "TIFF") -> bytes:
    return encoded(Image.fromarray(np.array(values, kind)), form)


def shades(data: bytes) -> list[list[int]]:
    """The greys that are shown."""
    picture = np.array(decode_image(data))
    assert (picture[..., :1] == picture).all()
    shown: list[list[int]] = picture[..., 0].tolist()
    return shown


def tiff(values: Any, kind: str, **tags: int) -> bytes:
    """A grey TIFF written by hand: of any type of number, in either byte order."""
    array = np.array(values, kind)
    order = ">" if array.dtype.byteorder == ">" else "<"
    fields = {
        256: array.shape[1],
        257: array.shape[0],
        258: array.itemsize * 8,
        259: 1,
        262: tags.get("interpretation", 1),
        273: 200,
        277: 1,
        278: array.shape[0],
        279: array.nbytes,
        339: {"u": 1, "i": 2, "f": 3}[array.dtype.kind],
    }
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in fields.items())
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8)
    return (head + struct.pack(f"{order}H", len(fields)) + entries).ljust(200, b"\0") + array.tobytes()


def pages() -> bytes:
    sheets = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    return encoded(sheets[0], "TIFF", save_all=True, append_images=sheets[1:])


@pytest.mark.parametrize(
    ("make", "colours"),
    [
        (lambda: encoded(Image.new("RGB", (1, 1), "red")), {(255, 0, 0)}),
        (lambda: encoded(Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "TIFF"), {(0, 0, 0)}),
        (lambda: encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100), {(255, 0, 0)}),
        (lambda: encoded(Image.fromarray(np.full((2, 2), 0x8000, np.uint16))), {(128, 128, 128)}),
        (lambda: encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0))), {(255, 255, 255)}),
        (lambda: encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 51))), {(255, 204, 204)}),
        (lambda: encoded(Image.new("LA", (2, 2), (0, 255))), {(0, 0, 0)}),
        (lambda: encoded(Image.new("LA", (2, 2), (0, 0))), {(255, 255, 255)}),
        (lambda: encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "WEBP", lossless=True), {(255, 255, 255)}),
        (lambda: encoded(Image.new("RGB", (2, 2), (9, 9, 9)), transparency=(9, 9, 9)), {(255, 255, 255)}),
        (lambda: encoded(Image.new("L", (2, 2), 9), transparency=9), {(255, 255, 255)}),
        (lambda: encoded(Image.new("1", (2, 2), 1)), {(255, 255, 255)}),
        (lambda: encoded(Image.new("1", (2, 2), 1), "TIFF"), {(255, 255, 255)}),
        (palette, {(0, 0, 0), (255, 255, 255)}),
        (animated, {(255, 0, 0)}),
        (pages, {(255, 0, 0)}),
    ],
    ids=[
        *("1x1", "cmyk", "cmyk-jpeg", "16-bit", "transparent", "see-through", "grey-alpha", "clear-grey"),
        *("webp", "clear-colour", "clear-shade", "bilevel", "bilevel-tiff", "palette", "animated", "pages"),
    ],
)
def test_an_odd_image_is_shown_as_it_looks(
    make: Callable[[], bytes], colours: set[tuple[int, int, int]]
) -> None:
    picture = decode_image(make())
    assert picture.mode == "RGB"
    assert {colour for _, colour in picture.getcolors()} == colours


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"]
)
def test_an_image_that_a_library_has_opened_is_seen_in_the_same_way(mode: str) -> None:
    through = {"La": "LA", "PA": "P", "RGBa": "RGBA"}.get(mode, mode)
    black = Image.new("RGB", (2, 2), "black").convert(through).convert(mode)
    assert {colour for _, colour in as_seen(black).getcolors()} == {(0, 0, 0)}


# Each row holds a smallest, a middle and a largest value, and then the shades of 8 bits that are shown.
DEEP = {
    "all of 16 bits lose their lower eight": ("<u2", [0, 0x80FF, 0xFFFF], [0, 0x80, 0xFF]),
    "16 bits, big-endian": (">u2", [0, 0x80FF, 0xFFFF], [0, 0x80, 0xFF]),
    "12 bits in 16 lose their lower four": ("<u2", [0, 0x7FF, 0xFFF], [0, 0x7F, 0xFF]),
    "9 bits in 16 are not dark": ("<u2", [0, 150, 300], [0, 75, 150]),
    "8 bits in 16 are as they are": ("<u2", [0, 100, 255], [0, 100, 255]),
    "few shades stay few": ("<u2", [0, 1, 2], [0, 1, 2]),
    "a CT below water": ("<i2", [-1024, 0, 3071], [0, 64, 255]),
    "a CT, big-endian": (">i2", [-1024, 0, 3071], [0, 64, 255]),
    "32 bits that hold 12": ("<i4", [0, 2048, 4095], [0, 128, 255]),
    "all of 32 bits": ("<u4", [0, 1 << 31, (1 << 32) - 1], [0, 128, 255]),
    "32 bits with a sign": (">i4", [-(1 << 31), 0, (1 << 31) - 1], [0, 128, 255]),
    "floats from 0 to 1": ("<f4", [0.0, 0.5, 1.0], [0, 128, 255]),
    "floats, big-endian": (">f4", [0.0, 0.5, 1.0], [0, 128, 255]),
    "floats a little beyond": ("<f4", [0.0, 0.5, 1.02], [0, 64, 130]),
    "floats around 0": ("<f4", [-1.0, 0.0, 1.0], [0, 128, 255]),
    "floats of 8 bits": ("<f4", [0.0, 128.0, 255.0], [0, 128, 255]),
    "floats of 12 bits": ("<f4", [0.0, 2048.0, 4095.0], [0, 128, 255]),
    "huge floats": ("<f4", [0.0, 2.0**99, 2.0**100], [0, 128, 255]),
    "nothing but one value": ("<u2", [7, 7, 7], [7, 7, 7]),
    "nothing but black": ("<f4", [0.0, 0.0, 0.0], [0, 0, 0]),
    "nothing but one negative value": ("<f4", [-5.0, -5.0, -5.0], [0, 0, 0]),
}


@pytest.mark.parametrize("what", DEEP)
def test_deep_greys_are_scaled_by_the_bits_that_they_occupy(what: str) -> None:
    kind, values, expected = DEEP[what]
    assert shades(tiff([values], kind)) == [expected]


def test_deep_greys_are_the_same_in_every_format() -> None:
    values = (np.arange(4096) * 16).reshape(64, 64).astype(np.uint16)
    pgm = b"P5 64 64 65535\n" + values.astype(">u2").tobytes()
    found = [shades(data) for data in (grey(values, np.uint16, "PNG"), tiff(values, "<u2"), pgm)]
    assert found[0] == found[1] == found[2] == (values >> 8).tolist()


@pytest.mark.parametrize("kind", ["<u2", "<i2", "<i4", "<u4", "<f4"])
def test_a_brighter_pixel_is_never_shown_darker_and_most_shades_remain(kind: str) -> None:
    for scale in (1, 3, 40):
        values = np.sort(np.random.default_rng(0).integers(0, 700, 5000) * scale).astype(kind)
        (found,) = shades(tiff([values], kind))
        assert found == sorted(found)
        assert len(set(found)) > 100


def test_white_may_be_zero_and_one_shade_may_be_clear() -> None:
    assert shades(tiff([[0, 0x8000, 0xFFFF]], "<u2", interpretation=0)) == [[255, 127, 0]]
    clear = Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], np.uint16))
    assert shades(encoded(clear, transparency=0)) == [[255, 128, 255]]


ORIENTED = [
    *((kind, orientation) for kind in ("JPEG", "PNG", "WEBP", "TIFF") for orientation in range(1, 9)),
    *(("compressed", orientation) for orientation in range(1, 9)),
]


@pytest.mark.parametrize(("kind", "orientation"), ORIENTED)
def test_a_photo_stands_upright(kind: str, orientation: int) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16], pixels[8:, 16:] = 255, (255, 0, 0)
    tag = Image.Exif()
    tag[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    options |= {"compression": "tiff_lzw"} if kind == "compressed" else {}
    data = encoded(Image.fromarray(pixels), "TIFF" if kind == "compressed" else kind, exif=tag, **options)
    picture = decode_image(data)
    # As the library shows it that reads lmms-eval's own benchmarks.
    library = datasets.Image().decode_example({"bytes": data, "path": None})
    assert seen_size(data) == picture.size == library.size == ((32, 16) if orientation < 5 else (16, 32))
    assert np.array_equal(np.array(picture), np.array(library.convert("RGB")))
    corner = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}.get(orientation)
    if corner is not None:  # where the white is, told without any library
        place = (2 if "left" in corner else 29, 2 if "top" in corner else 13)
        assert min(picture.getpixel(place)) > 250
    assert plain_format(data) == (kind if orientation == 1 and kind in ("JPEG", "PNG", "WEBP") else None)


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"xmp": XMP}), ("WEBP", {"xmp": XMP}), ("TIFF", {"tiffinfo": {700: XMP}})],
    ids=["JPEG", "WEBP", "TIFF"],
)
def test_the_size_is_that_of_the_upright_picture_also_where_xmp_says_so(
    kind: str, options: dict[str, Any]
) -> None:
    data = encoded(Image.new("RGB", (32, 16)), kind, **options)
    assert seen_size(data) == decode_image(data).size == (16, 32)


@pytest.mark.parametrize("kind", ["TGA", "ICO", "JPEG2000", "PCX", "PDF", "EPS"])
def test_another_format_is_refused_with_those_that_are_read(kind: str) -> None:
    data = encoded(Image.new("RGB", (32, 32)), kind)
    for read in (decode_image, seen_size):
        with pytest.raises(UnidentifiedImageError) as raised:
            read(data)
        assert str(raised.value) == f"it cannot be read as any of {', '.join(FORMATS)}"


def test_what_a_library_has_opened_is_refused_with_its_place() -> None:
    with pytest.raises(VistaError, match=r"a task's image: .*NaN or infinite"):
        decoded(Image.fromarray(np.array([[0.0, np.nan]], np.float32)), "a task's image")


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_means_nothing_turns_nothing(value: int) -> None:
    tag = Image.Exif()
    tag[0x0112] = value
    assert decode_image(encoded(Image.new("RGB", (4, 2)), "JPEG", exif=tag)).size == (4, 2)


def test_an_exif_block_that_nobody_can_read_turns_nothing() -> None:
    damaged = encoded(Image.new("RGB", (4, 2)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode_image(damaged).size == (4, 2)


def test_no_program_is_started_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    picture = tmp_path / "source.jpg"
    picture.write_bytes(EPS)
    for source in (EPS, picture):
        with pytest.raises(UnidentifiedImageError):
            decode_image(source)
    with pytest.raises(OSError, match="Ghostscript"):  # a library that opens whatever it is given
        datasets.Image().decode_example({"bytes": EPS, "path": None})
    assert not started.exists()


def test_images_are_opened_in_one_place_only(root: Path) -> None:
    opened = {
        str(path.relative_to(root))
        for path in (root / "vista").rglob("*.py")
        if "Image.open(" in path.read_text()
    }
    assert opened == {"vista/images.py"}


def test_a_suffix_that_lies_does_no_harm(tmp_path: Any) -> None:
    (tmp_path / "picture.jpg").write_bytes(encoded(Image.fromarray(SHADES)))
    picture = decode_image(tmp_path / "picture.jpg")
    assert (np.array(picture)[..., 0] == SHADES).all()
