"""The images of a query, decoded: for every stage that shows one to a model.

A picture is shown as a person would see it: upright, as its EXIF orientation says; the first frame or page;
transparent parts in white. Grey with more than 8 bits is scaled to 8 in one way (``_shades``).
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import EpsImagePlugin, Image, ImageFile, UnidentifiedImageError

from vista.errors import MORE_MEMORY, VistaError, lack

if TYPE_CHECKING:
    import numpy as np

# The formats that are opened; all others are refused, whatever the file is called. For EPS, Pillow would
# start a program, which runs what somebody wrote into a data set.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
EpsImagePlugin.gs_binary = False  # nor when a library opens an image for us, as `datasets` does
# All that Pillow raises for files that are not an image, or only the beginning of one.
BROKEN = (
    *(UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error),
    *(OverflowError, Image.DecompressionBombError, Image.DecompressionBombWarning),
    *(KeyError, TypeError, AttributeError, AssertionError, ArithmeticError, zlib.error),
)
PLAIN = ("1", "L", "P", "RGB")  # modes that every program shows alike
# What turns a picture upright, by its EXIF orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION, WHITE_IS_ZERO, SAMPLE_FORMAT = 0x0112, 262, 339  # tags of EXIF and TIFF


@contextmanager
def _loaded(data: bytes | Path) -> Iterator[Image.Image]:
    """The first frame of an encoded image, as Pillow reads it."""
    # Some libraries (lmms-eval's among them) set this for the whole process; a truncated image
    # would then be shown with its lower half grey.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _opened(data) as opened:
            if not all(opened.size):
                raise ValueError(f"it has no pixels: {opened.width}×{opened.height}")
            opened.load()  # turns a TIFF upright, and no other format
            yield opened


def _opened(data: bytes | Path) -> Image.Image:
    """An encoded image of which the head has been read."""
    try:
        return Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=FORMATS)
    except UnidentifiedImageError as error:  # Pillow names the address of our buffer, and no format
        raise UnidentifiedImageError(f"it cannot be read as any of {', '.join(FORMATS)}") from error


def image_format(data: bytes) -> str:
    """Pillow's name of the format of an encoded image; raises one of ``BROKEN`` if it is none of ours."""
    with _opened(data) as opened:
        return str(opened.format)


def decode_image(data: bytes | Path) -> Image.Image:
    """An encoded image of one of ``FORMATS``, in RGB as it should be seen.

    Raises:
        one of ``BROKEN``: it is not an image, is cut short, has more pixels than Pillow considers safe, or
            has some that are no numbers.
    """
    with _loaded(data) as opened:
        return as_seen(opened)


def seen_size(data: bytes) -> tuple[int, int]:
    """Width and height of what ``decode_image`` gives, from the head of the file.

    Raises:
        one of ``BROKEN``: it is not an image.
    """
    with _opened(data) as opened:
        # Pillow gives the upright size of a TIFF that says so in its own tag.
        lying = ORIENTATION not in getattr(opened, "tag_v2", {}) and _orientation(opened) in (5, 6, 7, 8)
        return (opened.height, opened.width) if lying else opened.size


def as_seen(opened: Image.Image) -> Image.Image:
    """An opened image in RGB: upright, transparent parts in white, all greys visible.

    Raises:
        ValueError: a pixel is NaN or infinite, or the colours are of a kind that is not known.
    """
    turn = UPRIGHT.get(_orientation(opened))
    if opened.mode[0] in "IF":
        picture = _deep_grey(opened)
    elif opened.has_transparency_data:  # Pillow would show whatever colour is underneath
        whole = opened.convert({"La": "LA", "RGBa": "RGBA"}.get(opened.mode, opened.mode)).convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    else:
        picture = opened.convert("RGB")
    return picture if turn is None else picture.transpose(turn)


def plain_format(data: bytes) -> str | None:
    """The format of an image that every program shows as ``decode_image`` does; ``None`` for others.

    Others are films, pictures that have to be turned, see-through ones, and those of rare colours or in TIFF.
    """
    with suppress(*BROKEN), _loaded(data) as opened:
        plain = opened.mode in PLAIN and not opened.has_transparency_data and opened.format != "TIFF"
        alone = getattr(opened, "n_frames", 1) == 1 and _orientation(opened) == 1
        return opened.format if plain and alone else None
    return None


def _orientation(opened: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where there is none or nobody can read it."""
    with suppress(*BROKEN):
        return int(opened.getexif().get(ORIENTATION, 1))
    return 1


def _deep_grey(opened: Image.Image) -> Image.Image:
    """A grey image of 16 or 32 bits, or of floats, in RGB."""
    import numpy as np

    values, tags = np.asarray(opened), getattr(opened, "tag_v2", {})
    if opened.mode == "I" and tags and tags.get(SAMPLE_FORMAT, (1,))[0] == 1:
        values = values.view(np.uint32)  # without a sign, for which Pillow has no mode
    shades = _shades(values)
    if tags.get(WHITE_IS_ZERO) == 0:
        shades = 255 - shades
    if isinstance(clear := opened.info.get("transparency"), int):
        shades[values == clear] = 255
    return Image.fromarray(shades).convert("RGB")


def _shades(values: np.ndarray) -> np.ndarray:
    """Grey values in 8 bits, shape and order kept: 256 · (value − lowest) / range, cut to a whole number.

    The lowest is 0, or the smallest value where that is negative, as in a CT in Hounsfield units. The range
    is the least power of two that no value exceeds: of whole numbers at least 256, of floats at least 1. So a
    full 16 bits lose their lower eight, 12 bits in 16 their lower four, floats from 0 to 1 become 0 to 255,
    and no picture comes out black only because its values are small, or white because they are large.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    import numpy as np

    whole = values.dtype.kind in "iu"
    lifted = values.astype(np.float64)
    if not np.isfinite(lifted).all():
        raise ValueError("it has pixels that are NaN or infinite")
    lifted -= min(lifted.min(), 0.0)
    most = max(lifted.max() + whole, 256.0 if whole else 1.0)
    shades: np.ndarray = np.minimum(lifted * (256.0 / 2.0 ** np.ceil(np.log2(most))), 255.0).astype(np.uint8)
    return shades


def pixel_id(picture: Image.Image) -> str:
    """16 hex digits of the SHA-256 of a picture's size and pixels."""
    size = f"{picture.width}x{picture.height} ".encode()
    return hashlib.sha256(size + picture.tobytes()).hexdigest()[:16]


def open_images(query: Mapping[str, Any]) -> list[Image.Image]:
    """Decode a query's images, whose bytes are in the query itself: it cannot name files of this machine.

    Raises:
        VistaError: an image is missing or cannot be decoded; names the query.
    """
    pictures = []
    for index, image in enumerate(query["images"]):
        where = f"query {query['query_id']!r}: image {index}"
        if image is None or image["bytes"] is None:
            named = None if image is None else image["path"]
            found = "nothing" if named is None else f"only the name of a file ({named})"
            raise VistaError(f"{where}: {found} where the image should be; make the task's queries again")
        pictures.append(decoded(image["bytes"], where))
    return pictures


def decoded(source: bytes | Path | Image.Image, where: str) -> Image.Image:
    """An image as RGB, from its bytes, a file or what a library has opened.

    Raises:
        VistaError: there is no such file, or it cannot be decoded; says ``where``.
    """
    try:
        return as_seen(source) if isinstance(source, Image.Image) else decode_image(source)
    except FileNotFoundError as error:
        raise VistaError(f"{where}: no such file: {error.filename}; restore it") from error
    except MemoryError as error:
        raise VistaError(
            f"{where}: out of memory while it is decoded ({lack(error)}); {MORE_MEMORY}"
        ) from error
    except BROKEN as error:
        raise VistaError(f"{where}: corrupt image ({error}); make the task's queries again") from error
