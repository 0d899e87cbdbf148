"""The images of a query, decoded: for every stage that shows one to a model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageFile, UnidentifiedImageError

from vista.errors import VistaError


def open_images(query: Mapping[str, Any]) -> list[Image.Image]:
    """Decode a query's images, which stand in the query itself: it cannot name files of this machine.

    Raises:
        VistaError: an image is missing or cannot be decoded; names the query.
    """
    pictures = []
    for index, image in enumerate(query["images"]):
        where = f"query {query['query_id']!r}: image {index}"
        if image["bytes"] is None:
            found = "nothing" if image["path"] is None else f"only the name of a file ({image['path']})"
            raise VistaError(f"{where}: {found} where the image should be; make the task's queries again")
        pictures.append(decoded(io.BytesIO(image["bytes"]), where))
    return pictures


def decoded(source: io.BytesIO | str, where: str) -> Image.Image:
    """An image as RGB, from its bytes or a file.

    Raises:
        VistaError: there is no such file, or it cannot be decoded; says ``where``.
    """
    # Some libraries (lmms-eval's among them) set this for the whole process, and a truncated image
    # would then be shown with its lower half grey.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        return Image.open(source).convert("RGB")
    except FileNotFoundError as error:
        raise VistaError(f"{where}: no such file: {source}; restore it") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VistaError(f"{where}: corrupt image ({error}); make the task's queries again") from error
