"""ScienceQA (Lu et al. 2022, arXiv 2209.09513), the questions with an image.

On the hub ``derek-thomas/ScienceQA``: ``data/train-*.parquet`` and ``data/test-*.parquet`` with
``image`` (struct of bytes and path; null for questions without one), ``question`` and ``hint``
(strings; the hint may be empty), ``choices`` (list of strings) and ``answer`` (index of the right
one, from 0 on). ``lmms-lab/ScienceQA``, which lmms-eval reads, has the same columns in the folder
``ScienceQA-IMG/``, but no train split.
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
    PublishedSplit,
    image_bytes,
    lettered,
)


class ScienceQaSettings(BenchmarkSettings):
    """ScienceQA, the questions with an image."""

    published = PublishedSizes(train=6218, test=2017)
    lmms_scorer = "vista.evaluation.tasks.scorers.process_scienceqa"
    licence = "cc-by-nc-sa-4.0"
    kind: Literal["scienceqa"] = Field(description="ScienceQA, the questions with an image.")


class ScienceQa(ParquetBenchmark[ScienceQaSettings]):
    """The answer is a letter; a hint comes before the question, as context."""

    schemas = (
        {
            "image": "image",
            "question": "string",
            "choices": "strings",
            "answer": "integer",
            "hint": "string",
        },
    )

    def patterns(self, split: PublishedSplit) -> list[list[str]]:
        """Also the folder of the image subset."""
        (usual,) = super().patterns(split)
        return [[*usual, f"ScienceQA-IMG/{split}-*.parquet"]]

    def item(self, published: Published) -> Item | None:
        """A question with an image; known by its row, counting those without one."""
        row = published.row
        if row["image"] is None:
            return None
        if row["answer"] is None:
            raise VistaError("column 'answer' is null, expected the index of a choice")
        question, hint = (row["question"] or "").strip(), (row["hint"] or "").strip()
        choices = row["choices"] or []
        return Item(
            key=f"{published.index:05d}",
            question=f"Context: {hint}\n{question}" if hint and question else question,
            answer=lettered(row["answer"], choices, "answer"),
            answer_type="choice",
            images=[image_bytes(row["image"], "image")],
            choices=choices,
        )
