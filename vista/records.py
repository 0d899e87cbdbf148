"""The rows that flow between the stages: pyarrow schemas, with whole-or-nothing reading and writing.

Every parquet file that a stage writes has one of these schemas. A file is written under a
temporary name and renamed (``settle``), so a reader sees all of it or none of it.

A file that is read may come from an older version, another program, or an edit by hand. What a stage would
fail on, or silently misread, is refused here, with the row; columns are checked whole, not row by row.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vista.errors import MORE_MEMORY, VistaError, lack, writing

SCHEMA_VERSION = "1"
# How the library `datasets`, and so TRL, knows that a column holds images, not structs of bytes and path.
IMAGES_AS_SUCH = {"info": {"features": {"images": {"_type": "List", "feature": {"_type": "Image"}}}}}

# How an answer is verified; ``vista.answers`` has a function for each but the last: a task of lmms-eval's own
# (``vista.lmms``) asks with or without pictures, and scores responses itself.
AnswerType = Literal["closed", "open", "number", "choice", "term", "math", "relaxed", "lmms-eval"]
SCORED_BY_TASK = "lmms-eval"

Split = Literal["seed", "train", "test"]
# Where a solution is from: the seed split, the K samples, or a resampler, each by its name
# (prefix, rationalize, plain, random-prefix, gold-prefix).
Source = str

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PART = pa.struct([("type", pa.string()), ("text", pa.string())])
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(PART))])

# One question about one image (or several).
QUERY = pa.schema(
    [
        ("query_id", pa.string()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("images", pa.list_(IMAGE)),
        ("system", pa.string()),
        ("instruction", pa.string()),
        ("answer", pa.string()),
        ("answer_type", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("rationale", pa.string()),  # gold response text; null outside the seed split
        ("cluster_id", pa.string()),  # the image: standard errors are clustered on it
        ("scene", pa.string()),  # testbed: the ground truth as JSON; null elsewhere
    ]
)

# One solution that a policy wrote to one query.
ROLLOUT = pa.schema(
    [
        ("query_id", pa.string()),
        ("task", pa.string()),
        ("sample", pa.int32()),  # index within (query, source, parent)
        ("source", pa.string()),  # sample, or what the resampler calls its rows
        ("parent", pa.int32()),  # the failed sample that this one corrects; null where there is none
        ("prefix_len", pa.int32()),  # response tokens forced, not sampled
        ("token_ids", pa.list_(pa.int32())),  # response tokens, without the end-of-turn token
        ("text", pa.string()),
        ("answer", pa.string()),  # as extracted from the text; null when none was found
        ("finished", pa.bool_()),  # ended by the model, not by the length limit
        ("correct", pa.bool_()),
        ("logprob", pa.float32()),  # sum over the sampled tokens at temperature 1, with the end token
        ("seed", pa.int64()),
    ]
)

# Where a failed solution first left the Top-k (VISTA, prefix resampling).
CRITICAL = pa.schema(
    [
        ("query_id", pa.string()),
        ("task", pa.string()),
        ("sample", pa.int32()),
        ("critical_token", pa.int32()),  # 0-based position in the response; null: all in the Top-k
        ("replacement", pa.int32()),  # the Top-1 prediction there; null when there is none
    ]
)

# Attention of a solution's response tokens on the three prompt segments, per scored layer.
SCORES = pa.schema(
    [
        ("query_id", pa.string()),
        ("task", pa.string()),
        ("sample", pa.int32()),
        ("source", pa.string()),
        ("parent", pa.int32()),
        ("correct", pa.bool_()),
        ("layers", pa.list_(pa.int32())),
        ("num_layers", pa.int32()),
        ("s_sys", pa.list_(pa.float32())),
        ("s_vis", pa.list_(pa.float32())),
        ("s_ins", pa.list_(pa.float32())),
    ]
)

# Log-probability of a solution under the policy, with its image and without it.
GAINS = pa.schema(
    [
        ("query_id", pa.string()),
        ("task", pa.string()),
        ("sample", pa.int32()),
        ("source", pa.string()),
        ("parent", pa.int32()),
        ("correct", pa.bool_()),
        ("tokens", pa.int32()),  # of the response, with the end token where it finished
        ("logprob", pa.float64()),  # mean over these tokens, at temperature 1
        ("logprob_without", pa.float64()),  # the same, after the prompt without its image
    ]
)

# A solution to look at: with what every token of it looked at (``vista cases``).
CASE = pa.schema(
    [
        # dropped, kept: right, by what the attention filter does; rescued, failed: wrong, by whether prefix
        # resampling corrects it
        ("kind", pa.string()),
        ("query_id", pa.string()),
        ("task", pa.string()),
        ("images", pa.list_(IMAGE)),
        ("instruction", pa.string()),
        ("answer", pa.string()),  # the query's
        ("scene", pa.string()),
        ("source", pa.string()),  # of the solution, as of a rollout
        ("parent", pa.int32()),
        ("sample", pa.int32()),
        ("text", pa.string()),
        ("extracted", pa.string()),  # the solution's answer; null when none was found
        ("tokens", pa.list_(pa.string())),  # of the solution, as text
        ("visual", pa.list_(pa.float32())),  # of each, the share of its attention on the image
        ("layer", pa.int32()),
        ("vas", pa.float64()),  # of one dropped or kept: its z-score within the query
        ("critical_token", pa.int32()),  # of one resampled: its position; what replaces it, as text
        ("replacement", pa.string()),
        ("continuation", pa.list_(pa.string())),  # what was sampled after it, as text
        ("continued", pa.string()),  # the solution that this gives, from its first token
    ]
)

# One SFT example, in TRL's own columns.
EXAMPLE = pa.schema(
    [
        ("query_id", pa.string()),
        ("source", pa.string()),
        ("images", pa.list_(IMAGE)),
        ("prompt", pa.list_(MESSAGE)),
        ("completion", pa.list_(MESSAGE)),
        ("completion_ids", pa.list_(pa.int32())),  # null for gold text, which has no tokens yet
    ]
)

# One preference pair, in TRL's own columns.
PAIR = pa.schema(
    [
        ("query_id", pa.string()),
        ("source", pa.string()),
        ("images", pa.list_(IMAGE)),
        ("prompt", pa.list_(MESSAGE)),
        ("chosen", pa.list_(MESSAGE)),
        ("rejected", pa.list_(MESSAGE)),
        ("chosen_ids", pa.list_(pa.int32())),
        ("rejected_ids", pa.list_(pa.int32())),
        ("chosen_finished", pa.bool_()),  # as in ROLLOUT: only what the model ended gets an end token
        ("rejected_finished", pa.bool_()),
    ]
)

# One query that a policy is asked as it trains: a prompt, and what its responses are judged by.
ASKED = pa.schema(
    [
        *(QUERY.field(name) for name in ("query_id", "task", "images", "answer", "answer_type", "choices")),
        QUERY.field("scene"),
        ("prompt", pa.list_(MESSAGE)),
        ("answer_mark", pa.string()),  # the asked model's own mark before answers, if it has one
    ]
)

# One answer of one checkpoint to one test query, as lmms-eval scored it.
PREDICTION = pa.schema(
    [
        ("run", pa.string()),
        ("task", pa.string()),
        ("query_id", pa.string()),
        ("cluster_id", pa.string()),
        ("response", pa.string()),
        ("answer", pa.string()),  # extracted from the response; null when none was found
        ("finished", pa.bool_()),  # ended by the model, not by the length limit
        ("score", pa.float64()),
    ]
)

REMEDY = "delete it and rerun the rule that makes it"
# Columns that may lack a value; the schemas say what that means.
MAY_BE_NULL = {
    *("system", "choices", "rationale", "scene", "parent", "answer", "critical_token", "replacement"),
    *("completion_ids", "chosen_ids", "rejected_ids", "vas", "extracted", "continuation"),
    *("continued", "answer_mark"),
    "score",  # of a prediction: the collecting step lists all that are not scores
}
NOT_NEGATIVE = {
    *("sample", "prefix_len", "token_ids", "completion_ids", "chosen_ids", "rejected_ids"),
    *("critical_token", "replacement", "parent", "tokens", "layers", "num_layers"),
}
FINITE = {"logprob", "logprob_without", "s_sys", "s_vis", "s_ins", "visual"}
# One number for each of `layers`.
BY_LAYER = ("s_sys", "s_vis", "s_ins")

Row = dict[str, Any]


@contextmanager
def atomic_path(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its name only if the block succeeds.

    Its name is fixed, so that what a killed job left is overwritten and does not pile up; no
    two jobs of the DAG write the same output.

    Args:
        path: The file to be written.
        shared: Several processes may write it at once: the temporary name is this process's own.

    Raises:
        VistaError: the disk is full, read-only or not writable by this user.
    """
    own = f".{os.getpid()}" if shared else ""
    temporary = path.with_name(f".{path.name}{own}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            settle(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def settle(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its name, once its bytes are on the disk; then the name is, too.

    A file system may write a name before the bytes: after a power cut, a finished output would be empty.
    """
    sync(temporary)
    os.replace(temporary, path)
    _flush(path.parent)


def sync(path: Path) -> None:
    """Return when a file, or a folder with everything in it that is no link, is on the disk."""
    for inner in sorted(path.rglob("*")) if path.is_dir() else ():
        if not inner.is_symlink():
            _flush(inner)
    _flush(path)


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of folders, on some file systems
            raise
    finally:
        os.close(opened)


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Write ``text`` whole or not at all; ``shared`` as for ``atomic_path``."""
    with atomic_path(path, shared=shared) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_rows(path: Path, rows: Iterable[Row], schema: pa.Schema) -> int:
    """Write ``rows`` as parquet under ``schema`` and return how many there were.

    Raises:
        VistaError: a row lacks a column, has one too many, or a value of another type.
    """
    listed = list(rows)
    names = set(schema.names)
    for index, row in enumerate(listed):
        if row.keys() != names:
            wrong = sorted(row.keys() ^ names)
            raise VistaError(f"{path}: row {index}: columns {wrong} are missing or unknown")
    try:
        table = pa.Table.from_pylist(listed, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise VistaError(f"{path}: a value does not fit its column: {error}") from error
    told = {b"huggingface": json.dumps(IMAGES_AS_SUCH).encode()} if "images" in names else {}
    version = {b"vista_schema_version": SCHEMA_VERSION.encode()}
    table = table.replace_schema_metadata({**(schema.metadata or {}), **version, **told})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return len(listed)


def read_rows(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> list[Row]:
    """Read the rows of ``path``, all columns of ``schema`` or the named ones.

    Raises:
        VistaError: the file is missing, is not parquet, has other columns, or a value that no stage writes.
    """
    return [dict(row) for row in read_table(path, schema, columns).to_pylist()]


def read_table(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Like ``read_rows``, as a pyarrow table."""
    if not path.exists():
        raise VistaError(f"{path}: no such file; run the rule that makes it, or correct the path")
    wanted = columns or schema.names
    try:
        _check_columns(path, pq.read_schema(path), schema, wanted)
        table = pq.read_table(path, columns=wanted)
        table.validate(full=True)
    except MemoryError as error:
        raise VistaError(f"{path}: out of memory while it is read ({lack(error)}); {MORE_MEMORY}") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise VistaError(f"{path}: not a readable parquet file ({error}); delete it and rerun") from error
    _check_values(path, table)
    return table


def read_queries(path: Path, columns: list[str] | None = None) -> list[Row]:
    """Read queries; refuse a file with duplicate or empty query ids, or with queries nobody can answer."""
    rows = read_rows(path, QUERY, columns)
    if not rows:
        raise VistaError(f"{path}: no rows; make the queries again")
    seen: dict[str, int] = {}
    for index, row in enumerate(rows):
        query_id = row["query_id"]
        if not query_id:
            raise VistaError(f"{path}: row {index}: empty query_id; every query must have one")
        if query_id in seen:
            raise VistaError(
                f"{path}: row {index}: query_id {query_id!r} is already in row {seen[query_id]}; "
                "query ids must be unique"
            )
        seen[query_id] = index
        problem = query_problem(row, path.stem, path.parent.name)
        if problem:
            raise VistaError(f"{path}: row {index}: query {query_id!r}: {problem}; make the queries again")
    return rows


def query_problem(row: Row, split: str, task: str) -> str | None:
    """Why a query cannot be asked or verified, or does not belong to a split of a task."""
    for name, wanted in (("split", split), ("task", task)):
        if name in row and row[name] != wanted:
            return f"{name} is {row[name]!r}, but this is the file of {wanted!r}"
    if row.get("answer_type", "open") not in get_args(AnswerType):
        return f"answer_type is {row['answer_type']!r}, expected one of {', '.join(get_args(AnswerType))}"
    by_task = row.get("answer_type") == SCORED_BY_TASK
    for name in ("instruction",) if by_task else ("instruction", "answer"):
        if name in row and not (row[name] or "").strip():
            return f"{name} is empty"
    if "images" in row and not row["images"] and not by_task:
        return "there is no image"
    return None


def _check_columns(path: Path, found: pa.Schema, schema: pa.Schema, wanted: Sequence[str]) -> None:
    """Refuse a file that lacks a column, has an unknown one, or one of another type.

    Raises:
        VistaError: names the columns.
    """
    missing = sorted(set(wanted) - set(found.names))
    if missing:
        raise VistaError(f"{path}: missing columns {missing}; found {sorted(found.names)}; {REMEDY}")
    unknown = sorted(set(found.names) - set(schema.names))
    if unknown:
        raise VistaError(f"{path}: unknown columns {unknown}; expected {schema.names}; {REMEDY}")
    for name in wanted:
        if found.field(name).type != schema.field(name).type:
            raise VistaError(
                f"{path}: column {name!r} is of type {found.field(name).type}, expected "
                f"{schema.field(name).type}; {REMEDY}"
            )


def _check_values(path: Path, table: pa.Table) -> None:
    """Refuse values that no stage writes: nulls, negative ids and counts, numbers that are not finite.

    Raises:
        VistaError: names the first row.
    """
    for name in table.column_names if len(table) else ():
        column = table[name]
        flat = column
        if pa.types.is_list(column.type):
            flat = pc.list_flatten(column)
        if name not in MAY_BE_NULL and column.null_count:
            _refuse(path, column, pc.is_null(column), name, "a value")
        if flat is not column and flat.null_count and name != "choices":
            _refuse(path, column, _any(column, flat, pc.is_null(flat)), name, "values without a gap")
        if name in NOT_NEGATIVE and pa.types.is_integer(flat.type):  # a case's replacement is a text
            wrong = pc.fill_null(pc.less(flat, 0), False)
            _refuse(path, column, _any(column, flat, wrong), name, "0 or more")
        if name in FINITE:
            wrong = pc.fill_null(pc.invert(pc.is_finite(flat)), False)
            _refuse(path, column, _any(column, flat, wrong), name, "finite numbers")
    if len(table):
        _check_together(path, table)


def _check_together(path: Path, table: pa.Table) -> None:
    """Refuse values of a row that contradict each other."""
    if {"token_ids", "prefix_len"} <= set(table.column_names):
        short = pc.less(pc.list_value_length(table["token_ids"]), table["prefix_len"])
        _refuse(path, table["prefix_len"], short, "prefix_len", "no more than there are token_ids")
    if {"correct", "finished"} <= set(table.column_names):
        cut = pc.and_(table["correct"], pc.invert(table["finished"]))
        _refuse(path, table["finished"], cut, "finished", "true, since the solution is correct")
    if {"layers", *BY_LAYER} <= set(table.column_names):
        lengths = pc.list_value_length(table["layers"])
        for name in BY_LAYER:
            other = pc.not_equal(pc.list_value_length(table[name]), lengths)
            _refuse(path, table[name], other, name, "a number for each of its layers")


def _any(column: pa.ChunkedArray, flat: pa.ChunkedArray, wrong: pa.ChunkedArray) -> pa.ChunkedArray:
    """For each row, whether any of its values is wrong."""
    if flat is column or not pc.any(wrong).as_py():
        return wrong if flat is column else pa.chunked_array([pa.array([False] * len(column))])
    rows = set(pc.filter(pc.list_parent_indices(column.combine_chunks()), wrong).to_pylist())
    return pa.chunked_array([pa.array([index in rows for index in range(len(column))])])


def _refuse(path: Path, column: pa.ChunkedArray, wrong: pa.ChunkedArray, name: str, expected: str) -> None:
    row = pc.index(pc.fill_null(wrong, False), True).as_py()
    if row >= 0:
        value = repr(column[row].as_py())
        found = value if len(value) <= 80 else value[:80] + " …"
        raise VistaError(f"{path}: row {row}: column {name!r} is {found}, expected {expected}; {REMEDY}")
