"""Checks of the queries of a kind that does not check them itself. Part of stage ``tasks``.

They only refuse queries; none is changed here.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from vista import records
from vista.answers import solves
from vista.errors import VistaError, fail_if
from vista.images import open_images
from vista.records import Row, Split

MOST_PROBLEMS = 20  # listed in one error


def checked(queries: Iterable[Row], kind: str, task: str, split: Split, size: int | None) -> list[Row]:
    """The queries of a kind that does not check them itself.

    Args:
        queries: Rows with the columns of ``records.QUERY``.
        kind: The task's kind.
        task: The task's name in the suite.
        split: Their split.
        size: How many there should be, if that is known.

    Raises:
        VistaError: lists rows that lack a column or a value, repeat an id, have an image that cannot be
            decoded, or an answer that its own verifier does not accept; or there are too few or too many.
    """
    listed, problems, seen = list(queries), list[str](), set[str]()
    if size is not None and len(listed) != size:
        problems.append(f"sizes.{split} asks for {size} queries, but the kind makes {len(listed)}")
    for index, row in enumerate(listed):
        problem = _problem(row, task, split, seen)
        if problem:
            problems.append(f"row {index}: {problem}")
        if len(problems) == MOST_PROBLEMS:
            problems.append("and perhaps more; checking stopped here")
            break
    fail_if(
        problems, f"task {task!r}: the {split} split that kind {kind!r} makes has errors; correct its module:"
    )
    return listed


def _problem(row: Row, task: str, split: Split, seen: set[str]) -> str | None:
    """What is wrong with a row; ``seen`` are the ids before it, and its own is added."""
    wrong = sorted(row.keys() ^ set(records.QUERY.names))
    if wrong:
        return f"columns {wrong} are missing or unknown; expected {', '.join(records.QUERY.names)}"
    try:
        (row,) = pa.Table.from_pylist([row], schema=records.QUERY).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        return f"a value does not fit its column: {error}"
    for name in ("query_id", "cluster_id"):
        if not row[name]:
            return f"{name} is {row[name]!r}, expected text"
    if row["query_id"] in seen:
        return f"query_id {row['query_id']!r} is that of an earlier row; query ids must be unique"
    seen.add(row["query_id"])
    try:
        problem = records.query_problem(row, split, task)
        if problem is None:
            open_images(row)
            if not solves(row, row["answer"]):
                problem = f"answer {row['answer']!r} is not a valid answer of type {row['answer_type']}"
    except VistaError as error:
        return str(error)
    return None if problem is None else f"query {row['query_id']!r}: {problem}"
