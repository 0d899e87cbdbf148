"""What an evaluation has done, kept beside a run's predictions, so that nothing is asked twice.

Stage ``evaluation``. The predictions on single tasks, ``.tasks/TASK-KEY-SHA256.parquet``, stay; the responses
of a job that is not finished, ``.responses/TASK-KEY-SHA256.parquet``, go when it is. They are hidden files,
which Snakemake leaves when it deletes the outputs of a job that is to start. The key stands for all that
decides them, the SHA-256 is that of the file: one that was cut short or changed is none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vista.config import digest
from vista.damage import sha256
from vista.engines.base import Engine, Request, Sample
from vista.errors import VistaError, writing
from vista.records import PREDICTION, Row, read_rows, settle, write_rows

SAID = b"vista_part"  # counts and device, or the device alone, among the metadata of the file
# A sample that an engine drew, and the digest of what was asked for; samples of a request stand in order.
SAMPLE = pa.schema(
    [
        ("request", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("logprob", pa.float64()),
        ("finished", pa.bool_()),
    ]
)
TOGETHER = 8  # batches whose responses are kept together


@dataclass(frozen=True)
class Kept:
    """The files in a folder that a job wrote before it ended, or was ended."""

    folder: Path
    keys: Mapping[str, str]  # by task, the digest of what decides its files; in the order of the predictions

    def sound(self, task: str) -> Iterator[Path]:
        """The files of a task with its key whose bytes are those that were written."""
        start = f"{task}-{self.keys[task]}-"
        for file in self._files():
            if file.name.startswith(start):
                with suppress(OSError):  # what cannot be read is made again
                    if file.name == f"{start}{sha256(file)}.parquet":
                        yield file

    def keep(self, task: str, rows: Sequence[Row], schema: pa.Schema, said: Mapping[str, Any]) -> None:
        """Write a file of a task.

        Args:
            task: The task.
            rows: Its rows.
            schema: Theirs.
            said: What its metadata say.

        Raises:
            VistaError: the disk is full or cannot be written.
        """
        written = self.folder / f"{task}.parquet"
        write_rows(written, rows, schema.with_metadata({SAID: json.dumps(said).encode()}))
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

    def discard(self) -> None:
        """Remove everything, once the job's output is there.

        Raises:
            VistaError: the folder cannot be removed.
        """
        with writing(self.folder), suppress(FileNotFoundError):
            shutil.rmtree(self.folder)

    def said(self, file: Path) -> Any:
        """What the metadata of a file say."""
        return json.loads((pq.read_schema(file).metadata or {})[SAID])

    def _files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []


@dataclass(frozen=True)
class Part:
    """A run's predictions on one task."""

    rows: list[Row]  # records.PREDICTION
    counts: dict[str, float]  # as in the manifest
    device: str  # that answered


class Parts(Kept):
    """The predictions on whole tasks."""

    def read(self, task: str) -> Part | None:
        """The sound part of a task with its key; ``None`` if there is none."""
        for file in self.sound(task):
            said = self.said(file)
            return Part(read_rows(file, PREDICTION), said["counts"], said["device"])
        return None

    def write(self, task: str, part: Part) -> None:
        """Keep a part.

        Raises:
            VistaError: the disk is full or cannot be written.
        """
        self.keep(task, part.rows, PREDICTION, {"counts": part.counts, "device": part.device})


def request_key(request: Request, temperature: float, max_new_tokens: int) -> str:
    """The digest of what is asked of an engine; of the images, the name of the query that they belong to."""
    prompt = request.prompt
    asked = [prompt.query_id, list(prompt.input_ids), list(request.prefix), list(request.seeds)]
    return digest([*asked, temperature, max_new_tokens])


@dataclass
class KeepingEngine:
    """Asks an engine only for what was not answered before, and keeps its samples as they come.

    They are kept some batches at a time, so that the engine is asked for the rest in the same calls, with the
    same batches, as if nothing had happened.

    Args:
        engine: The engine.
        kept: Where its samples are kept.
        task: The task that the requests belong to.
        together: How many requests it is given at once.
        device: That it answers on.
    """

    engine: Engine
    kept: Kept
    task: str
    together: int
    device: str
    known: dict[str, list[Sample]] = field(init=False)
    devices: list[str] = field(init=False)  # on which the samples were drawn

    def __post_init__(self) -> None:
        """Read what was answered before."""
        self.known, self.devices = {}, []
        for file in self.kept.sound(self.task):
            self.known |= samples_of(read_rows(file, SAMPLE))
            self._drawn_on(self.kept.said(file)["device"])

    def _drawn_on(self, device: str) -> None:
        if device not in self.devices:
            self.devices.append(device)

    def sample(
        self, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        """Continue every request once per seed; see ``base.Engine``.

        Raises:
            VistaError: the disk is full or cannot be written; or what the engine raises.
        """
        keys = [request_key(request, temperature, max_new_tokens) for request in requests]
        left = [index for index, key in enumerate(keys) if key not in self.known]
        for first in range(0, len(left), self.together):
            asked = left[first : first + self.together]
            drawn = self.engine.sample([requests[index] for index in asked], temperature, max_new_tokens)
            made = dict(zip((keys[index] for index in asked), drawn, strict=True))
            self.kept.keep(self.task, sample_rows(made), SAMPLE, {"device": self.device})
            self.known |= made
            self._drawn_on(self.device)
        return [self.known[key] for key in keys]


@dataclass(frozen=True)
class GivenEngine:
    """Answers with what another job drew, if it was asked the same.

    Attributes:
        file: The samples (``SAMPLE``).
        known: By request.
    """

    file: Path
    known: Mapping[str, list[Sample]]

    @classmethod
    def read(cls, file: Path) -> GivenEngine:
        """The samples of a file."""
        return cls(file, samples_of(read_rows(file, SAMPLE)))

    def sample(
        self, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        """What was drawn for every request; see ``base.Engine``.

        Raises:
            VistaError: one was not asked, or with another prompt.
        """
        found = []
        for request in requests:
            samples = self.known.get(request_key(request, temperature, max_new_tokens))
            if samples is None:
                raise VistaError(
                    f"query {request.prompt.query_id!r}: {self.file} has no response to the prompt of "
                    f"{len(request.prompt)} tokens that this environment makes of it; the engine's "
                    "environment has made another one: install the same version of transformers in both, or "
                    "take engine: {kind: hf}"
                )
            found.append(samples)
        return found


def sample_rows(samples: Mapping[str, Sequence[Sample]]) -> list[Row]:
    """The samples of each request as rows of ``SAMPLE``."""
    return [{"request": key, **vars(sample)} for key, drawn in samples.items() for sample in drawn]


def samples_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Sample]]:
    """The samples of each request, from rows of ``SAMPLE``."""
    found: dict[str, list[Sample]] = {}
    for row in rows:
        sample = Sample(row["token_ids"], row["logprob"], row["finished"])
        found.setdefault(row["request"], []).append(sample)
    return found
