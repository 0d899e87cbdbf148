"""VQA-RAD (Lau et al. 2018), on the hub ``flaviagiammarino/vqa-rad``.

Reads ``data/train-*.parquet`` and ``data/test-*.parquet`` with the columns ``image`` (struct of
bytes and path), ``question`` and ``answer`` (string). The files do not say which questions are
closed: those are it that are answered by yes or no.
"""

from __future__ import annotations

from vista.tasks.benchmarks.items import Item, Published
from vista.tasks.benchmarks.parquet import ParquetBenchmark
from vista.tasks.benchmarks.tables import image_bytes


class VqaRad(ParquetBenchmark):
    """Yes/no answers are closed, all others are terms."""

    name = "vqa-rad"
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
