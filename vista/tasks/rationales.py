"""Annotated rationales of the seed split, from a file of the user; stage ``tasks``, run by ``vista tasks``.

Others come with the task, or from a teacher (``vista.tasks.teacher``). The base model's own
(``seed_rationales: self``) need a policy: they are sampled in stage ``rollouts`` and picked in ``curation``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from vista.answers import extract, solves
from vista.config import AnnotatedRationales
from vista.errors import VistaError, fail_if
from vista.records import Row

SHOWN = 5  # names listed of those that an error is about


def with_rationales(
    settings: AnnotatedRationales, task: str, queries: Sequence[Row], more: bool = False
) -> tuple[list[Row], dict[str, float]]:
    """The queries of a seed split with the rationales of the user's file, and counts for the manifest.

    Args:
        settings: Which file.
        task: The task.
        queries: The seed split.
        more: Whether the file may have rationales of other queries.

    Raises:
        VistaError: the file does not fit the queries.
    """
    file = settings.files[task]
    table = read_annotated(file)
    if more:
        wanted = {row["query_id"] for row in queries}
        table = [row for row in table if row["query_id"] in wanted]
    rows = merge_annotated(queries, table, str(file))
    return rows, {"right_rationales": sum(solves(row, extract(row["rationale"])) for row in rows)}


def merge_annotated(rows: Sequence[Row], table: Sequence[Row], source: str) -> list[Row]:
    """Queries with the rationales of ``table``, which must have one for each and no others.

    Args:
        rows: Queries (``records.QUERY``).
        table: Rows with ``query_id`` and ``rationale``.
        source: Where the table is from; named in errors.

    Raises:
        VistaError: lists how many ids are missing, unknown, repeated or without text, and the first.
    """
    ids = [row["query_id"] for row in table]
    wanted = {row["query_id"] for row in rows}
    given = Counter(ids)
    blank = [row["query_id"] for row in table if not (row["rationale"] or "").strip()]
    problems = [
        *_listed(
            [row["query_id"] for row in rows if row["query_id"] not in given],
            "of the seed split have no row: add one for each",
        ),
        *_listed(
            [name for name in given if name not in wanted],
            "are not in the seed split: remove their rows, or correct the ids",
        ),
        *_listed([name for name, times in given.items() if times > 1], "have several rows: keep one"),
        *_listed(blank, "have an empty rationale: write one"),
    ]
    fail_if(problems, f"{source}: the rationales do not fit the queries:")
    texts = {row["query_id"]: row["rationale"] for row in table}
    return [{**row, "rationale": texts[row["query_id"]]} for row in rows]


def _listed(names: Sequence[str], what: str) -> list[str]:
    """One line about these query ids, if there are any."""
    if not names:
        return []
    shown = ", ".join(repr(name) for name in names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return [f"{len(names)} queries ({shown}) {what}"]


def read_annotated(path: Path) -> list[Row]:
    """Rows with ``query_id`` and ``rationale`` of a parquet file (``.parquet``) or of JSON lines.

    Raises:
        VistaError: names the file and the line, or the columns that it lacks.
    """
    read: Callable[[Path], list[Row]] = _read_parquet if path.suffix == ".parquet" else _read_json_lines
    try:
        return read(path)
    except FileNotFoundError as error:
        raise VistaError(f"{path}: no such file; correct seed_rationales.files, or write it") from error
    except (OSError, ValueError) as error:  # pyarrow's and json's errors are ValueErrors
        raise VistaError(f"{path}: cannot be read ({error}); expected parquet or JSON lines") from error


def _read_parquet(path: Path) -> list[Row]:
    table = pq.read_table(path)
    missing = [name for name in ("query_id", "rationale") if name not in table.column_names]
    if missing:
        raise VistaError(f"{path}: missing columns {missing}; found {table.column_names}; add them")
    rows = table.select(["query_id", "rationale"]).to_pylist()
    return [_checked(row, f"{path}: row {index}") for index, row in enumerate(rows)]


def _read_json_lines(path: Path) -> list[Row]:
    rows = []
    # Not splitlines: JSON may hold other ends of lines, such as U+2028, as they are.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise VistaError(f"{where}: not JSON ({error}); expected one object per line") from error
        if not isinstance(value, dict) or not {"query_id", "rationale"} <= value.keys():
            found = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise VistaError(f"{where}: expected an object with query_id and rationale; found {found}")
        rows.append(_checked(value, where))
    return rows


def _checked(row: Mapping[str, object], where: str) -> Row:
    """The two fields, which must be text; an empty rationale may also be null."""
    query_id, rationale = row["query_id"], row["rationale"]
    if not isinstance(query_id, str) or not isinstance(rationale, str | None):
        raise VistaError(
            f"{where}: query_id and rationale must be text; found {query_id!r} and {rationale!r}"
        )
    try:
        f"{query_id}{rationale}".encode()
    except UnicodeEncodeError as error:
        raise VistaError(
            f"{where}: query_id or rationale has half a character ({error}); correct it"
        ) from error
    return {"query_id": query_id, "rationale": rationale}
