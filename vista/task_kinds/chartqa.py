"""ChartQA (Masry et al. 2022, arXiv 2203.10244), human and augmented questions.

On the hub ``HuggingFaceM4/ChartQA``: ``data/train-*.parquet`` and ``data/test-*.parquet`` with
``image`` (struct of bytes and path), ``query`` (string) and ``label`` (list of one string).
``lmms-lab/ChartQA``, which lmms-eval reads, has only the test split, with ``question`` and
``answer`` (strings) instead; either is read.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vista.errors import VistaError
from vista.task_kinds.benchmarks import (
    BenchmarkSettings,
    Item,
    ParquetBenchmark,
    Published,
    PublishedSizes,
    image_bytes,
)


class ChartQaSettings(BenchmarkSettings):
    """ChartQA, human and augmented questions."""

    published = PublishedSizes(train=28299, test=2500)
    lmms_scorer = "vista.evaluation.tasks.scorers.process_chartqa"
    licence = "gpl-3.0"
    kind: Literal["chartqa"] = Field(description="ChartQA.")


class ChartQa(ParquetBenchmark[ChartQaSettings]):
    """Numbers within 5 %, other answers as text."""

    schemas = (
        {"image": "image", "query": "string", "label": "strings"},
        {"image": "image", "question": "string", "answer": "string"},
    )

    def item(self, published: Published) -> Item:
        """A question; known by its row."""
        row = published.row
        if "label" in row and len(row["label"] or []) != 1:
            raise VistaError(f"column 'label' is {row['label']!r}, expected a list of one answer")
        answer = row["label"][0] if "label" in row else row["answer"]
        return Item(
            key=f"{published.index:05d}",
            question=(row["query"] if "query" in row else row["question"]) or "",
            answer=answer or "",
            answer_type="relaxed",
            images=[image_bytes(row["image"], "image")],
        )
