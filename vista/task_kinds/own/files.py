"""Files of the user's own: where they are, and their rows. Part of stage ``tasks``.

A source has parts: one called ``all``, or several by name (``train``, ``test``), each with its files.
"""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BeforeValidator, Field

from vista.errors import VistaError
from vista.records import Row
from vista.settings import Strict, UserPath
from vista.task_kinds.benchmarks.files import HubFiles, root_of
from vista.task_kinds.benchmarks.tables import Published, json_value

ALL = "all"  # the only part of a source without parts
BROKEN = "\0"  # the only column of a line that cannot be read: says why
FIRST_ROWS = 100  # of a JSON file, whose keys are taken for its columns
LONGEST_CELL = 2**31 - 1  # bytes of a CSV cell: an image in base64 is one


class TableFiles(Strict):
    """Files on disk."""

    kind: Literal["path"] = Field(description="Files on disk.")
    files: dict[str, Annotated[list[UserPath], Field(min_length=1)]] = Field(
        min_length=1,
        description="By part (`all`, or `train`, `test` …), its files in order: parquet, JSONL, JSON, CSV or "
        "TSV, globs of them, or folders that `datasets` saved; relative to the working directory.",
    )


class HubTable(HubFiles):
    """A data set of the Hugging Face hub, images in its files."""

    config: str = Field("default", description="Which configuration of its card.")
    files: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        {}, description="By part, globs of its files in the repository; default: what its card says."
    )


def _written_out(value: Any) -> Any:
    """The long form of a source: `FILE`, `[FILE, …]` and `{train: FILE, …}` are files on disk."""
    if isinstance(value, str | list):
        value = {ALL: value}
    if not isinstance(value, dict) or "kind" in value:
        return value
    if "repo" in value:
        return {"kind": "hub", **value}
    listed = {part: files if isinstance(files, list) else [files] for part, files in value.items()}
    return {"kind": "path", "files": listed}


Short = str | list[str] | dict[str, str | list[str]]
Source = Annotated[
    Annotated[TableFiles | HubTable, Field(discriminator="kind")],
    BeforeValidator(_written_out, json_schema_input_type=TableFiles | HubTable | Short),
]


@dataclass(frozen=True)
class Part:
    """A part of a source that is on disk."""

    name: str
    files: list[Path]


def parts_on_disk(source: TableFiles, wanted: Iterable[str]) -> list[Part]:
    """The parts of a source of local files, as far as their files exist."""
    return [Part(name, list(_found(source.files[name]))) for name in wanted]


def _found(patterns: Sequence[Path]) -> dict[Path, None]:
    """The files that patterns match, each once, in order."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        matched = (
            [pattern] if pattern.exists() else sorted(map(Path, glob.glob(str(pattern), recursive=True)))
        )
        found.update(dict.fromkeys(matched))
    return found


def parts_of(
    name: str, source: TableFiles | HubTable, wanted: Iterable[str] | None, fetch: bool = True
) -> list[Part]:
    """The parts of a task's source, downloaded first if need be.

    Args:
        name: The task's name in the suite.
        source: The source.
        wanted: Names of parts; of a source on the hub, those that it has; ``None`` for all.
        fetch: Whether files that are not in the hub library's cache may be downloaded.

    Raises:
        VistaError: a file is missing, or the hub cannot be reached.
    """
    if isinstance(source, HubTable):
        return _on_hub(name, source, wanted, fetch)
    problems, parts = [], parts_on_disk(source, source.files if wanted is None else wanted)
    for part in parts:
        for pattern in source.files[part.name]:
            if not _found([pattern]):
                problems.append(f"no file {pattern}")
    if problems:
        raise VistaError(
            f"task {name!r}: source: {'; '.join(problems)}; correct the path (relative to {Path.cwd()})"
        )
    return parts


def _on_hub(name: str, source: HubTable, wanted: Iterable[str] | None, fetch: bool) -> list[Part]:
    globs: Mapping[str, list[str]] = source.files or _card_files(name, source, fetch)
    names = [part for part in (globs if wanted is None else wanted) if part in globs]
    if not names:
        raise VistaError(
            f"task {name!r}: data set {source.repo} has the parts {', '.join(globs)}, and none of them is in "
            "a split; name them under split, such as split: {test: [validation]}"
        )
    root = root_of(name, source, [[pattern] for part in names for pattern in globs[part]], fetch)
    found = {part: [file for each in globs[part] for file in sorted(root.glob(each))] for part in names}
    return [Part(part, list(dict.fromkeys(files))) for part, files in found.items()]


def _card_files(name: str, source: HubTable, fetch: bool) -> dict[str, list[str]]:
    """By part, the globs of files that a data set's card names for a configuration."""
    from huggingface_hub import DatasetCard

    card = root_of(name, source, [["README.md"]], fetch) / "README.md"
    where = f"task {name!r}: the card of {source.repo}"
    try:
        stated = DatasetCard(card.read_text(encoding="utf-8")).data.get("configs") or []
        configs = {each.get("config_name", "default"): each.get("data_files") for each in stated}
        listed = configs[source.config]
        entries = listed if isinstance(listed, list) else [listed]
        return {
            (each["split"] if isinstance(each, dict) else "train"): _texts(
                each["path"] if isinstance(each, dict) else each
            )
            for each in entries
        }
    except KeyError as error:
        known = f"has the configurations {', '.join(configs)}" if configs else "lists no files"
        raise VistaError(
            f"{where} {known}, not {source.config!r}; correct source.config, or write source.files, such as "
            "{train: data/train-*.parquet}"
        ) from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise VistaError(
            f"{where} cannot be read ({error}); write source.files, such as {{train: data/train-*.parquet}}"
        ) from error


def _texts(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def tracked(files: Iterable[Path]) -> list[Path]:
    """The files that hold rows: those in a folder that ``datasets`` saved, or the file itself."""
    return [inner for file in files for inner in (_saved_files(file) if file.is_dir() else [file])]


def _saved_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in (".arrow", ".json"))


# --- rows ---


@dataclass(frozen=True)
class Opened:
    """A file's columns, and its rows, each with its place."""

    columns: list[str]
    rows: Callable[[set[str]], Iterator[tuple[str, Row]]]  # with these columns, or with all


def opened(path: Path) -> Opened:
    """A file of any format, not read yet.

    Raises:
        VistaError: there is no such format, or the file is not what its name says.
    """
    if path.is_dir():
        return _saved(path)
    reader = _FORMATS.get(path.suffix.lower())
    if reader is None:
        raise VistaError(
            f"{path}: the name should end with {', '.join(_FORMATS)}, or be a folder that `datasets` saved; "
            "rename or convert the file"
        )
    return reader(path)


def published_rows(
    parts: Iterable[Part], needed: Callable[[Path, Sequence[str]], set[str]]
) -> Iterator[tuple[str, Path, Published]]:
    """All rows, each with its part and file, numbered within its part.

    Args:
        parts: The parts.
        needed: The columns that are read of a file with these columns; raises if it lacks one.
    """
    for part in parts:
        index = 0
        for path in part.files:
            file = opened(path)
            for where, row in file.rows(needed(path, file.columns)):
                yield part.name, path, Published(f"{path}: {where}", index, row)
                index += 1


def count(path: Path) -> int:
    """How many rows a file has, without reading them where that is possible; blank lines count."""
    if path.is_dir() or path.suffix.lower() == ".json":
        return sum(1 for _ in opened(path).rows(set()))
    if path.suffix.lower() == ".parquet":
        return int(_parquet_file(path).metadata.num_rows)
    with path.open("rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))
    return max(lines - (path.suffix.lower() in (".csv", ".tsv")), 1)


def _parquet_file(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise VistaError(f"{path}: not a readable parquet file ({error}); write or copy it again") from error


def _parquet(path: Path) -> Opened:
    file = _parquet_file(path)

    def rows(columns: set[str]) -> Iterator[tuple[str, Row]]:
        wanted = [name for name in file.schema_arrow.names if name in columns]
        number = 0
        try:
            for batch in file.iter_batches(batch_size=64, columns=wanted):
                for row in batch.to_pylist():
                    yield f"row {number}", row
                    number += 1
        except (OSError, ValueError) as error:  # all that pyarrow raises; bad UTF-8 is a ValueError
            raise VistaError(
                f"{path}: not readable after row {number} ({error}); write or copy it again"
            ) from error

    return Opened(file.schema_arrow.names, rows)


def _saved(folder: Path) -> Opened:
    """A folder of ``datasets.Dataset.save_to_disk``: Arrow streams, named in its state."""
    if (folder / "dataset_dict.json").is_file():
        splits = json_value(folder / "dataset_dict.json").get("splits", [])
        named = ", ".join(f"{split}: {folder / split}" for split in splits)
        raise VistaError(f"{folder}: holds several splits; name them as parts: source: {{{named}}}")
    if not (folder / "state.json").is_file():
        raise VistaError(
            f"{folder}: a folder, but none that `datasets` saved (no state.json); name its files, such as "
            f"{folder}/*.parquet"
        )
    files = [folder / each["filename"] for each in json_value(folder / "state.json")["_data_files"]]

    def tables() -> Iterator[tuple[Path, pa.RecordBatchStreamReader]]:
        for file in files:
            try:
                with pa.memory_map(str(file)) as source:
                    yield file, pa.ipc.open_stream(source)
            except (OSError, ValueError) as error:
                raise VistaError(f"{file}: cannot be read ({error}); save the data set again") from error

    def rows(columns: set[str]) -> Iterator[tuple[str, Row]]:
        number = 0
        for _, stream in tables():
            for batch in stream:
                kept = batch.select([name for name in batch.schema.names if name in columns])
                for start in range(0, len(batch), 64):
                    for row in kept.slice(start, 64).to_pylist() or [{}] * min(64, len(batch) - start):
                        yield f"row {number}", row
                        number += 1

    columns = next((list(stream.schema.names) for _, stream in tables()), [])
    return Opened(columns, rows)


def _listed(rows: Iterator[tuple[str, Row]]) -> Opened:
    """Rows that say their columns themselves: those of the first ones."""
    first = list(islice(rows, FIRST_ROWS))
    columns = list(dict.fromkeys(name for _, row in first for name in row if name != BROKEN))
    return Opened(columns, lambda _: chain(first, rows))


def _json_lines(path: Path) -> Opened:
    return _listed(_lines(path))


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"line {number}", _object(number, line)
    except OSError as error:
        raise VistaError(f"{path}: cannot be read ({error.strerror}); correct the path") from error


def _object(number: int, line: bytes) -> Row:
    """The object of a line; ``{BROKEN: why}`` if there is none, so that all such lines are in one error."""
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        return {BROKEN: f"not UTF-8 ({error.reason}); save the file as UTF-8"}
    except (ValueError, RecursionError) as error:
        return {BROKEN: f"not JSON ({error}); write one object on each line"}
    if not isinstance(row, dict):
        return {BROKEN: f"expected an object, found {type(row).__name__}; write one on each line"}
    return row


def _json(path: Path) -> Opened:
    try:
        value = json_value(path)
    except VistaError as error:
        raise VistaError(f"{error} (with an object on each line, its name should end with .jsonl)") from error
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise VistaError(f"{path}: expected a list of objects, one for each question")
    return _listed((f"row {number}", row) for number, row in enumerate(value))


def _csv(path: Path) -> Opened:
    rows = _csv_rows(path)
    columns = next(rows, ("", []))[1]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if not columns or twice:
        what = f"columns {twice} are there twice" if twice else "it has no line with the names of its columns"
        raise VistaError(f"{path}: {what}; correct its first line")

    def named(_: set[str]) -> Iterator[tuple[str, Row]]:
        ragged = []
        for where, cells in rows:
            if len(cells) != len(columns):
                ragged.append(f"{where} has {len(cells)}")
            elif not ragged:
                yield where, dict(zip(columns, cells, strict=True))
        if ragged:
            shown = ", ".join(ragged[:20]) + (f", and {len(ragged) - 20} more" if len(ragged) > 20 else "")
            raise VistaError(
                f"{path}: expected {len(columns)} cells in every row, as in its first line, but {shown}; "
                "quote cells with commas, quotes or line ends in them"
            )

    return Opened(columns, named)


def _csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            for cells in reader:
                if cells:
                    yield f"line {reader.line_num}", cells
    except UnicodeDecodeError as error:
        raise VistaError(f"{path}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
    except csv.Error as error:
        raise VistaError(
            f"{path}: line {reader.line_num}: not CSV ({error}); quote cells as CSV asks"
        ) from error
    except OSError as error:
        raise VistaError(f"{path}: cannot be read ({error.strerror}); correct the path") from error


_FORMATS: dict[str, Callable[[Path], Opened]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
}
