"""VQA-RAD (Lau et al. 2018), on the hub ``flaviagiammarino/vqa-rad``.

Reads ``data/train-*.parquet`` and ``data/test-*.parquet`` with the columns ``image`` (struct of
bytes and path), ``question`` and ``answer`` (string). The files do not say which questions are
closed: those that are answered by yes or no are. All but one of the 203 pictures of the test split are in the
train split, too.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vista.task_kinds.benchmarks import (
    BenchmarkSettings,
    Item,
    ParquetBenchmark,
    Published,
    PublishedSizes,
    image_bytes,
)


class VqaRadSettings(BenchmarkSettings):
    """VQA-RAD."""

    published = PublishedSizes(train=1793, test=451, shared=1059)
    published_yes_no = PublishedSizes(train=940, test=251, shared=380)
    licence = "cc0-1.0"
    kind: Literal["vqa-rad"] = Field(description="VQA-RAD.")


class VqaRad(ParquetBenchmark[VqaRadSettings]):
    """Yes/no answers are closed, all others are terms."""

    schemas = ({"image": "image", "question": "string", "answer": "string"},)

    def item(self, published: Published) -> Item:
        """A question; known by its row."""
        row = published.row
        answer = row["answer"] or ""
        yes_no = answer.strip().casefold() in ("yes", "no")
        return Item(
            key=f"{published.index:05d}",
            question=row["question"] or "",
            answer=answer,
            answer_type="closed" if yes_no else "term",
            images=[image_bytes(row["image"], "image")],
        )
