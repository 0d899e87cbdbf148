r"""Geometry3K (Lu et al. 2021, arXiv 2105.04165), free-form.

On the hub ``hiyouga/geometry3k``: ``data/train-*.parquet`` and ``data/test-*.parquet`` with
``images`` (list of structs of bytes and path), ``problem`` (string, with an ``<image>`` where
the picture goes) and ``answer`` (string, LaTeX such as ``5 \sqrt { 2 }``).

This form and the four-way choice (``geometry3k_choice.py``) are also read from the authors' own
archives, unpacked: a folder for every problem (``train/0/``, ``test/2401/``) with ``data.json`` and
``img_diagram.png``. Of the JSON object are read ``annotat_text`` (the problem), ``choices`` (list of
four strings) and ``answer`` (a letter).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field

from vista.errors import VistaError
from vista.records import Row
from vista.task_kinds.benchmarks import (
    BenchmarkSettings,
    Item,
    ParquetBenchmark,
    Published,
    PublishedSizes,
    PublishedSplit,
    image_bytes,
)
from vista.task_kinds.benchmarks.files import matches
from vista.task_kinds.benchmarks.tables import check_object, json_value

PUBLISHED = PublishedSizes(train=2101, test=601)
AUTHORS_COLUMNS = {"annotat_text": str, "choices": list, "answer": str}


class Geometry3kSettings(BenchmarkSettings):
    """Geometry3K, free-form."""

    published = PUBLISHED
    licence = "mit"
    kind: Literal["geometry3k"] = Field(description="Geometry3K, free-form.")


Settings = TypeVar("Settings", bound=BenchmarkSettings)


class Geometry3kFiles(ParquetBenchmark[Settings]):
    """Parquet files, or the authors' folders, which hold both forms."""

    def patterns(self, split: PublishedSplit) -> list[list[str]]:
        """Also one folder per problem."""
        (usual,) = super().patterns(split)
        return [[*usual, f"{split}/*/data.json"]]

    def rows(self, root: Path, split: PublishedSplit) -> Iterator[Published]:
        """Rows of either layout, with the columns of both forms from the authors' folders."""
        files = matches(root, self.patterns(split)[0])
        if files[0].name != "data.json":
            yield from super().rows(root, split)
            return
        for folder in (root / split).iterdir():
            if folder.name.isdecimal() and not (folder / "data.json").exists():
                raise VistaError(f"{folder}: no data.json; unpack the archive again")
        for index, path in enumerate(sorted(files, key=_problem_number)):
            yield Published(str(path), index, _authors_row(path))


class Geometry3k(Geometry3kFiles[Geometry3kSettings]):
    """The answer is a number or formula."""

    schemas = ({"images": "images", "problem": "string", "answer": "string"},)

    def item(self, published: Published) -> Item:
        """A problem; known by its row."""
        row = published.row
        return Item(
            key=f"{published.index:05d}",
            question=without_placeholder(row["problem"]),
            answer=row["answer"] or "",
            answer_type="math",
            images=[image_bytes(image, "images") for image in row["images"] or []],
        )


def without_placeholder(problem: str | None) -> str:
    """The problem without its mark for the image: the chat template says where images go."""
    return (problem or "").replace("<image>", "").strip()


def choice_text(letter: str, choices: Sequence[str], column: str) -> str:
    """The text of the choice that a letter names."""
    letters = [chr(ord("A") + number) for number in range(len(choices))]
    if letter not in letters:
        raise VistaError(
            f"column {column!r} is {letter!r}, expected the letter of one of {len(choices)} choices"
        )
    return choices[letters.index(letter)]


def _problem_number(path: Path) -> tuple[int, str]:
    """The folders are named by numbers, which count through train, validation and test."""
    name = path.parent.name
    return (int(name) if name.isdecimal() else 0), name


def _authors_row(path: Path) -> Row:
    """A problem from the authors' folder, in the columns of both parquet forms."""
    row = check_object(str(path), json_value(path), AUTHORS_COLUMNS)
    picture = path.with_name("img_diagram.png")
    if not picture.is_file():
        raise VistaError(f"{picture}: no such image; unpack the archive again")
    letter = row["answer"].strip().upper()
    try:
        answer = choice_text(letter, row["choices"], "answer")
    except VistaError as error:
        raise VistaError(f"{path}: {error}") from error
    return {
        "images": [{"bytes": picture.read_bytes(), "path": None}],
        "problem": row["annotat_text"],
        "choices": row["choices"],
        "ground_truth": letter,
        "answer": answer,
    }
