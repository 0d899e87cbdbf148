"""Kinds of tasks: where queries come from. A part of stage ``tasks``; ``vista tasks`` writes them.

A kind is one module here, or in your own package (docs/adding.md): its settings, a subclass of
``TaskSettings`` with a ``kind``, and the class that makes the queries, a ``TaskKind`` of these settings.
A published benchmark is a ``Benchmark`` (``vista.task_kinds.benchmarks``) and only says how to read a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from vista.damage import Pictures
from vista.records import Row, Split
from vista.settings import Strict


class SplitSizes(Strict):
    """Number of queries in each split; ``None`` takes all of them."""

    seed: int | None = 0
    train: int | None = 0
    test: int | None = 0


class Sizes(SplitSizes):
    """Number of queries in each split."""

    seed: int = Field(0, ge=0, description="Annotated queries, with gold rationales.")
    train: int = Field(0, ge=0, description="Queries to sample on.")
    test: int = Field(0, ge=0, description="Queries to evaluate on.")


class TaskSettings(Strict):
    """What every kind of task says about itself besides its settings."""

    # The column `scene` says what the images show, as `vista.testbed.questions.dump` writes it.
    has_scene: ClassVar[bool] = False
    # Queries of the seed split come with gold rationales.
    has_rationales: ClassVar[bool] = False
    # The train split also depends on the size of the seed split, as where it is what that one leaves.
    train_follows_seed: ClassVar[bool] = True
    # Settings that the test split does not depend on.
    for_training: ClassVar[frozenset[str]] = frozenset()
    # The manifests of seed and train count the queries about a picture of the test split: ``shared_kept`` are
    # in the file, ``shared_dropped`` have been left out.
    counts_shared_images: ClassVar[bool] = False
    # The function that scores responses as lmms-eval's own task does, too, such as
    # "vista.evaluation.tasks.scorers.process_chartqa".
    lmms_scorer: ClassVar[str | None] = None
    # The licence of its questions and images, as the Hugging Face hub abbreviates it; None if not known.
    licence: ClassVar[str | None] = None
    # Its texts are made of the words that every built model knows.
    closed_vocabulary: ClassVar[bool] = False
    # It can only be evaluated on.
    only_evaluated: ClassVar[bool] = False
    # The module whose function ``answered`` asks it and scores the responses, if that is not done as for all.
    evaluator: ClassVar[str | None] = None
    kind: str
    sizes: SplitSizes

    def definition(self) -> str | None:
        """A digest of what files outside the config say of how it is asked and scored, if any do."""
        return None

    @property
    def brings_rationales(self) -> bool:
        """Whether its seed queries come with gold rationales."""
        return self.has_rationales

    @property
    def on_hub(self) -> bool:
        """Whether its files may have to be fetched from the Hugging Face hub."""
        return False

    def queries(self, split: Split) -> int:
        """Queries in a split, for plans made before there are any; an upper bound where some are left out.

        Raises:
            VistaError: nobody knows.
        """
        return int(getattr(self.sizes, split))


@dataclass(frozen=True)
class Prepared:
    """The queries of a split (``records.QUERY``), what the manifest counts, and the files that were read."""

    rows: Iterable[Row]
    counts: dict[str, float] = field(default_factory=dict)
    files: Sequence[Path] = ()
    found: dict[str, Any] = field(default_factory=dict)  # what else the manifest says, among the settings
    pictures: Pictures = field(default_factory=Pictures)  # loose ones, once the rows have been read


Settings = TypeVar("Settings", bound=TaskSettings)


class TaskKind(ABC, Generic[Settings]):
    """Makes the queries of a task from its settings."""

    # It checks answers and images itself; the queries of others are checked before they are written.
    checks_queries: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def prepare(self, name: str, split: Split) -> Prepared:
        """The queries of one split, the same in every call.

        Args:
            name: The task's name in the suite.
            split: ``seed``, ``train`` or ``test``.
        """

    def local_files(self, split: Split) -> list[Path]:
        """The user's own files that a split is made from: if they change, it is made again."""
        return []
