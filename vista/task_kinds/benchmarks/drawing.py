"""Splits drawn from published questions, benchmarks and data of the user's own. Part of stage ``tasks``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from pydantic import Field

from vista.errors import VistaError, fail_if
from vista.records import Split
from vista.task_kinds import TaskKind, TaskSettings
from vista.task_kinds.benchmarks.questions import (
    Item,
    Question,
    Tested,
    checked,
    image_identifier,
    in_words,
    repeats,
)

MOST_PROBLEMS = 20  # listed in one error


class DrawnSettings(TaskSettings):
    """Of which published questions the splits are made."""

    counts_shared_images = True
    for_training = frozenset({"duplicates", "shared_images"})
    seed: int = Field(0, description="Which of the published queries a split smaller than all takes.")
    duplicates: Literal["report", "remove"] = Field(
        "report",
        description="Train queries that are also in the test split: count them, or leave them out as well.",
    )
    shared_images: Literal["keep", "drop"] = Field(
        "keep",
        description="Train queries about a picture of the test split: keep them, as published, or leave them "
        "out of seed and train. Both are counted.",
    )


@dataclass
class Reading:
    """The questions of published rows, and how many rows were left out for what reason."""

    questions: list[Question] = field(default_factory=list)
    unanswered: int = 0  # published without an answer
    other: int = 0  # no part of the task, or of the questions that the config asks for


class Placed(Protocol):
    """A row that says in errors where it is."""

    @property
    def where(self) -> str:
        """File and row."""


PublishedRow = TypeVar("PublishedRow", bound=Placed)


def gathered(
    rows: Iterable[PublishedRow],
    asked: Callable[[PublishedRow], Item | None],
    what: str,
    may_lack_answers: bool,
    keep: bool = True,
) -> Reading:
    """The questions of all rows, in their order, each checked.

    Args:
        rows: The rows.
        asked: The item of a row; ``None`` for one that is left out.
        what: Says in errors what the rows are.
        may_lack_answers: Whether rows without an answer are left out and counted, not refused.
        keep: Whether the encoded images are kept.

    Raises:
        VistaError: lists the rows with an impossible or missing value, or an image that cannot be decoded.
    """
    from tqdm import tqdm

    reading, problems, keys, identify = Reading(), list[str](), set[str](), image_identifier()
    for row in tqdm(rows, desc=what, unit="row", mininterval=5, delay=5):
        try:
            item = asked(row)
            if item is None:
                reading.other += 1
            elif not item.answer.strip() and may_lack_answers:
                reading.unanswered += 1
            else:
                question = checked(item, keys, identify)
                reading.questions.append(question if keep else question.without_images())
        except VistaError as error:
            problems.append(f"{row.where}: {error}")
            if len(problems) == MOST_PROBLEMS:
                problems.append("and perhaps more; reading stopped here")
                break
    fail_if(problems, f"{what[0].upper()}{what[1:]} has errors:")
    return reading


def counted(reading: Reading, overlap: Mapping[str, float], chosen: Sequence[Question]) -> dict[str, float]:
    """What the manifest of a split counts."""
    counts: dict[str, float] = {
        "published": len(reading.questions),
        "unanswered": reading.unanswered,
        "other": reading.other,
        "repeated": repeats(reading.questions),
        **overlap,
    }
    words = sum(map(in_words, chosen))
    counts |= {"in_words": words} if words else {}
    return counts | {"queries": len(chosen), "images": len({question.image_id for question in chosen})}


Settings = TypeVar("Settings", bound=DrawnSettings)


class Drawn(TaskKind[Settings]):
    """Draws splits from published questions."""

    checks_queries = True

    def trainable(self, questions: Sequence[Question], tested: Tested) -> list[Question]:
        """The questions of the published train split that seed and train are drawn from."""
        removes, drops = self.settings.duplicates == "remove", self.settings.shared_images == "drop"
        return [
            question
            for question in questions
            if not (removes and tested.asks(question)) and not (drops and tested.shows(question))
        ]

    def choose(
        self, name: str, split: Split, pool: Sequence[Question], published: str, skipped: int
    ) -> list[Question]:
        """The questions of one of our splits, from those of its published split.

        All are put in one random order, which the task's ``seed`` decides and in which the place of a
        question depends on no other one. Where seed and train share a published split, the first
        ``sizes.seed`` are the seed split, those after them the train split.

        Args:
            name: The task's name in the suite.
            split: Ours.
            pool: The questions to choose from.
            published: The published split that they are of.
            skipped: How many another split takes first.

        Raises:
            VistaError: there are fewer than the sizes ask for.
        """
        sizes = self.settings.sizes
        order = sorted(range(len(pool)), key=lambda index: self.rank(published, pool[index].item.key))
        size = getattr(sizes, split)
        if size is None:
            size = len(pool) - skipped
        if size <= 0 or skipped + size > len(pool):
            asked = f"{sizes.seed} (seed) + {sizes.train} (train)" if skipped else size
            drops = self.settings.shared_images == "drop" and split != "test"
            raise VistaError(
                f"task {name!r}: sizes.{split} asks for {asked}, but there are {len(pool)} queries to take "
                f"them from; lower the sizes{', or set shared_images: keep' if drops else ''}"
            )
        return [pool[index] for index in sorted(order[skipped : skipped + size])]

    def rank(self, published: str, key: str) -> bytes:
        """The place of a question in the random order."""
        text = f"{self.settings.seed}/{self.settings.kind}/{published}/{key}"
        return hashlib.sha256(text.encode()).digest()
