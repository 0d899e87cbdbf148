"""SLAKE (Liu et al. 2021, arXiv 2102.09542), English questions; on the hub ``BoKelvin/SLAKE``.

Reads ``train.json`` and ``test.json``: lists of objects with ``qid`` (int), ``img_name``
(``xmlab1/source.jpg``), ``question``, ``answer``, ``q_lang`` (en or zh) and ``answer_type`` (OPEN
or CLOSED); and the images, from ``imgs.zip`` (members ``imgs/xmlab1/source.jpg``) or, unpacked,
from the folder ``imgs/``.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from vista.errors import VistaError
from vista.task_kinds.benchmarks import (
    Benchmark,
    BenchmarkSettings,
    Item,
    Published,
    PublishedSizes,
    PublishedSplit,
)
from vista.task_kinds.benchmarks.files import inside
from vista.task_kinds.benchmarks.tables import json_rows

COLUMNS = {
    "qid": int,
    "img_name": str,
    "question": str,
    "answer": str,
    "q_lang": str,
    "answer_type": str,
}


class SlakeSettings(BenchmarkSettings):
    """SLAKE, English questions."""

    published = PublishedSizes(train=4919, test=1061, shared=0)
    published_yes_no = PublishedSizes(train=1681, test=355, shared=0)
    licence = "cc-by-4.0"
    lmms_scorer = "vista.evaluation.tasks.scorers.process_slake"
    kind: Literal["slake"] = Field(description="SLAKE, English questions.")


class Slake(Benchmark[SlakeSettings]):
    """Yes/no answers are closed; all others, CLOSED ones too ("lung or liver?"), are terms."""

    def patterns(self, split: PublishedSplit) -> list[list[str]]:
        """One JSON file a split, and the images."""
        return [[f"{split}.json"], ["imgs.zip", "imgs/*/source.jpg"]]

    def rows(self, root: Path, split: PublishedSplit) -> Iterator[Published]:
        """All rows, Chinese ones too; with ``read_image``, which reads images by name."""
        read = image_reader(root)
        for published in json_rows(root / f"{split}.json", COLUMNS):
            published.row["read_image"] = read
            yield published

    def item(self, published: Published) -> Item | None:
        """An English question."""
        row = published.row
        if row["q_lang"] != "en":
            return None
        if row["answer_type"] not in ("OPEN", "CLOSED"):
            raise VistaError(f"column 'answer_type' is {row['answer_type']!r}, expected OPEN or CLOSED")
        yes_no = row["answer"].strip().casefold() in ("yes", "no")
        return Item(
            key=str(row["qid"]),
            question=row["question"],
            answer=row["answer"],
            answer_type="closed" if yes_no else "term",
            images=[row["read_image"](row["img_name"])],
        )


def image_reader(root: Path) -> Callable[[str], bytes]:
    """Reads an image by its published name, each one once.

    The reader raises VistaError for a name that the folder or archive does not hold.
    """
    folder, archive = root / "imgs", root / "imgs.zip"

    @cache
    def from_folder(name: str) -> bytes:
        try:
            path = inside(folder, name)
            return path.read_bytes()
        except OSError as error:
            raise VistaError(f"column 'img_name': no image {folder / name}; unpack imgs.zip again") from error

    if folder.is_dir():
        return from_folder
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise VistaError(f"{archive}: not a readable zip file ({error}); download it again") from error

    @cache
    def from_archive(name: str) -> bytes:
        try:
            return opened.read(f"imgs/{name}")
        except (KeyError, ValueError) as error:
            raise VistaError(
                f"column 'img_name': no image imgs/{name} in {archive}; download it again"
            ) from error
        # A RuntimeError asks for a password, or does not know how the member was packed.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise VistaError(
                f"column 'img_name': imgs/{name} in {archive} cannot be unpacked ({error}); download it again"
            ) from error

    return from_archive
