"""Questions on a grid of digit scans: the testbed.

A row is a pure function of (task name, split, index) and of the task's settings: a larger split begins
with the rows of a smaller one, and no row depends on another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from pydantic import Field

from vista.records import Row, Split
from vista.seeding import generator
from vista.settings import Fraction
from vista.task_kinds import Prepared, Sizes, TaskKind, TaskSettings
from vista.testbed import questions, rationales
from vista.testbed.questions import Language, draw_scene
from vista.testbed.rationales import SYSTEM


class GridSettings(TaskSettings):
    """Questions on a grid of digit scans (the testbed)."""

    has_scene = True
    has_rationales = True
    closed_vocabulary = True
    train_follows_seed = False
    licence = "apache-2.0"
    kind: Literal["grid"] = Field(description="A generated testbed task.")
    questions: list[Literal["read", "closed", "open", "chain"]] = Field(
        min_length=1, description="Families of questions, in turn; one named twice comes twice as often."
    )
    digits: Literal["handwritten", "printed"] = Field(
        "handwritten", description="Scans of handwritten digits, or glyphs of bundled fonts."
    )
    rows: int = Field(3, ge=2, le=4, description="Rows of the grid.")
    columns: int = Field(3, ge=2, le=4, description="Columns of the grid.")
    language: Language = Field(
        "formal",
        description="Of questions and rationales: few words and one way to say each thing, or English "
        "sentences.",
    )
    noise: float = Field(0.1, ge=0.0, le=1.0, description="Standard deviation of pixel noise.")
    uniform: Fraction = Field(
        0.0, description="Share of images with one digit and ink in all cells, at the split's start."
    )
    uniform_until: int = Field(
        1, ge=1, description="Number of the query by which that share has fallen to zero."
    )
    sizes: Sizes = Field(description="Queries per split.")


class Grid(TaskKind[GridSettings]):
    """Generated queries, with a progress bar if there are many."""

    checks_queries = True  # answers are computed and images painted from the scene

    def prepare(self, name: str, split: Split) -> Prepared:
        """As many queries as the size of the split says."""
        return Prepared(self._rows(name, split))

    def _rows(self, name: str, split: Split) -> Iterator[Row]:
        from tqdm import tqdm

        size = getattr(self.settings.sizes, split)
        shown = tqdm(range(size), desc=f"{name}/{split}", unit="query", mininterval=5, disable=size < 5000)
        return (grid_query(name, self.settings, split, index) for index in shown)


def grid_query(name: str, task: GridSettings, split: Split, index: int) -> Row:
    """The query number ``index`` of a split of a grid task (``records.QUERY``).

    Families and, within them, templates take turns. The gold rationale is given in the seed
    split, and in every split of printed digits, which are a corpus to pretrain on.
    """
    from vista.testbed.painting import encode_png, paint, pool

    query_id = f"{name}-{split}-{index:05d}"
    rng = generator("tasks", name, split, index)
    # Easy images first: a corpus read in its order is a curriculum.
    uniform = task.uniform * max(0.0, 1.0 - index / task.uniform_until)
    scene = draw_scene(rng, task.rows, task.columns, uniform)
    family = task.questions[index % len(task.questions)]
    templates = questions.templates_of(family, task.rows * task.columns)
    template = templates[index // len(task.questions) % len(templates)]
    question = questions.ask(template, scene, rng)
    if task.language != "formal":  # which is not written into the scene
        question = replace(question, language=task.language)
    pixels = paint(scene, pool(task.digits, split), task.noise, rng)
    gold = split == "seed" or task.digits == "printed"
    return {
        "query_id": query_id,
        "task": name,
        "split": split,
        "images": [{"bytes": encode_png(pixels), "path": None}],
        "system": SYSTEM[task.language],
        "instruction": questions.instruction(question),
        "answer": questions.answer(scene, question),
        "answer_type": template.answer_type,
        "choices": ["yes", "no"] if template.answer_type == "closed" else None,
        "rationale": rationales.text(rationales.rationale(scene, question)) if gold else None,
        "cluster_id": query_id,  # each query has its own image
        "scene": questions.dump(scene, question),
    }
