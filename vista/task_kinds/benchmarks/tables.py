"""Reads published tables, parquet or JSON, and checks their columns before any row is used.

Part of stage ``tasks``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vista.errors import VistaError
from vista.records import Row

Columns = Mapping[str, str]  # name to one of KINDS


@dataclass(frozen=True)
class Published:
    """A published row, and the words for it in an error: file and row."""

    where: str
    index: int  # counted over the files of its split
    row: Row


def _is_image(kind: pa.DataType) -> bool:
    """The hub's image type as stored: a struct of ``bytes`` and ``path``."""
    if not pa.types.is_struct(kind):
        return False
    return any(field.name == "bytes" and pa.types.is_binary(field.type) for field in kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


KINDS = {
    "string": _is_text,
    "integer": pa.types.is_integer,
    "strings": lambda kind: _is_list(kind) and _is_text(kind.value_type),
    "image": _is_image,
    "images": lambda kind: _is_list(kind) and _is_image(kind.value_type),
}


def parquet_rows(files: Sequence[Path], schemas: Sequence[Columns]) -> Iterator[Published]:
    """Rows of parquet files, with the columns of the first of ``schemas`` that they have.

    Raises:
        VistaError: a file is not parquet, lacks a column, or has one of another type.
    """
    index = 0
    for path in files:
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise VistaError(f"{path}: not a readable parquet file ({error}); download it again") from error
        columns = _columns(path, file.schema_arrow, schemas)
        for row_number, row in enumerate(_read(path, file, list(columns))):
            yield Published(f"{path}: row {row_number}", index, row)
            index += 1


def _read(path: Path, file: pq.ParquetFile, columns: list[str]) -> Iterator[Row]:
    """The rows of an open file, whose pages may still be damaged."""
    try:
        for batch in file.iter_batches(batch_size=256, columns=columns):
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # all that pyarrow raises; bad UTF-8 is a ValueError
        raise VistaError(f"{path}: not a readable parquet file ({error}); download it again") from error


def _columns(path: Path, schema: pa.Schema, schemas: Sequence[Columns]) -> Columns:
    """The schema that a file has, of those it may have."""
    lacking = {name: [c for c in columns if c not in schema.names] for name, columns in enumerate(schemas)}
    best = min(lacking, key=lambda name: len(lacking[name]))
    columns = schemas[best]
    problems = [f"column {name!r} is missing" for name in lacking[best]]
    problems += [f"column {name!r} is there twice" for name in columns if schema.names.count(name) > 1]
    problems += [
        f"column {name!r} is of type {schema.field(name).type}, expected {kind}"
        for name, kind in columns.items()
        if schema.names.count(name) == 1 and not KINDS[kind](schema.field(name).type)
    ]
    if problems:
        raise VistaError(
            f"{path}: {'; '.join(problems)}; it has {', '.join(schema.names)}. "
            "Use the benchmark's files as published (docs/benchmarks.md)"
        )
    return columns


def json_value(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        VistaError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # bad JSON or UTF-8 is a ValueError
        raise VistaError(f"{path}: not readable as JSON ({error}); download or unpack it again") from error


def json_rows(path: Path, columns: Mapping[str, type]) -> Iterator[Published]:
    """Rows of a JSON file that holds a list of objects.

    Raises:
        VistaError: it is something else, or a row lacks a column or has a value of another type.
    """
    rows = json_value(path)
    if not isinstance(rows, list):
        raise VistaError(f"{path}: expected a list of objects, found {type(rows).__name__}")
    for index, row in enumerate(rows):
        where = f"{path}: row {index}"
        yield Published(where, index, check_object(where, row, columns))


def check_object(where: str, row: Any, columns: Mapping[str, type]) -> Row:
    """A JSON object that has these columns, of these types; lists are lists of texts.

    Raises:
        VistaError: it is something else, or lacks one; says where.
    """
    if not isinstance(row, dict):
        raise VistaError(f"{where}: expected an object, found {type(row).__name__}")
    for name, kind in columns.items():
        if name not in row:
            raise VistaError(f"{where}: column {name!r} is missing; it has {', '.join(row)}")
        if not isinstance(row[name], kind):
            raise VistaError(
                f"{where}: column {name!r} is {row[name]!r}, expected {kind.__name__}; "
                "use the benchmark's files as published (docs/benchmarks.md)"
            )
        for text in row[name] if kind is list else [row[name]]:
            if kind is not int and not _is_whole_text(text):
                raise VistaError(
                    f"{where}: column {name!r} has {text!r}, expected text of whole characters; correct it"
                )
    return row


def _is_whole_text(value: Any) -> bool:
    r"""Whether it can be written as UTF-8: JSON's \ud83d is half a character."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def image_bytes(image: Row | None, column: str) -> bytes:
    """The encoded image that a parquet cell holds.

    Raises:
        VistaError: it is null, or only names a file.
    """
    if image is None or not image["bytes"]:
        named = f" (it only names {image.get('path')!r})" if image else ""
        raise VistaError(f"column {column!r} holds no image{named}; use the files with images embedded")
    return bytes(image["bytes"])


def lettered(answer: int, choices: Sequence[str], column: str) -> str:
    """The letter of a choice that is published as an index.

    Raises:
        VistaError: there is no such choice.
    """
    if not 0 <= answer < len(choices):
        raise VistaError(
            f"column {column!r} is {answer}, but there are {len(choices)} choices (from 0 on); correct it"
        )
    return chr(ord("A") + answer)
