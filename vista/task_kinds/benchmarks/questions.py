"""The questions of a benchmark: checked, told from each other, and put to a model as queries.

Part of stage ``tasks``. Every instruction asks for steps and for a last line that
``vista.answers.extract`` finds.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

from vista.answers import verify
from vista.errors import VistaError
from vista.records import AnswerType, Row, Split

MOST_CHOICES = 26  # A to Z
# What no number or formula has: a word, or what says that two things are so.
WORDS = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}|\\(?:cong|parallel|perp|sim)\b")

SYSTEM = "You are a helpful assistant. You look at the image closely and reason before you answer."

# What X is in the last line, by the type of the answer.
_FORMS: dict[AnswerType, str] = {
    "closed": "yes or no",
    "open": "a word or a short phrase",
    "number": "a number",
    "term": "a word or a short phrase",
    "math": "the number or formula asked for",
    "choice": "the letter of the right choice",
    "relaxed": "a number, a word or a short phrase",
}


@dataclass(frozen=True)
class Item:
    """One question as published, in the terms that all benchmarks share."""

    key: str  # unique within its split, and the same in every reading of the same files
    question: str
    answer: str
    answer_type: AnswerType
    images: list[bytes]  # encoded, as published
    choices: list[str] | None = None
    rationale: str | None = None  # gold; asked for in the seed split alone
    system: str | None = None  # in place of ours; empty: no system turn
    cluster: str | None = None  # of standard errors, in place of the pictures
    split: str = ""  # where the published rows of several splits come mixed


@dataclass(frozen=True)
class Question:
    """An item without mistakes, with what tells it from others."""

    item: Item
    image_id: str  # of the pixels; of several pictures, separated by blanks
    text: str  # lower case, single spaces

    @property
    def fingerprint(self) -> tuple[str, str]:
        """Equal for the same question about the same picture."""
        return self.text, self.image_id

    @property
    def pictures(self) -> list[str]:
        """The id of each of its pictures."""
        return self.image_id.split()

    def without_images(self) -> Question:
        """The same question, without the encoded images."""
        return replace(self, item=replace(self.item, images=[]))


def checked(item: Item, keys: set[str], identify: Callable[[bytes], str]) -> Question:
    """The question that an item asks.

    Args:
        item: The item.
        keys: Those of the items before it; its own is added.
        identify: From ``image_identifier``.

    Raises:
        VistaError: a part is missing, the id is not unique, an image cannot be decoded, or the answer is
            wrong by its own verifier.
    """
    if item.key in keys:
        raise VistaError(f"id {item.key!r} is already the id of an earlier row; ids must be unique")
    keys.add(item.key)
    if not item.question.strip():
        raise VistaError("the question is empty; correct the row or leave it out of a local copy")
    if not item.images:
        raise VistaError("there is no image; correct the row or leave it out of a local copy")
    if not item.answer.strip():
        raise VistaError("the answer is empty; correct the row or leave it out of a local copy")
    if any(choice is None for choice in item.choices or []):
        raise VistaError("a choice is null; correct the row or leave it out of a local copy")
    if len(item.choices or []) > MOST_CHOICES:
        raise VistaError("there are more choices than letters; leave the row out of a local copy")
    if not verify(item.answer, item.answer, item.answer_type, item.choices):
        raise VistaError(
            f"answer {item.answer!r} is not a valid answer of type {item.answer_type}; correct the row"
        )
    image_id = " ".join(identify(image) for image in item.images)
    return Question(item, image_id, " ".join(item.question.casefold().split()))


def image_identifier() -> Callable[[bytes], str]:
    """A function from an encoded image to the id of its pixels: 16 hex digits of their SHA-256.

    The pixels are those that a model is shown (``vista.images``): in RGB, upright. So the same picture has
    one id whatever its file is called, and in all formats that keep every pixel; one that was scaled, cropped
    or encoded again with loss is another picture. Every image is decoded once.
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
    from vista.images import BROKEN, decode_image, pixel_id

    try:
        return pixel_id(decode_image(encoded))
    except BROKEN as error:
        raise VistaError(f"the image cannot be read ({error}); download the file again") from error


def in_words(question: Question) -> bool:
    """Whether a number or formula is asked for, but published is a text: "A D and B E"."""
    return question.item.answer_type == "math" and WORDS.search(question.item.answer) is not None


def repeats(questions: Sequence[Question]) -> int:
    """Questions that another one before them already asked about the same picture."""
    return len(questions) - len(Counter(question.fingerprint for question in questions))


@dataclass(frozen=True)
class Tested:
    """What the test split asks and shows, for comparison with train questions."""

    asked: Set[tuple[str, str]]  # fingerprints
    shown: Set[str]  # ids of single pictures

    @classmethod
    def of(cls, questions: Sequence[Question]) -> Tested:
        """What these questions of the test split ask and show."""
        shown = {picture for question in questions for picture in question.pictures}
        return cls({question.fingerprint for question in questions}, shown)

    def asks(self, question: Question) -> bool:
        """Whether a train question is a duplicate: the test split asks it about the same picture."""
        return question.fingerprint in self.asked

    def shows(self, question: Question) -> bool:
        """Whether the test split shows a picture of a train question, whatever it asks about it."""
        return not self.shown.isdisjoint(question.pictures)

    def overlap(
        self, published: Sequence[Question], pool: Sequence[Question], chosen: Sequence[Question]
    ) -> dict[str, float]:
        """What the manifest counts.

        Args:
            published: All questions of the published train split.
            pool: Those of them that are not left out.
            chosen: Those of the pool that are written.
        """
        asked, shown = ([*map(tells, published)] for tells in (self.asks, self.shows))
        kept = {question.item.key for question in pool}
        left_out = [question.item.key not in kept for question in published]
        return {
            "duplicates": sum(asked),
            "removed": sum(each and out for each, out in zip(asked, left_out, strict=True)),
            "shared_images": sum(shown),
            "shared_dropped": sum(each and out for each, out in zip(shown, left_out, strict=True)),
            "shared_kept": sum(map(self.shows, chosen)),
        }


def query(name: str, split: Split, question: Question) -> Row:
    """The row of a question. Its id names the published row, so it stays if sizes or seed change."""
    item = question.item
    published = "test" if split == "test" else "train"
    return {
        "query_id": f"{name}-{published}-{item.key}",
        "task": name,
        "split": split,
        "images": [{"bytes": image, "path": None} for image in item.images],
        "system": SYSTEM if item.system is None else item.system or None,
        "instruction": instruction(item.question, item.answer_type, item.choices),
        "answer": item.answer.strip(),
        "answer_type": item.answer_type,
        "choices": item.choices,
        "rationale": item.rationale if split == "seed" else None,
        "cluster_id": item.cluster or question.image_id,
        "scene": None,
    }


def instruction(question: str, answer_type: AnswerType, choices: Sequence[str] | None = None) -> str:
    """The question, its choices with letters, and the form that the response should have."""
    form = (
        "Describe what matters in the image and think step by step. "
        f'Then end with one line of the form "Answer: X", where X is {_FORMS[answer_type]}.'
    )
    return "\n".join([question.strip(), *lettered_lines(choices or []), form])


def lettered_lines(choices: Sequence[str]) -> list[str]:
    """The choices, each with its letter."""
    return [f"{chr(ord('A') + number)}. {choice}" for number, choice in enumerate(choices)]
