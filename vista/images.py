"""The images of a query, decoded: for every stage that shows one to a model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageFile, UnidentifiedImageError

from vista.errors import VistaError


def open_images(query: Mapping[str, Any]) -> list[Image.Image]:
    """Decode a query's images.

    Raises:
        VistaError: an image is missing or cannot be decoded; names the query.
    """
    # Some libraries (lmms-eval's among them) set this for the whole process, and a truncated image
    # would then be shown with its lower half grey.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    pictures = []
    for index, image in enumerate(query["images"]):
        where = f"query {query['query_id']!r}: image {index}"
        try:
            if image["bytes"] is not None:
                opened = Image.open(io.BytesIO(image["bytes"]))
            elif image["path"] is not None:
                opened = Image.open(image["path"])
            else:
                raise VistaError(f"{where}: neither bytes nor a path; make the task's queries again")
            pictures.append(opened.convert("RGB"))
        except FileNotFoundError as error:
            raise VistaError(f"{where}: no such file: {image['path']}; restore it") from error
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise VistaError(f"{where}: corrupt image ({error}); make the task's queries again") from error
    return pictures
