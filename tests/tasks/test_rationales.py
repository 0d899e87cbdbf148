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

from vista.config import AnnotatedRationales, SelfRationales, Suite
from vista.damage import sha256
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import read_queries
from vista.tasks.generate import generate_split
from vista.tasks.rationales import merge_annotated, read_annotated, with_rationales

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


def test_a_line_ends_where_json_lines_say_and_nowhere_else(tmp_path: Path) -> None:
    table = [{"query_id": "a", "rationale": "one\u2028two\x85three"}, *TABLE]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in table)
    (tmp_path / "r.jsonl").write_bytes(text.encode())
    assert read_annotated(tmp_path / "r.jsonl") == table


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


def test_a_pilot_takes_the_rationales_of_its_queries_from_a_file_with_more(
    suite: Suite, tmp_path: Path
) -> None:
    file = write_lines(
        tmp_path / "a.jsonl", [{"query_id": f"q{n}", "rationale": f"text {n}"} for n in range(4)]
    )
    settings = annotated(suite, easy=file).seed_rationales
    assert isinstance(settings, AnnotatedRationales)
    rows = [
        {"query_id": f"q{n}", "answer": "1", "answer_type": "number", "choices": None, "rationale": None}
        for n in (1, 3)
    ]
    found, _ = with_rationales(settings, "easy", rows, more=True)
    assert [row["rationale"] for row in found] == ["text 1", "text 3"]
    with pytest.raises(VistaError, match="are not in the seed split"):
        with_rationales(settings, "easy", rows)
