"""What stands in for an image that is withheld from a model: for information gains, and for blind tasks."""

from __future__ import annotations

import io

from PIL import Image, ImageStat


def in_mean_colour(picture: Image.Image) -> bytes:
    """A PNG file of the picture's size in its mean colour."""
    red, green, blue = (round(mean) for mean in ImageStat.Stat(picture).mean)
    file = io.BytesIO()
    Image.new("RGB", picture.size, (red, green, blue)).save(file, format="PNG")
    return file.getvalue()
