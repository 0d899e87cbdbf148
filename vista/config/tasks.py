"""Tasks of a suite: generated ones of the testbed, and published benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vista.config.benchmarks import BenchmarkKind, Questions
from vista.settings import REPOSITORY, Fraction, Strict


class Sizes(Strict):
    """Number of queries in each split."""

    seed: int = Field(0, ge=0, description="Annotated queries, with gold rationales.")
    train: int = Field(0, ge=0, description="Queries to sample on.")
    test: int = Field(0, ge=0, description="Queries to evaluate on.")


class GridTask(Strict):
    """Questions on a grid of digit scans (the testbed)."""

    kind: Literal["grid"] = Field(description="A generated testbed task.")
    questions: list[Literal["read", "closed", "open", "chain"]] = Field(
        min_length=1, description="Families of questions, in turn; one named twice comes twice as often."
    )
    digits: Literal["handwritten", "printed"] = Field(
        "handwritten", description="Scans of handwritten digits, or glyphs of bundled fonts."
    )
    rows: int = Field(3, ge=2, le=4, description="Rows of the grid.")
    columns: int = Field(3, ge=2, le=4, description="Columns of the grid.")
    noise: float = Field(0.1, ge=0.0, le=1.0, description="Standard deviation of pixel noise.")
    uniform: Fraction = Field(
        0.0, description="Share of images with one digit and ink in all cells, at the split's start."
    )
    uniform_until: int = Field(
        1, ge=1, description="Number of the query by which that share has fallen to zero."
    )
    sizes: Sizes = Field(description="Queries per split.")


class HubFiles(Strict):
    """A data set's published files on the Hugging Face hub, at a pinned revision."""

    kind: Literal["hub"] = Field(description="A data set of the Hugging Face hub.")
    repo: str = Field(pattern=REPOSITORY, description="owner/name on the hub.")
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        description="The commit, 40 hex digits; null: not pinned yet, so it can be planned but not run."
    )


class LocalFiles(Strict):
    """A local copy of a data set's published files."""

    kind: Literal["path"] = Field(description="A folder on disk.")
    path: Path = Field(description="The folder, absolute or relative to the working directory.")


class BenchmarkSizes(Strict):
    """Number of queries in each split; ``null`` takes all that are published."""

    seed: int = Field(0, ge=0, description="Annotated queries, drawn from the published train split.")
    train: int | None = Field(
        None, ge=0, description="Queries to sample on: all the rest of it, or as many drawn from the rest."
    )
    test: int | None = Field(
        None, ge=0, description="Queries to evaluate on: the published test split, or as many drawn from it."
    )


class BenchmarkTask(Strict):
    """A published benchmark."""

    kind: BenchmarkKind = Field(description="Which benchmark, and in which form.")
    source: Annotated[HubFiles | LocalFiles, Field(discriminator="kind")] = Field(
        description="Where its files are."
    )
    questions: Questions = Field(
        "all", description="All questions, or only those whose answer is yes or no (SLAKE and VQA-RAD)."
    )
    sizes: BenchmarkSizes = Field(default_factory=lambda: BenchmarkSizes(), description="Queries per split.")
    seed: int = Field(0, description="Which of the published queries a split smaller than all takes.")
    duplicates: Literal["report", "remove"] = Field(
        "report",
        description="Train queries that also stand in the test split: count them, or leave them out as well.",
    )


Task = Annotated[GridTask | BenchmarkTask, Field(discriminator="kind")]
