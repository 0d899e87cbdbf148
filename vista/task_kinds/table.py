"""Data of the user's own, by config: files of questions with pictures (docs/adding.md).

Every row is read and checked, and its pictures are decoded once, before any is written. They are not kept:
those of the rows that are written are read again.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from vista.answers import extract, verify
from vista.errors import VistaError, fail_if
from vista.records import AnswerType, Row, Split
from vista.settings import UserPath
from vista.task_kinds import Prepared, SplitSizes
from vista.task_kinds.benchmarks.drawing import (
    MOST_PROBLEMS,
    Drawn,
    DrawnSettings,
    Reading,
    counted,
    gathered,
)
from vista.task_kinds.benchmarks.questions import Item, Question, Tested, lettered_lines, query
from vista.task_kinds.benchmarks.tables import Published
from vista.task_kinds.own.cells import Answers, Cells, Columns, Layout, layout
from vista.task_kinds.own.files import (
    ALL,
    BROKEN,
    HubTable,
    Part,
    Source,
    count,
    parts_of,
    parts_on_disk,
    published_rows,
    tracked,
)
from vista.task_kinds.own.splits import SPLITS, SplitRule, shared_out, unknown_value

UNUSED = "unused"


class TableSizes(SplitSizes):
    """Number of queries in each split; ``null`` takes all rows that are in it."""

    seed: int | None = Field(None, ge=0, description="Annotated queries; taken from train if none are.")
    train: int | None = Field(None, ge=0, description="Queries to sample on.")
    test: int | None = Field(None, ge=0, description="Queries to evaluate on.")


class TableSettings(DrawnSettings):
    """Data of the user's own."""

    kind: Literal["table"] = Field(description="Your own data: parquet, JSONL, JSON, CSV, or from the hub.")
    source: Source = Field(description="A file, a list of files, files by part, or a data set of the hub.")
    images: UserPath | None = Field(
        None, description="The folder that paths of images are relative to; default: that of their file."
    )
    columns: Columns = Field(default_factory=lambda: Columns(), description="Names of columns.")
    answer_type: AnswerType | None = Field(
        None, description="How answers are judged, unless columns.answer_type says it row by row."
    )
    answers: Answers = Field("auto", description="What the answer of a choice is; auto: what fits it alone.")
    split: SplitRule = Field(
        default_factory=lambda: SplitRule(),
        description="Which rows are in which split; default: as parts are named, or all in test.",
    )
    instruction: str | None = Field(
        None,
        description="What is asked: a template of {question} and {choices}; default: our own.",
    )
    system: str | None = Field(
        None, description="The system turn; empty: none; default: the conversation's, or our own."
    )
    sizes: TableSizes = Field(default_factory=lambda: TableSizes(), description="Queries per split.")

    @field_validator("instruction")
    @classmethod
    def _has_its_placeholders(cls, template: str | None) -> str | None:
        """Refuse a template that is none, lacks the question or has an unknown placeholder."""
        try:
            found = [name for _, name, _, _ in string.Formatter().parse(template or "") if name is not None]
        except ValueError as error:
            raise ValueError(f"not a template ({error}); write a literal brace twice") from error
        if template is not None and (set(found) - {"question", "choices"} or "question" not in found):
            raise ValueError("expected a template with {question}, and {choices} where there are some")
        return template

    @model_validator(mode="after")
    def _has_the_splits_that_rows_can_be_in(self) -> Self:
        """Give no size to a split that no row can be in, so that it is not made."""
        rule, labels = self.split, self.labels
        shares = {split for split in SPLITS if rule.share(split)}
        there = shares | set(labels.values()) | (set() if labels else {"train" if shares else "test"})
        empty = dict.fromkeys(set(SPLITS) - there - self.sizes.model_fields_set, 0)
        object.__setattr__(self, "sizes", self.sizes.model_copy(update=empty))  # it is not yet in use
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse what contradicts itself, before any file is read."""
        if (self.answer_type is None) == (self.columns.answer_type is None):
            raise ValueError(
                f"answer_type: say how answers are judged ({', '.join(get_args(AnswerType))}), or name the "
                "column that says it under columns.answer_type; not both"
            )
        if self.columns.choices is not None and self.answer_type not in (None, "choice"):
            raise ValueError(
                f"columns.choices: answers of type {self.answer_type} are no choices; set answer_type: "
                "choice, or remove it"
            )
        if self.answer_type == "choice" and "{choices}" not in (self.instruction or "{choices}"):
            raise ValueError("instruction: answers are choices, but the template has no {choices}; add it")
        if isinstance(self.source, HubTable):
            if self.images is not None:
                raise ValueError("images: a data set of the hub has pictures in its files; remove it")
            return self
        parts = list(self.source.files)
        if self.by_parts:
            if self.columns.split is not None:
                raise ValueError("columns.split: the split goes by the source's parts already; remove it")
            for value in self.labels.keys() - set(parts):
                raise ValueError(f"split: {value!r} is no part of the source; it has {', '.join(parts)}")
            for part in parts:
                if part not in self.labels:
                    raise ValueError(str(unknown_value(part, list(self.labels) or [*SPLITS], "split: part")))
        return self

    @property
    def brings_rationales(self) -> bool:
        """Whether its seed queries come with gold rationales."""
        return bool(self.columns.rationale or self.columns.messages)

    @property
    def on_hub(self) -> bool:
        """Whether its files may have to be fetched from the Hugging Face hub."""
        return isinstance(self.source, HubTable)

    @property
    def by_parts(self) -> bool:
        """Whether a row's split follows from the part of the source that it is in."""
        return isinstance(self.source, HubTable) or list(self.source.files) != [ALL]

    @property
    def labels(self) -> dict[str, str]:
        """By part or value of the split column, the split; nothing where all rows are alike."""
        if isinstance(self.source, HubTable):
            return self.split.of_values(("train", "test"))
        if self.by_parts:
            return self.split.of_values(list(self.source.files))
        stated = self.split.by_value or self.columns.split is not None
        return self.split.of_values(None) if stated else {}

    @property
    def seed_is_apart(self) -> bool:
        """Whether the seed split has rows of its own; otherwise it takes them from train."""
        return self.split.seed is not None or "seed" in self.labels.values()

    def parts(self, split: Split | None) -> list[str] | None:
        """The parts that a split is made from, or all that are in some split; ``None``: all there are."""
        if not self.by_parts:
            return None
        alone = split == "test" and not self.split.share("test")
        names = [part for part, of in self.labels.items() if of == "test" or not alone]
        return [name for name in names if self.labels[name] != UNUSED or split is None]

    def queries(self, split: Split) -> int:
        """Queries in a split, from the number of rows; an upper bound where a column decides.

        Raises:
            VistaError: the data set is on the hub, so nobody knows yet.
        """
        stated: int | None = getattr(self.sizes, split)
        if stated is not None:
            return stated
        if isinstance(self.source, HubTable):
            raise VistaError(
                f"data set {self.source.repo}: its rows are not known before it is read; set sizes.{split}"
            )

        def rows(of: str) -> int:
            names = [name for name, each in self.labels.items() if each == of] if self.by_parts else None
            found = parts_on_disk(self.source, self.source.files if names is None else names)  # type: ignore
            return sum(count(file) for part in found for file in part.files)

        share = self.split.share(split)
        if split != "train":
            return round(share * rows("train")) if share else rows(split)
        left = 1 - self.split.share("seed") - self.split.share("test")
        return max(round(left * rows("train")) - (0 if self.seed_is_apart else self.sizes.seed or 0), 1)


@dataclass(frozen=True)
class Seen:
    """A row as published, with what tells where it belongs."""

    published: Published
    key: str
    label: str
    layout: Layout
    path: Path

    @property
    def where(self) -> str:
        """File and row, for errors."""
        return self.published.where


@dataclass(frozen=True)
class Drawing:
    """The questions of one split, without their images, and what is counted of them."""

    questions: list[Question]
    counts: dict[str, float]


class Table(Drawn[TableSettings]):
    """From the user's files to queries."""

    def __init__(self, settings: TableSettings) -> None:
        super().__init__(settings)
        self.cells = Cells(settings.columns, settings.answer_type, settings.answers, settings.images)

    def prepare(self, name: str, split: Split) -> Prepared:
        """The queries of one split, in the order of their rows.

        Raises:
            VistaError: files, columns or rows are missing or wrong, or fewer than the sizes ask for.
        """
        parts = parts_of(name, self.settings.source, self.settings.parts(split))
        drawing = self.drawn(name, split, self.read(name, parts))
        files = [file for part in parts for file in tracked(part.files)]
        rows = self.queries(name, split, parts, drawing.questions)
        return Prepared(rows, drawing.counts, files, pictures=self.cells.pictures)

    def local_files(self, split: Split) -> list[Path]:
        """The user's files, but no loose images, which are compared apart (``vista.damage``)."""
        source = self.settings.source
        if isinstance(source, HubTable):
            return []
        wanted = self.settings.parts(split)
        parts = parts_on_disk(source, source.files if wanted is None else wanted)
        return tracked(file for part in parts for file in part.files)

    def read(self, name: str, parts: Sequence[Part]) -> dict[str, Reading]:
        """By split, and ``unused``, the questions in these parts, without images; every row is checked.

        Raises:
            VistaError: lists the rows with something wrong.
        """
        rule, labels = self.settings.split, self.settings.labels
        found = {split: Reading() for split in (*SPLITS, UNUSED)}

        def asked(seen: Seen) -> Item | None:
            if BROKEN in seen.published.row:
                raise VistaError(seen.published.row[BROKEN])
            split = self._split_of(seen)
            if split == UNUSED:
                found[UNUSED].other += 1
                return None
            item = replace(self._item(seen), split=split)
            if not item.answer.strip() and labels and split in ("seed", "train"):
                found[split].unanswered += 1
                return None
            return item

        whole = gathered(self._rows(parts), asked, f"the data of task {name!r}", False, keep=False)
        for question in whole.questions:
            found[question.item.split].questions.append(question)
        shares = {split: share for split in ("test", "seed") if (share := rule.share(split))}
        if shares:
            drawn = shared_out(found["train"].questions, shares, lambda key: self.rank("shares", key))
            for split, questions in drawn.items():
                found[split].questions = questions
        return found

    def _rows(self, parts: Sequence[Part]) -> Iterator[Seen]:
        """All rows, with their keys and labels."""
        settings, layouts = self.settings, dict[Path, Layout]()
        splits = bool(settings.labels) and not settings.by_parts
        chooses = settings.answer_type in (None, "choice")

        def needed(path: Path, columns: Sequence[str]) -> set[str]:
            if not settings.labels and not settings.split.is_stated and "split" in columns:
                raise VistaError(
                    f"{path}: has a column 'split', but the config does not say what its values mean; "
                    "write split: {train: [train], test: [test]} with them, or rename the column"
                )
            layouts[path] = layout(path, columns, settings.columns, splits, chooses)
            return layouts[path].columns

        for part, path, published in published_rows(parts, needed):
            found = layouts[path]
            stated = found.by_field.get("id")
            own = str(published.row.get(stated)) if stated else f"{published.index:05d}"
            if stated and published.row.get(stated) in (None, ""):
                published.row.setdefault(BROKEN, f"column {stated!r} is empty; give every row an id")
            label = part if settings.by_parts else str(published.row.get(found.by_field.get("split", ""), ""))
            key = f"{part}-{own}" if settings.by_parts else own
            yield Seen(published, key, label, found, path)

    def _split_of(self, seen: Seen) -> str:
        labels = self.settings.labels
        if not labels:
            return "train" if self.settings.split.is_stated else "test"
        if seen.label not in labels:
            column = seen.layout.by_field.get("split")
            raise unknown_value(seen.label, list(labels), f"column {column!r}: value")
        return labels[seen.label]

    def _item(self, seen: Seen) -> Item:
        """The question of a row, with its images.

        Raises:
            VistaError: a cell is impossible, or the template does not show choices that there are.
        """
        settings = self.settings
        item = self.cells.item(seen.published.row, seen.key, seen.layout, seen.path)
        if item.choices and "{choices}" not in (settings.instruction or "{choices}"):
            raise VistaError("there are choices, but the template of instruction has no {choices}; add it")
        return item if settings.system is None else replace(item, system=settings.system)

    def drawn(self, name: str, split: Split, readings: dict[str, Reading]) -> Drawing:
        """The questions of one split, and what the manifest counts.

        Raises:
            VistaError: there are none, or fewer than the sizes ask for, or gold rationales are missing.
        """
        apart = self.settings.seed_is_apart
        origin = split if split != "seed" or apart else "train"
        reading = readings[origin]
        if not reading.questions:
            sizes = {each: len(found.questions) for each, found in readings.items() if found.questions}
            there = ", ".join(f"{number} in {each}" for each, number in sizes.items()) or "none in any"
            raise VistaError(
                f"task {name!r}: no row is in the {split} split ({there}); correct split, or set "
                f"sizes.{split} to 0"
            )
        overlap: dict[str, float] = {}
        pool: Sequence[Question] = reading.questions
        if split == "test":
            chosen = self.choose(name, split, pool, origin, 0)
        else:
            tested = Tested.of(readings["test"].questions)
            pool = self.trainable(reading.questions, tested)
            skipped = (self.settings.sizes.seed or 0) if split == "train" and not apart else 0
            chosen = self.choose(name, split, pool, origin, skipped)
            overlap = tested.overlap(reading.questions, pool, chosen)
        counts = counted(replace(reading, other=readings[UNUSED].other), overlap, chosen)
        if split == "seed" and self.settings.brings_rationales:
            counts["right_rationales"] = _right_rationales(name, chosen)
        return Drawing(chosen, counts)

    def queries(
        self, name: str, split: Split, parts: Sequence[Part], questions: Sequence[Question]
    ) -> Iterator[Row]:
        """The rows of these questions, with their images, which are read again."""
        wanted = {question.item.key: question for question in questions}
        for seen in self._rows(parts):
            question = wanted.get(seen.key)
            if question is not None:
                item = replace(self._item(seen), split=question.item.split)
                if replace(item, images=[]) == question.item:  # else a row that is left out has the same id
                    del wanted[seen.key]
                    yield self.query(name, split, replace(question, item=item))
        if wanted:
            raise VistaError(
                f"task {name!r}: row {next(iter(wanted))!r} changed while it was read; run it again"
            )

    def query(self, name: str, split: Split, question: Question) -> Row:
        """The row of a question, in the words that the config asks for."""
        item, template = question.item, self.settings.instruction
        row = query(name, split, question) | {"query_id": f"{name}-{item.key}"}
        if template is not None:
            choices = "\n".join(lettered_lines(item.choices or []))
            row["instruction"] = template.format(question=item.question, choices=choices).strip()
        return row


def _right_rationales(name: str, questions: Sequence[Question]) -> int:
    """How many gold rationales end with the right answer.

    Raises:
        VistaError: a question has none.
    """
    right, problems = 0, list[str]()
    for question in questions:
        item = question.item
        if item.rationale is None:
            problems.append(f"row {item.key}: no rationale; write one, or put the row into another split")
        else:
            given = extract(item.rationale)
            right += given is not None and verify(given, item.answer, item.answer_type, item.choices)
    fail_if(problems[:MOST_PROBLEMS], f"The seed split of task {name!r} lacks rationales:")
    return right
