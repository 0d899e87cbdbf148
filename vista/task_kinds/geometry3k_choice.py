"""Geometry3K (Lu et al. 2021, arXiv 2105.04165) as a four-way choice.

On the hub ``Yang130/geometry3k_4choices_mixed``, which lmms-eval reads as well: as ``hiyouga/geometry3k``
with ``choices`` (list of strings) and ``ground_truth`` (a letter) instead of ``answer``. The authors' own
folders are read, too (``geometry3k.py``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vista.task_kinds.benchmarks import BenchmarkSettings, Item, Published, image_bytes
from vista.task_kinds.geometry3k import PUBLISHED, Geometry3kFiles, choice_text, without_placeholder


class Geometry3kChoiceSettings(BenchmarkSettings):
    """Geometry3K, four-way choice."""

    published = PUBLISHED
    lmms_scorer = "vista.evaluation.tasks.scorers.process_geometry3k_choice"
    kind: Literal["geometry3k-choice"] = Field(description="Geometry3K, four-way choice.")


class Geometry3kChoice(Geometry3kFiles[Geometry3kChoiceSettings]):
    """The answer is one of four letters."""

    schemas = ({"images": "images", "problem": "string", "choices": "strings", "ground_truth": "string"},)

    def item(self, published: Published) -> Item:
        """A problem with its choices; known by its row."""
        row = published.row
        letter, choices = (row["ground_truth"] or "").strip().upper(), row["choices"] or []
        if letter:
            choice_text(letter, choices, "ground_truth")
        return Item(
            key=f"{published.index:05d}",
            question=without_placeholder(row["problem"]),
            answer=letter,
            answer_type="choice",
            images=[image_bytes(image, "images") for image in row["images"] or []],
            choices=choices,
        )
