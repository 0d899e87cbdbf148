"""What lmms-eval asks: its turns with their images, and how the responses are to be decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vista import chat
from vista.errors import VistaError
from vista.images import decoded


@dataclass(frozen=True)
class Decoding:
    """How to decode one request, from a task's ``generation_kwargs``."""

    max_new_tokens: int
    until: tuple[str, ...]

    @classmethod
    def parse(cls, task: str, settings: Mapping[str, Any]) -> Decoding:
        """Read the settings of ``task``.

        Raises:
            VistaError: they ask for anything but greedy decoding, or set no length limit.
        """
        temperature = settings.get("temperature")
        sampled = settings.get("do_sample", bool(temperature)) and temperature != 0
        if sampled or (settings.get("num_beams") or 1) != 1:
            raise VistaError(
                f"task {task}: generation_kwargs {dict(settings)} ask for sampling or beams, but this model "
                "is evaluated greedily; set do_sample: false and num_beams: 1 (--gen_kwargs)"
            )
        limit = settings.get("max_new_tokens")
        if not isinstance(limit, int) or limit < 1:
            raise VistaError(
                f"task {task}: generation_kwargs.max_new_tokens is {limit!r}; set it to a number of tokens, "
                "for example with --gen_kwargs max_new_tokens=2048"
            )
        until = settings.get("until") or ()
        return cls(limit, (until,) if isinstance(until, str) else tuple(until))

    def cut(self, text: str) -> str:
        """``text`` up to the first of the stop strings."""
        return self.ended(text, True)[0]

    def ended(self, text: str, finished: bool) -> tuple[str, bool]:
        """``text`` up to the first of the stop strings, which finishes a response as the model does."""
        ends = [text.index(stop) for stop in self.until if stop and stop in text]
        return (text[: min(ends)], True) if ends else (text, finished)


def split_images(turns: Sequence[Mapping[str, Any]]) -> tuple[list[chat.Message], list[Image.Image]]:
    """Convert lmms-eval's turns, which contain images, to what ``chat`` takes: turns and a list of images.

    Raises:
        VistaError: there is a video or sound, or an image that is neither decoded nor a file.
    """
    plain: list[chat.Message] = []
    images: list[Image.Image] = []
    for turn in turns:
        content = turn["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        parts: list[chat.Message] = []
        for part in content:
            if part["type"] == "text":
                parts.append({"type": "text", "text": part["text"]})
            elif part["type"] == "image":
                parts.append({"type": "image", "text": None})
                images.append(_opened(part["url"]))
            else:
                raise VistaError(f"content of type {part['type']!r}: this model takes text and images only")
        plain.append({"role": turn["role"], "content": parts})
    return plain, images


def _opened(image: Any) -> Image.Image:
    """A decoded RGB image, from a decoded image or the path of a file."""
    return decoded(image if isinstance(image, Image.Image) else Path(str(image)), "a task's image")
