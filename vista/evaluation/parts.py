"""The predictions on single tasks, kept beside a run's predictions, so that nothing is asked twice.

Stage ``evaluation``. They are hidden files, ``.tasks/TASK-KEY-SHA256.parquet``, which Snakemake leaves when
it deletes the outputs of a job that is to start. The key stands for all that decides them, the SHA-256 is
that of the file: one that was cut short or changed is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from vista.damage import sha256
from vista.errors import writing
from vista.records import PREDICTION, Row, read_rows, settle, write_rows

SAID = b"vista_part"  # counts and device, among the metadata of the file


@dataclass(frozen=True)
class Part:
    """A run's predictions on one task."""

    rows: list[Row]  # records.PREDICTION
    counts: dict[str, float]  # as in the manifest
    device: str  # that answered


@dataclass(frozen=True)
class Parts:
    """The parts in a folder."""

    folder: Path
    keys: Mapping[str, str]  # by task, in the order of the predictions

    def read(self, task: str) -> Part | None:
        """The sound part of a task with its key; ``None`` if there is none."""
        start = f"{task}-{self.keys[task]}-"
        for file in self._files():
            if file.name.startswith(start):
                with suppress(OSError):  # what cannot be read is made again
                    if file.name == f"{start}{sha256(file)}.parquet":
                        said = json.loads((pq.read_schema(file).metadata or {})[SAID])
                        return Part(read_rows(file, PREDICTION), said["counts"], said["device"])
        return None

    def write(self, task: str, part: Part) -> None:
        """Keep a part.

        Raises:
            VistaError: the disk is full or cannot be written.
        """
        said = json.dumps({"counts": part.counts, "device": part.device})
        written = self.folder / f"{task}.parquet"
        write_rows(written, part.rows, PREDICTION.with_metadata({SAID: said.encode()}))
        settle(written, self.folder / f"{task}-{self.keys[task]}-{sha256(written)}.parquet")

    def discard_others(self) -> None:
        """Remove what belongs to no task of the suite, or to another state of one.

        Raises:
            VistaError: a file cannot be removed.
        """
        starts = tuple(f"{task}-{key}-" for task, key in self.keys.items())
        for file in self._files():
            if not file.name.startswith(starts):
                with writing(file):
                    file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []
