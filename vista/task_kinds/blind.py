"""The questions of another task about images that are not theirs: how often a model guesses right.

    grid-open-blind: {kind: blind, of: grid-open, image: other}

Instructions and answers are those of the other task, so the two accuracies are of the same questions. The
id of a query is its id there, with the name of this task before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from vista import plugins
from vista.errors import VistaError
from vista.records import Row, Split
from vista.settings import Name
from vista.task_kinds import Prepared, SplitSizes, TaskKind, TaskSettings

Original = Annotated[TaskSettings, plugins.Plugin("task", TaskSettings, "vista.tasks")]


class BlindSizes(SplitSizes):
    """How many queries are asked; there is nothing to train on."""

    seed: Literal[0] = Field(0, description="None: such a task is only evaluated on.")
    train: Literal[0] = Field(0, description="None: such a task is only evaluated on.")
    test: int | None = Field(None, ge=1, description="Queries to evaluate on; default: as many as `of` has.")


class BlindSettings(TaskSettings):
    """The questions of another task, about other images."""

    only_evaluated = True
    kind: Literal["blind"] = Field(description="The questions of another task, about images not theirs.")
    of: Name = Field(description="The task whose questions are asked: another entry of `tasks`.")
    image: Literal["other", "mean"] = Field(
        "other",
        description="What is shown in an image's place: another query's image, or the image's own mean "
        "colour in its size.",
    )
    sizes: BlindSizes = Field(default_factory=lambda: BlindSizes(), description="Queries asked.")
    original: Annotated[Original | None, WithJsonSchema({"type": "null"})] = Field(
        None, description="The settings of that task, filled in when the suite is read; leave it out."
    )

    @property
    def asked(self) -> TaskSettings:
        """The settings of the other task, with as many test queries as this one has."""
        if self.original is None:
            raise VistaError(f"kind blind, of {self.of!r}: only a suite that has been read knows that task")
        sizes = self.original.sizes.model_copy(update={"test": self.sizes.test})
        return self.original.model_copy(update={"sizes": sizes})

    # What is so for the other task is so for its questions.

    @property
    def closed_vocabulary(self) -> bool:  # type: ignore[override]
        """Whether texts are made of the words that every built model knows."""
        return self.asked.closed_vocabulary

    @property
    def lmms_scorer(self) -> str | None:  # type: ignore[override]
        """The scorer of the other task."""
        return self.asked.lmms_scorer

    @property
    def licence(self) -> str | None:  # type: ignore[override]
        """The licence of the other task."""
        return self.asked.licence

    @property
    def on_hub(self) -> bool:
        """Whether files of the other task may have to be fetched from the Hugging Face hub."""
        return self.asked.on_hub

    def definition(self) -> str | None:
        """What files outside the config say of the other task."""
        return self.asked.definition()

    def queries(self, split: Split) -> int:
        """Queries of the other task's test split."""
        return self.asked.queries(split) if split == "test" else 0


class Blind(TaskKind[BlindSettings]):
    """Takes the other task's queries from its kind, and shows other images."""

    checks_queries = True  # before it changes them: what is wrong with them is that kind's mistake

    def prepare(self, name: str, split: Split) -> Prepared:
        """The other task's queries, each with the images that it shows here.

        Raises:
            VistaError: what the other task's kind raises; or some query could only be shown an image of its
                own.
        """
        settings, asked = self.settings, self.settings.asked
        theirs: Prepared = plugins.make(asked).prepare(settings.of, split)
        rows = theirs.rows
        if not plugins.implementation(asked).checks_queries:
            from vista.tasks.checks import checked

            rows = checked(rows, asked.kind, settings.of, split, getattr(asked.sizes, split))
        shown = _with_others(rows) if settings.image == "other" else _in_mean_colours(rows)
        unseen = (
            {**row, "query_id": f"{name}-{row['query_id']}", "task": name, "rationale": None, "scene": None}
            for row in shown
        )
        found = {**theirs.found, **plugins.origins(asked)}
        return Prepared(unseen, theirs.counts, theirs.files, found, theirs.pictures)

    def local_files(self, split: Split) -> list[Path]:
        """The user's own files that the other task's queries are made from."""
        kind: TaskKind[Any] = plugins.make(self.settings.asked)
        return kind.local_files(split)


def _in_mean_colours(rows: Iterable[Row]) -> Iterator[Row]:
    from vista.images import open_images
    from vista.withheld import in_mean_colour

    for row in rows:
        flat = map(in_mean_colour, open_images(row))
        yield {**row, "images": [{"bytes": image, "path": None} for image in flat]}


def _with_others(rows: Iterable[Row]) -> Iterator[Row]:
    """Each row with other pictures: of all different ones, in their order, that so many places further on.

    Raises:
        VistaError: however many, some row would be shown a picture of its own.
    """
    from vista.task_kinds.benchmarks.questions import image_identifier

    listed, identify = list(rows), image_identifier()
    pictures: dict[str, bytes] = {}  # by what their pixels are: two files of one picture are one
    shown = [[identify(image["bytes"]) for image in row["images"]] for row in listed]
    for row, own in zip(listed, shown, strict=True):
        for picture, image in zip(own, row["images"], strict=True):
            pictures.setdefault(picture, image["bytes"])
    order = {picture: place for place, picture in enumerate(pictures)}
    places = [[order[picture] for picture in own] for own in shown]
    step = _step(len(pictures), places)
    if step is None:
        raise VistaError(
            f"the {len(listed)} test queries have {len(pictures)} different images, so some query would be "
            "shown one of its own: ask more queries (sizes.test; of a pilot, pilot), or set image: mean"
        )
    encoded = list(pictures.values())
    for row, own_places in zip(listed, places, strict=True):
        others = [encoded[(place + step) % len(encoded)] for place in own_places]
        yield {**row, "images": [{"bytes": image, "path": None} for image in others]}


def _step(pictures: int, places: Iterable[Iterable[int]]) -> int | None:
    """How far on other pictures are taken: half of all, or the next that gives no row one of its own."""
    refused = {(one - other) % pictures for own in map(list, places) for one in own for other in own}
    half = pictures // 2
    return next((step for step in [*range(half, pictures), *range(half)] if step not in refused), None)
