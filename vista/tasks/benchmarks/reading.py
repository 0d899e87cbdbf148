"""Reads a published split whole and checks every row before anything is made of it.

Part of stage ``tasks``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from vista.answers import verify
from vista.config import Questions
from vista.errors import VistaError, fail_if
from vista.images import BROKEN, decode_image
from vista.tasks.benchmarks.items import Benchmark, Item, PublishedSplit

MOST_PROBLEMS = 20  # listed in one error
MOST_CHOICES = 26  # A to Z


@dataclass(frozen=True)
class Question:
    """An item that was found sound, with what tells it from others."""

    item: Item
    image_id: str  # of the pixels
    text: str  # lower case, single spaces

    @property
    def fingerprint(self) -> tuple[str, str]:
        """The same for the same question about the same picture."""
        return self.text, self.image_id


@dataclass
class Reading:
    """The questions of a published split, and how many rows were left out for what reason."""

    questions: list[Question] = field(default_factory=list)
    unanswered: int = 0  # published without an answer
    other: int = 0  # no part of the benchmark, or of the questions that the config asks for


def read_split(
    benchmark: Benchmark, root: Path, split: PublishedSplit, wanted: Questions, keep_images: bool = True
) -> Reading:
    """All questions of a published split, in published order.

    Args:
        benchmark: The adapter.
        root: Folder of the published files.
        split: The published split.
        wanted: Which questions the config asks for.
        keep_images: Whether the encoded images are needed later.

    Raises:
        VistaError: lists the rows with an impossible value, without a question, an image or (in
            the test split) an answer, or with an image that cannot be decoded; or there are no rows.
    """
    reading, problems, keys = Reading(), list[str](), set[str]()
    identify = image_identifier()
    rows = benchmark.rows(root, split)
    for published in tqdm(rows, desc=f"{benchmark.name}/{split}", unit="row", mininterval=5, delay=5):
        try:
            item = benchmark.item(published)
            if item is None or (wanted == "yes-no" and item.answer_type != "closed"):
                reading.other += 1
            elif not item.answer.strip() and split == "train":
                reading.unanswered += 1
            else:
                question = _checked(item, keys, identify)
                reading.questions.append(question if keep_images else _without_images(question))
        except VistaError as error:
            problems.append(f"{published.where}: {error}")
            if len(problems) == MOST_PROBLEMS:
                problems.append("and perhaps more; reading stopped here")
                break
    fail_if(problems, f"The {split} split of {benchmark.name} has errors:")
    if not reading.questions:
        total = reading.unanswered + reading.other
        reason = f"none of its {total} rows is a question of this task" if total else "its files have no rows"
        raise VistaError(
            f"{root}: the {split} split of {benchmark.name} is empty: {reason}; "
            "copy the files as published there"
        )
    return reading


def _checked(item: Item, keys: set[str], identify: Callable[[bytes], str]) -> Question:
    """The question that an item asks; it must be whole, and its answer right by its own verifier."""
    if item.key in keys:
        raise VistaError(f"id {item.key!r} already stands in an earlier row; ids must be unique")
    keys.add(item.key)
    if not item.question.strip():
        raise VistaError("the question is empty; mend the row or leave it out of a local copy")
    if not item.images:
        raise VistaError("there is no image; mend the row or leave it out of a local copy")
    if not item.answer.strip():
        raise VistaError("the answer is empty; mend the row or leave it out of a local copy")
    if any(choice is None for choice in item.choices or []):
        raise VistaError("a choice is null; mend the row or leave it out of a local copy")
    if len(item.choices or []) > MOST_CHOICES:
        raise VistaError("there are more choices than letters; leave the row out of a local copy")
    if not verify(item.answer, item.answer, item.answer_type, item.choices):
        raise VistaError(f"answer {item.answer!r} is no {item.answer_type} answer; mend the row")
    image_id = " ".join(identify(image) for image in item.images)
    return Question(item, image_id, " ".join(item.question.casefold().split()))


def _without_images(question: Question) -> Question:
    item = question.item
    bare = Item(item.key, item.question, item.answer, item.answer_type, [], item.choices)
    return Question(bare, question.image_id, question.text)


def image_identifier() -> Callable[[bytes], str]:
    """A function from an encoded image to the id of its pixels: 16 hex digits of their SHA-256.

    So the same picture has one id however it was encoded. Every image is decoded once.
    The function raises VistaError for an image that cannot be decoded.
    """
    known: dict[bytes, str] = {}

    def identify(encoded: bytes) -> str:
        digest = hashlib.sha256(encoded).digest()
        if digest not in known:
            known[digest] = _pixel_id(encoded)
        return known[digest]

    return identify


def _pixel_id(encoded: bytes) -> str:
    try:
        picture = decode_image(encoded)
    except BROKEN as error:
        raise VistaError(f"the image cannot be read ({error}); download the file again") from error
    size = f"{picture.width}x{picture.height} ".encode()
    return hashlib.sha256(size + picture.tobytes()).hexdigest()[:16]
