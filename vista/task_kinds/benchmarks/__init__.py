"""Published benchmarks: their settings, and how published files become the queries of a split.

Part of stage ``tasks``. A benchmark's own module (``vista.task_kinds``, or in your package) knows only
its files and columns: finding files, splits, duplicates, images and prompts are the same for all.

The test split is the published test split. Seed and train share the published train split: the
seed split is drawn from it, the train split is the rest, so no question is in both. A published
validation split is not used.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from vista.errors import VistaError, fail_if
from vista.records import Split
from vista.task_kinds import Prepared, SplitSizes, TaskKind, TaskSettings
from vista.task_kinds.benchmarks.files import HubFiles, LocalFiles, matches, root_of
from vista.task_kinds.benchmarks.questions import (
    Item,
    Question,
    Tested,
    checked,
    image_identifier,
    in_words,
    query,
    repeats,
)
from vista.task_kinds.benchmarks.tables import Columns, Published, image_bytes, lettered, parquet_rows

__all__ = [
    "Benchmark",
    "BenchmarkSettings",
    "BenchmarkSizes",
    "HubFiles",
    "Item",
    "LocalFiles",
    "ParquetBenchmark",
    "Published",
    "PublishedSizes",
    "PublishedSplit",
    "image_bytes",
    "lettered",
]

PublishedSplit = Literal["train", "test"]
MOST_PROBLEMS = 20  # listed in one error


class BenchmarkSizes(SplitSizes):
    """Number of queries in each split; ``null`` takes all that are published."""

    seed: int = Field(0, ge=0, description="Annotated queries, drawn from the published train split.")
    train: int | None = Field(
        None, ge=0, description="Queries to sample on: all the rest of it, or as many drawn from the rest."
    )
    test: int | None = Field(
        None, ge=0, description="Queries to evaluate on: the published test split, or as many drawn from it."
    )


@dataclass(frozen=True)
class PublishedSizes:
    """How many queries a benchmark has, by published split."""

    train: int | None = None
    test: int | None = None
    shared: int | None = None  # of the train queries, those about a picture of the test split


class BenchmarkSettings(TaskSettings):
    """A published benchmark."""

    counts_shared_images = True
    for_training = frozenset({"duplicates", "shared_images"})
    # Queries that are published, before any are left out; for plans made before any download.
    published: ClassVar[PublishedSizes] = PublishedSizes()
    # Those of them that are answered by yes or no, where that is known; None if the benchmark does not
    # tell them apart.
    published_yes_no: ClassVar[PublishedSizes | None] = None
    kind: str = Field(description="Which benchmark, and in which form.")
    source: Annotated[HubFiles | LocalFiles, Field(discriminator="kind")] = Field(
        description="Where its files are."
    )
    questions: Literal["all", "yes-no"] = Field(
        "all", description="All questions, or only those whose answer is yes or no (SLAKE and VQA-RAD)."
    )
    sizes: BenchmarkSizes = Field(default_factory=lambda: BenchmarkSizes(), description="Queries per split.")
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

    @field_validator("questions")
    @classmethod
    def _can_be_told_apart(cls, value: str, info: ValidationInfo) -> str:
        """Refuse a choice of questions that the benchmark does not know."""
        if value != "all" and cls.published_yes_no is None:
            raise ValueError(f"{info.data.get('kind')} does not tell yes/no questions apart; use 'all'")
        return value

    @property
    def on_hub(self) -> bool:
        """Whether its files may have to be fetched from the Hugging Face hub."""
        return isinstance(self.source, HubFiles)

    def queries(self, split: Split) -> int:
        """Queries in a split; an upper bound where some are left out.

        Raises:
            VistaError: neither the sizes nor the class say how many.
        """
        stated: int | None = getattr(self.sizes, split)
        if stated is not None:
            return stated
        published = "test" if split == "test" else "train"
        sizes, size = self.published, getattr(self.published, published)
        if self.questions == "yes-no" and self.published_yes_no is not None:
            sizes, size = self.published_yes_no, getattr(self.published_yes_no, published) or size
        if size is None:
            raise VistaError(
                f"benchmark {self.kind}: {type(self).__name__} does not say how many queries the {published} "
                f"split has; add them to its `published`, or set sizes.{split}"
            )
        if split == "test":
            return int(size)
        dropped = sizes.shared or 0 if self.shared_images == "drop" else 0
        return int(size) - dropped - (self.sizes.seed if split == "train" else 0)


@dataclass
class Reading:
    """The questions of a published split, and how many rows were left out for what reason."""

    questions: list[Question] = field(default_factory=list)
    unanswered: int = 0  # published without an answer
    other: int = 0  # no part of the benchmark, or of the questions that the config asks for


Settings = TypeVar("Settings", bound=BenchmarkSettings)


class Benchmark(TaskKind[Settings]):
    """From published files to queries."""

    checks_queries = True

    @abstractmethod
    def patterns(self, split: PublishedSplit) -> list[list[str]]:
        """Files that a split needs, as globs: of every inner list, one has to match."""

    @abstractmethod
    def rows(self, root: Path, split: PublishedSplit) -> Iterator[Published]:
        """The rows of a split in published order, their columns and types checked."""

    @abstractmethod
    def item(self, published: Published) -> Item | None:
        """The item that a row holds; ``None`` for a row that is not part of the benchmark.

        Raises:
            VistaError: a value is impossible; says which column, what was found and what is right.
        """

    def prepare(self, name: str, split: Split) -> Prepared:
        """The queries of one split, in published order.

        Raises:
            VistaError: files, columns or rows are missing or wrong, or fewer queries are published
                than the sizes ask for.
        """
        root = root_of(name, self.settings.source, self._needed(split))
        reading = self.read(root, "test" if split == "test" else "train")
        counts: dict[str, float] = {
            "published": len(reading.questions),
            "unanswered": reading.unanswered,
            "other": reading.other,
            "repeated": repeats(reading.questions),
        }
        if split == "test":
            chosen = self.choose(name, split, reading.questions)
        else:
            tested = Tested.of(self.read(root, "test", keep_images=False).questions)
            pool = self.trainable(reading.questions, tested)
            chosen = self.choose(name, split, pool)
            counts |= tested.overlap(reading.questions, pool, chosen)
        words = sum(map(in_words, chosen))
        counts |= {"in_words": words} if words else {}
        counts |= {"queries": len(chosen), "images": len({question.image_id for question in chosen})}
        return Prepared(
            [query(name, split, question) for question in chosen], counts, self._tables(root, split)
        )

    def local_files(self, split: Split) -> list[Path]:
        """The tables of a local copy."""
        source = self.settings.source
        return self._tables(source.path, split) if isinstance(source, LocalFiles) else []

    def _needed(self, split: Split) -> list[list[str]]:
        """``patterns`` of the published splits that one of ours is made from."""
        return [*([] if split == "test" else self.patterns("train")), *self.patterns("test")]

    def _tables(self, root: Path, split: Split) -> list[Path]:
        """The published files that count as inputs, each once.

        Not loose images and one file per problem: there are too many, and the queries hold them.
        """
        files = [path for globs in self._needed(split) for path in matches(root, globs)]
        return list(dict.fromkeys(path for path in files if len(path.relative_to(root).parts) < 3))

    def read(self, root: Path, split: PublishedSplit, keep_images: bool = True) -> Reading:
        """All questions of a published split, in published order; every row is checked.

        Args:
            root: Folder of the published files.
            split: The published split.
            keep_images: Whether the encoded images are needed later.

        Raises:
            VistaError: lists the rows with an impossible value, without a question, an image or (in
                the test split) an answer, or with an image that cannot be decoded; or there are no rows.
        """
        from tqdm import tqdm

        reading, problems, keys = Reading(), list[str](), set[str]()
        identify, kind = image_identifier(), self.settings.kind
        rows = self.rows(root, split)
        for published in tqdm(rows, desc=f"{kind}/{split}", unit="row", mininterval=5, delay=5):
            try:
                item = self.item(published)
                if item is None or (self.settings.questions == "yes-no" and item.answer_type != "closed"):
                    reading.other += 1
                elif not item.answer.strip() and split == "train":
                    reading.unanswered += 1
                else:
                    question = checked(item, keys, identify)
                    reading.questions.append(question if keep_images else question.without_images())
            except VistaError as error:
                problems.append(f"{published.where}: {error}")
                if len(problems) == MOST_PROBLEMS:
                    problems.append("and perhaps more; reading stopped here")
                    break
        fail_if(problems, f"The {split} split of {kind} has errors:")
        if not reading.questions:
            total = reading.unanswered + reading.other
            reason = (
                f"none of its {total} rows is a question of this task" if total else "its files have no rows"
            )
            raise VistaError(
                f"{root}: the {split} split of {kind} is empty: {reason}; copy the files as published there"
            )
        return reading

    def trainable(self, questions: Sequence[Question], tested: Tested) -> list[Question]:
        """The questions of the published train split that seed and train are drawn from."""
        removes, drops = self.settings.duplicates == "remove", self.settings.shared_images == "drop"
        return [
            question
            for question in questions
            if not (removes and tested.asks(question)) and not (drops and tested.shows(question))
        ]

    def choose(self, name: str, split: Split, pool: Sequence[Question]) -> list[Question]:
        """The questions of one of our splits, from those of its published split.

        All are put in one random order, which the task's ``seed`` decides and in which the place of a
        question depends on no other one. The first ``sizes.seed`` are the seed split, those after
        them the train split.

        Raises:
            VistaError: there are fewer than the sizes ask for.
        """
        sizes = self.settings.sizes
        order = sorted(range(len(pool)), key=lambda index: self._rank(split, pool[index]))
        skipped = sizes.seed if split == "train" else 0
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

    def _rank(self, split: Split, question: Question) -> bytes:
        published = "test" if split == "test" else "train"
        text = f"{self.settings.seed}/{self.settings.kind}/{published}/{question.item.key}"
        return hashlib.sha256(text.encode()).digest()


class ParquetBenchmark(Benchmark[Settings]):
    """Files named after their split, as the hub's own converter names them, or one plain file."""

    schemas: ClassVar[Sequence[Columns]]  # columns by name and kind; the files have one of these

    def patterns(self, split: PublishedSplit) -> list[list[str]]:
        """Shards in ``data/``, shards beside the card, or one file."""
        return [[f"data/{split}-*.parquet", f"{split}-*.parquet", f"{split}.parquet"]]

    def rows(self, root: Path, split: PublishedSplit) -> Iterator[Published]:
        """All rows of the split's files, in the order of the files' names."""
        return parquet_rows(matches(root, self.patterns(split)[0]), self.schemas)
