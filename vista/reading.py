"""What rows must be like when they are read back, whatever wrote the file. Serves ``vista.records``.

A file may come from an older version, another program, or a careful hand. What a stage would stumble over,
or silently take for something else, is refused here, with the row; columns are looked at whole, not row by
row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from vista.errors import VistaError

REMEDY = "delete it and rerun the rule that makes it"
# Columns that may lack a value; vista.records says what that means.
MAY_BE_NULL = {
    *("system", "choices", "rationale", "scene", "parent", "answer", "critical_token", "replacement"),
    *("completion_ids", "chosen_ids", "rejected_ids", "vas", "kept", "continuation"),
    "score",  # of a prediction: what collects them lists all that are none
}
NOT_NEGATIVE = {
    *("sample", "prefix_len", "token_ids", "completion_ids", "chosen_ids", "rejected_ids"),
    *("critical_token", "replacement", "parent", "tokens", "layers", "num_layers"),
}
FINITE = {"logprob", "logprob_without", "s_sys", "s_vis", "s_ins", "visual"}
# One number for each of `layers`.
BY_LAYER = ("s_sys", "s_vis", "s_ins")


def check_columns(path: Path, found: pa.Schema, schema: pa.Schema, wanted: Sequence[str]) -> None:
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


def check_values(path: Path, table: pa.Table) -> None:
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
        _check_lengths(path, table)


def _check_lengths(path: Path, table: pa.Table) -> None:
    """Lists of a row that must be as long as each other."""
    if {"token_ids", "prefix_len"} <= set(table.column_names):
        short = pc.less(pc.list_value_length(table["token_ids"]), table["prefix_len"])
        _refuse(path, table["prefix_len"], short, "prefix_len", "no more than there are token_ids")
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
