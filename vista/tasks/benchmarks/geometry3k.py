r"""Geometry3K (Lu et al. 2021, arXiv 2105.04165), free-form and as a four-way choice.

Free-form, on the hub ``hiyouga/geometry3k``: ``data/train-*.parquet`` and ``data/test-*.parquet``
with ``images`` (list of structs of bytes and path), ``problem`` (string, with an ``<image>`` where
the picture stands) and ``answer`` (string, LaTeX such as ``5 \sqrt { 2 }``).

Four-way choice, on the hub ``Yang130/geometry3k_4choices_mixed``, which lmms-eval reads as well:
the same with ``choices`` (list of strings) and ``ground_truth`` (a letter) instead of ``answer``.
"""

from __future__ import annotations

from vista.errors import VistaError
from vista.tasks.benchmarks.items import Item, Published
from vista.tasks.benchmarks.parquet import ParquetBenchmark
from vista.tasks.benchmarks.tables import image_bytes


class Geometry3k(ParquetBenchmark):
    """The answer is a number or formula."""

    name = "geometry3k"
    schemas = ({"images": "images", "problem": "string", "answer": "string"},)

    def item(self, published: Published) -> Item:
        """A problem; known by its row."""
        row = published.row
        return Item(
            key=f"{published.index:05d}",
            question=_without_placeholder(row["problem"]),
            answer=row["answer"] or "",
            answer_type="math",
            images=[image_bytes(image, "images") for image in row["images"] or []],
        )


class Geometry3kChoice(ParquetBenchmark):
    """The answer is one of four letters."""

    name = "geometry3k-choice"
    schemas = ({"images": "images", "problem": "string", "choices": "strings", "ground_truth": "string"},)

    def item(self, published: Published) -> Item:
        """A problem with its choices; known by its row."""
        row = published.row
        letter, choices = (row["ground_truth"] or "").strip().upper(), row["choices"] or []
        if letter and letter not in [chr(ord("A") + number) for number in range(len(choices))]:
            raise VistaError(
                f"column 'ground_truth' is {row['ground_truth']!r}, expected the letter of one of the "
                f"{len(choices)} choices"
            )
        return Item(
            key=f"{published.index:05d}",
            question=_without_placeholder(row["problem"]),
            answer=letter,
            answer_type="choice",
            images=[image_bytes(image, "images") for image in row["images"] or []],
            choices=choices,
        )


def _without_placeholder(problem: str | None) -> str:
    """Images stand where the chat template puts them, not where the text has a mark for them."""
    return (problem or "").replace("<image>", "").strip()
