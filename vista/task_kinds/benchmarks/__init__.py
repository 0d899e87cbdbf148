"""Published benchmarks: their settings, and how published files become the queries of a split.

Part of stage ``tasks``. A benchmark's own module (``vista.task_kinds``, or in your package) knows only
its files and columns: finding files, splits, duplicates, images and prompts are the same for all.

The test split is the published test split. Seed and train share the published train split: the
seed split is drawn from it, the train split is the rest, so no question is in both. A published
validation split is not used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from vista.errors import VistaError
from vista.records import Split
from vista.task_kinds import Prepared, SplitSizes
from vista.task_kinds.benchmarks.drawing import Drawn, DrawnSettings, Reading, counted, gathered
from vista.task_kinds.benchmarks.files import HubFiles, LocalFiles, matches, root_of
from vista.task_kinds.benchmarks.questions import Item, Tested, query
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


class BenchmarkSettings(DrawnSettings):
    """A published benchmark."""

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


Settings = TypeVar("Settings", bound=BenchmarkSettings)


class Benchmark(Drawn[Settings]):
    """From published files to queries."""

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
        if split == "test":
            pool, overlap = reading.questions, dict[str, float]()
            chosen = self.choose(name, split, pool, "test", skipped=0)
        else:
            tested = Tested.of(self.read(root, "test", keep_images=False).questions)
            pool = self.trainable(reading.questions, tested)
            skipped = self.settings.sizes.seed if split == "train" else 0
            chosen = self.choose(name, split, pool, "train", skipped)
            overlap = tested.overlap(reading.questions, pool, chosen)
        counts = counted(reading, overlap, chosen)
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
        what = f"the {split} split of {self.settings.kind}"
        reading = gathered(
            self.rows(root, split), self._asked, what, may_lack_answers=split == "train", keep=keep_images
        )
        if not reading.questions:
            total = reading.unanswered + reading.other
            reason = (
                f"none of its {total} rows is a question of this task" if total else "its files have no rows"
            )
            raise VistaError(f"{root}: {what} is empty: {reason}; copy the files as published there")
        return reading

    def _asked(self, published: Published) -> Item | None:
        """The item of a row, if the config asks for such questions."""
        item = self.item(published)
        wrong_kind = self.settings.questions == "yes-no" and item is not None and item.answer_type != "closed"
        return None if wrong_kind else item


class ParquetBenchmark(Benchmark[Settings]):
    """Files named after their split, as the hub's own converter names them, or one plain file."""

    schemas: ClassVar[Sequence[Columns]]  # columns by name and kind; the files have one of these

    def patterns(self, split: PublishedSplit) -> list[list[str]]:
        """Shards in ``data/``, shards beside the card, or one file."""
        return [[f"data/{split}-*.parquet", f"{split}-*.parquet", f"{split}.parquet"]]

    def rows(self, root: Path, split: PublishedSplit) -> Iterator[Published]:
        """All rows of the split's files, in the order of the files' names."""
        return parquet_rows(matches(root, self.patterns(split)[0]), self.schemas)
