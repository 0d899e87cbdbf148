"""Annotated rationales: read from a file and merged into the seed split, or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vista.checksums import sha256
from vista.config import AnnotatedRationales, SelfRationales, Suite
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import read_queries
from vista.tasks.generate import generate_split
from vista.tasks.rationales import merge_annotated, read_annotated

TABLE = [{"query_id": "a", "rationale": "one\ntwo"}, {"query_id": "b", "rationale": "“ü”"}]


def annotated(suite: Suite, **files: Path) -> Suite:
    settings = AnnotatedRationales(files={name.replace("_", "-"): path for name, path in files.items()})
    return suite.model_copy(update={"seed_rationales": settings})


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@given(st.permutations(range(8)))
def test_every_query_gets_its_own_text_in_whatever_order_the_file_is(order: list[int]) -> None:
    rows = [{"query_id": f"q{n}", "answer": str(n), "rationale": None} for n in range(8)]
    table = [{"query_id": f"q{n}", "rationale": f"text {n}"} for n in order]
    merged = merge_annotated(rows, table, "file")
    assert merged == [{**row, "rationale": f"text {n}"} for n, row in enumerate(rows)]
    assert rows[0]["rationale"] is None


def test_everything_that_does_not_fit_is_counted_and_named_at_once() -> None:
    rows = [{"query_id": f"q{n}"} for n in range(10)]
    table = [
        {"query_id": "q0", "rationale": "fine"},
        {"query_id": "q1", "rationale": " \n"},
        {"query_id": "q2", "rationale": None},
        {"query_id": "other", "rationale": "text"},
        {"query_id": "q0", "rationale": "again"},
    ]
    with pytest.raises(VistaError) as caught:
        merge_annotated(rows, table, "my.jsonl")
    text = str(caught.value)
    assert text.startswith("my.jsonl: ")
    assert "7 queries ('q3', 'q4', 'q5', 'q6', 'q7', …) of the seed split have no row: add" in text
    assert "1 queries ('other') are not in the seed split: remove" in text
    assert "2 queries ('q1', 'q2') have an empty rationale: write" in text
    assert "1 queries ('q0') have several rows: keep one" in text


def test_json_lines_and_parquet_read_alike(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "r.jsonl", [{**row, "note": 1} for row in TABLE])
    pq.write_table(pa.Table.from_pylist([{**row, "note": 1} for row in TABLE]), tmp_path / "r.parquet")
    assert read_annotated(lines) == read_annotated(tmp_path / "r.parquet") == TABLE


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", '{"query_id": "a", "rationale": "x"}\n{"query_id"', r"line 2: not JSON"),
        (
            "r.jsonl",
            '{"id": "a", "rationale": "x"}',
            r"line 1: expected .*query_id.*found \['id', 'rationale'\]",
        ),
        ("r.jsonl", "[1]", r"line 1: expected an object .*found list"),
        ("r.jsonl", '{"query_id": 3, "rationale": "x"}', r"line 1: .*must be text; found 3"),
        ("r.jsonl", b"\xff\xfe", "cannot be read"),
        ("r.parquet", "no parquet", "cannot be read"),
        ("r.parquet", None, "no such file"),
    ],
)
def test_a_file_that_is_not_as_expected_is_named(
    tmp_path: Path, name: str, content: str | bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(VistaError, match=message) as caught:
        read_annotated(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_parquet_file_without_the_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["a"], "text": ["x"]}), tmp_path / "r.parquet")
    with pytest.raises(VistaError, match=r"missing columns \['rationale'\]; found \['query_id', 'text'\]"):
        read_annotated(tmp_path / "r.parquet")


def test_a_file_replaces_the_seed_split_s_rationales_and_is_recorded(suite: Suite, tmp_path: Path) -> None:
    own, filed = Paths(tmp_path / "own"), Paths(tmp_path / "filed")
    generate_split(suite, own, "grid-chain", "seed")
    queries = read_queries(own.queries("grid-chain", "seed"))
    rows = [{"query_id": q["query_id"], "rationale": f"I see. answer : {q['answer']}"} for q in queries]
    rows[0]["rationale"] = "I forgot to answer"
    file = write_lines(tmp_path / "r.jsonl", rows)
    with_file = annotated(suite, grid_chain=file)
    for split in ("seed", "train"):
        generate_split(with_file, filed, "grid-chain", split)
    merged = read_queries(filed.queries("grid-chain", "seed"))
    assert merged == [{**q, "rationale": r["rationale"]} for q, r in zip(queries, rows, strict=True)]
    manifest = read_manifest(filed.queries("grid-chain", "seed"))
    assert manifest.settings["seed_rationales"]["files"] == {"grid-chain": str(file)}
    assert manifest.inputs == {str(file): sha256(file)}
    assert manifest.counts["right_rationales"] == len(rows) - 1
    assert all(row["rationale"] is None for row in read_queries(filed.queries("grid-chain", "train")))


def test_without_a_file_generated_tasks_keep_their_own_to_the_byte(suite: Suite, tmp_path: Path) -> None:
    files = []
    for number, settings in enumerate([AnnotatedRationales(), SelfRationales(kind="self")]):
        paths = Paths(tmp_path / str(number))
        generate_split(suite.model_copy(update={"seed_rationales": settings}), paths, "grid-closed", "seed")
        files.append(paths.queries("grid-closed", "seed"))
        assert read_manifest(files[-1]).settings["seed_rationales"]["kind"] == settings.kind
    assert sha256(files[0]) == sha256(files[1])


def test_a_file_that_does_not_fit_leaves_no_output(suite: Suite, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "r.jsonl", TABLE)
    paths = Paths(tmp_path / "results")
    with pytest.raises(VistaError, match=r"2 queries .* are not in the seed split"):
        generate_split(annotated(suite, grid_chain=file), paths, "grid-chain", "seed")
    assert not paths.queries("grid-chain", "seed").exists()
