"""A task of lmms-eval, as it ships it or as a task file of yours describes it: only to be evaluated on.

The queries show what is asked: lmms-eval's prompts, pictures and right answers. It is lmms-eval that asks and
scores (``vista.evaluation.own_tasks``), with documents that have to be these.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from vista.errors import VistaError
from vista.lmms.files import TaskFile, find
from vista.records import SCORED_BY_TASK, Row, Split
from vista.settings import UserPath
from vista.task_kinds import Prepared, SplitSizes, TaskKind, TaskSettings

# Documents of tasks that suites of this repository name, for plans made before any download.
PUBLISHED = {
    "mmmu_val": 900,
    "mathverse_testmini_reasoning": 3940,
    "blink_art_style": 117,
    "blink_counting": 120,
    "blink_forensic_detection": 132,
    "blink_functional_correspondence": 130,
    "blink_iq_test": 150,
    "blink_jigsaw": 150,
    "blink_multi_view_reasoning": 133,
    "blink_object_localization": 122,
    "blink_relative_depth": 124,
    "blink_relative_reflectance": 134,
    "blink_semantic_correspondence": 139,
    "blink_spatial_relation": 143,
    "blink_visual_correspondence": 172,
    "blink_visual_similarity": 135,
}


@cache
def _shipped_digest(task: str) -> str:
    return find(task, None).digest()


class LmmsEvalSizes(SplitSizes):
    """How many documents are asked; there is nothing to train on."""

    seed: Literal[0] = Field(0, description="None: such a task is only evaluated on.")
    train: Literal[0] = Field(0, description="None: such a task is only evaluated on.")
    test: int | None = Field(
        None, ge=1, description="Documents to evaluate on, from the first; default: all that the task has."
    )


class LmmsEvalSettings(TaskSettings):
    """A task of lmms-eval."""

    only_evaluated = True
    evaluator = "vista.evaluation.own_tasks"
    kind: Literal["lmms-eval"] = Field(description="A task of lmms-eval, asked and scored by lmms-eval.")
    task: str = Field(pattern=r"^\S+$", description="lmms-eval's name of it, such as `mmmu_val`.")
    include_path: UserPath | None = Field(
        None,
        description="A folder of your own with task files in lmms-eval's format, to find it there; relative "
        "to the working directory. Default: lmms-eval's own tasks.",
    )
    metric: str | None = Field(
        None, min_length=1, description="Which of its metrics is the score; default: the first that it lists."
    )
    sizes: LmmsEvalSizes = Field(default_factory=lambda: LmmsEvalSizes(), description="Documents asked.")

    @property
    def on_hub(self) -> bool:
        """Whether its documents may have to be fetched from the Hugging Face hub."""
        return not self.file().data_files

    def file(self) -> TaskFile:
        """Its files.

        Raises:
            VistaError: there is no such task.
        """
        return find(self.task, self.include_path)

    def definition(self) -> str | None:
        """A digest of its files; ``None`` where there are none, which is the job's error."""
        try:
            return _shipped_digest(self.task) if self.include_path is None else self.file().digest()
        except VistaError:
            return None

    def queries(self, split: Split) -> int:
        """Documents that are asked.

        Raises:
            VistaError: nobody knows.
        """
        if split != "test":
            return 0
        known = PUBLISHED.get(self.task) if self.include_path is None else None
        size = self.sizes.test if self.sizes.test is not None else known
        if size is None:
            raise VistaError(
                f"how many documents lmms-eval's task {self.task!r} has is known only once it is read; for a "
                "plan, set sizes.test of the task"
            )
        return size


class LmmsEval(TaskKind[LmmsEvalSettings]):
    """Reads the documents by way of lmms-eval."""

    checks_queries = True

    def prepare(self, name: str, split: Split) -> Prepared:
        """One query for each document.

        Raises:
            VistaError: there is no such task, it cannot be asked or scored here, or its data set cannot be
                had.
        """
        loaded = self.load(offline=False)
        rows = list(self._queries(name, loaded))
        images = {row["cluster_id"] for row in rows if row["images"]}
        counts: dict[str, float] = {"images": len(images)}
        found = {"data_set": loaded.data_set(), "metric": loaded.metric}
        return Prepared(rows, counts, self.local_files(split), found)

    def load(self, offline: bool) -> Any:
        """The task, as lmms-eval loads it: importing lmms-eval takes seconds."""
        from vista.lmms.loading import load

        settings = self.settings
        return load(settings.file(), settings.metric, settings.sizes.test, offline=offline)

    def local_files(self, split: Split) -> list[Path]:
        """The user's own data files that the task names."""
        try:
            return self.settings.file().data_files
        except VistaError:  # the job's error
            return []

    def _queries(self, name: str, loaded: Any) -> Iterator[Row]:
        for document in loaded.documents():
            query_id = document.query_id(name)
            yield {
                "query_id": query_id,
                "task": name,
                "split": "test",
                "images": [{"bytes": _encoded(picture), "path": None} for picture in document.pictures],
                "system": document.system,
                "instruction": document.text,
                "answer": document.target,
                "answer_type": SCORED_BY_TASK,
                "choices": None,
                "rationale": None,
                "cluster_id": " ".join(document.picture_ids) or query_id,
                "scene": None,
            }


def _encoded(picture: Image.Image) -> bytes:
    """A picture as PNG, which keeps every pixel."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
