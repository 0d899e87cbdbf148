"""The images of a query, decoded: for every stage that shows one to a model."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile, UnidentifiedImageError

from vista.errors import VistaError

# All that Pillow raises for files that are not an image, or only the beginning of one.
BROKEN = (
    *(UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error),
    *(OverflowError, Image.DecompressionBombError, Image.DecompressionBombWarning),
)
DEEP = {"I;16", "I;16B", "I;16L", "I;16N"}


def decode_image(data: bytes | Path) -> Image.Image:
    """An encoded image in RGB: the first frame, 16 bits as 8, transparent parts in white.

    Raises:
        one of ``BROKEN``: it is not an image, is cut short, or has more pixels than Pillow considers safe.
    """
    # Some libraries (lmms-eval's among them) set this for the whole process; a truncated image
    # would then be shown with its lower half grey.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as opened:
            if opened.mode in DEEP:  # Pillow would cut at 255, which turns nearly all of it white
                return opened.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
            if opened.has_transparency_data:  # Pillow would show whatever colour is underneath
                shown = opened.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
            return opened.convert("RGB")


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


def decoded(source: bytes | Path, where: str) -> Image.Image:
    """An image as RGB, from its bytes or a file.

    Raises:
        VistaError: there is no such file, or it cannot be decoded; says ``where``.
    """
    try:
        return decode_image(source)
    except FileNotFoundError as error:
        raise VistaError(f"{where}: no such file: {error.filename}; restore it") from error
    except BROKEN as error:
        raise VistaError(f"{where}: corrupt image ({error}); make the task's queries again") from error
