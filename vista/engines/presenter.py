"""A checkpoint's processor together with how its model is to be shown queries.

Serves every stage that encodes a prompt: ``vista.chat`` takes it in place of the processor, so
that rollouts, scoring, training and evaluation show a model the same pixels and the same text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vista.config import Loading
from vista.errors import VistaError
from vista.records import write_json

LOADING_FILE = "loading.json"


class Presenter:
    """What ``vista.chat`` asks of a processor, with the options of ``Loading`` applied.

    Args:
        processor: As transformers loads it.
        loading: How queries are shown; the defaults change nothing.
        where: Names the checkpoint in errors.

    Raises:
        VistaError: the processor or its chat template knows no such option.
    """

    def __init__(self, processor: Any, loading: Loading | None = None, where: str = "the checkpoint") -> None:
        self.inner = processor
        self.loading = loading or Loading()
        self.tokenizer = processor.tokenizer
        _check_options(processor, self.loading, where)

    @property
    def image_processor(self) -> Any:
        """The part of the processor that sees images."""
        return self.inner.image_processor

    @property
    def chat_template(self) -> Any:
        """The template, or several by name; nothing, if the processor has none."""
        return getattr(self.inner, "chat_template", None)

    def apply_chat_template(self, turns: Any, **options: Any) -> Any:
        """The processor's own, with the checkpoint's variables."""
        return self.inner.apply_chat_template(turns, **self.loading.chat, **options)

    def __call__(self, *, text: list[str], images: list[list[Image.Image]] | None, **options: Any) -> Any:
        """The processor's own, on images of at most ``max_pixels``, with the checkpoint's options."""
        if images is not None:
            images = [self.shrink(pictures) for pictures in images]
            if self.loading.processor:
                options["images_kwargs"] = self.loading.processor
        return self.inner(text=text, images=images, **options)

    def shrink(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """``images``, those that have more than ``max_pixels`` pixels scaled down."""
        limit = self.loading.max_pixels
        return [image if limit is None else shrunk(image, limit) for image in images]

    def save_pretrained(self, folder: Path) -> None:
        """Save the processor as it is, and the options beside it if there are any."""
        self.inner.save_pretrained(folder)
        if self.loading != Loading():
            write_loading(folder, self.loading)


def shrunk(image: Image.Image, max_pixels: int) -> Image.Image:
    """``image`` with at most ``max_pixels`` pixels: bicubic, the ratio of its sides kept."""
    width, height = image.size
    if width * height <= max_pixels:
        return image
    factor = math.sqrt(max_pixels / (width * height))
    # A side that rounds to nothing keeps one pixel; the other one is then cut to the limit.
    width, height = max(1, math.floor(width * factor)), max(1, math.floor(height * factor))
    return image.resize((min(width, max_pixels), min(height, max_pixels)), Image.Resampling.BICUBIC)


def write_loading(folder: Path, loading: Loading) -> None:
    """Write ``loading.json`` into a checkpoint folder; a link of that name is replaced."""
    write_json(folder / LOADING_FILE, loading.model_dump(mode="json"))


def _check_options(processor: Any, loading: Loading, where: str) -> None:
    """Refuse options that transformers would ignore with a warning at most."""
    if loading.chat:
        known = _template_variables(processor)
        unknown = sorted(set(loading.chat) - known)
        if unknown:
            raise VistaError(
                f"{where}: chat: the chat template has no variable {', '.join(unknown)}; "
                f"it has {', '.join(sorted(known)) or 'none'}"
            )
    if loading.processor:
        known = set(processor.image_processor.valid_kwargs.__annotations__)
        unknown = sorted(set(loading.processor) - known)
        if unknown:
            raise VistaError(
                f"{where}: processor: {type(processor.image_processor).__name__} has no option "
                f"{', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )


def _template_variables(processor: Any) -> set[str]:
    """Names that the chat template reads and that are not handed to it anyway."""
    from transformers.utils.chat_template_utils import _get_template_variables

    template = processor.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    found: set[str] = set(_get_template_variables(template))
    return found - {"messages", "add_generation_prompt", "raise_exception", "strftime_now"}
