"""What an adapter makes of a published row, and what it has to say of its benchmark.

Part of stage ``tasks``. An adapter knows the published files and columns of one benchmark and
nothing else: where the files are, splits, duplicates, images and prompts are the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from vista.answers import AnswerType
from vista.records import Row

PublishedSplit = Literal["train", "test"]


@dataclass(frozen=True)
class Item:
    """One question as published, in the terms that all benchmarks share."""

    key: str  # unique within its split, and the same in every reading of the same files
    question: str
    answer: str
    answer_type: AnswerType
    images: list[bytes]  # encoded, as published
    choices: list[str] | None = None


@dataclass(frozen=True)
class Published:
    """A published row, and the words for it in an error: file and row."""

    where: str
    index: int  # counted over the files of its split
    row: Row


class Benchmark(ABC):
    """An adapter: from published files to items."""

    name: ClassVar[str]  # as in the config

    @abstractmethod
    def patterns(self, split: PublishedSplit) -> list[list[str]]:
        """Files that a split needs, as globs: of every inner list, one that matches will do."""

    @abstractmethod
    def rows(self, root: Path, split: PublishedSplit) -> Iterator[Published]:
        """The rows of a split in published order, their columns and types checked."""

    @abstractmethod
    def item(self, published: Published) -> Item | None:
        """The item that a row holds; ``None`` for a row that is no part of the benchmark.

        Raises:
            VistaError: a value is impossible; says which column, what was found and what is right.
        """
