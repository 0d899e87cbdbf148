"""Local copies of benchmarks, seed rationales, and arguments of commands that name nothing there is."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.malformed.harness import (
    CASES,
    CURATE,
    EVALUATE,
    POLICY,
    SAMPLE,
    SAMPLES,
    SCORE,
    SCORES,
    SEED,
    SUITE,
    Case,
    Spoil,
    World,
    case,
    refused,
)
from tests.tasks.published import write_authors_geometry3k

MAIN = "results/tables/main.csv"
ZIPPED = "data/slake/imgs.zip"
FIRST = "cells-seed-00000"


def reading(kind: str, split: str = "test") -> str:
    return f"tasks {SUITE} {kind} {split}"


def parquet(world: World, kind: str, split: str = "test") -> str:
    """The first file of a split, below the world's folder."""
    return str(sorted(world.path(f"data/{kind}/data").glob(f"{split}-*"))[0].relative_to(world.folder))


def row(kind: str, index: int, **values: object) -> Spoil:
    """Change a published test row."""
    return lambda world: world.rows(parquet(world, kind), lambda rows: rows[index].update(values))


def table(kind: str, edit: Any) -> Spoil:
    return lambda world: world.table(parquet(world, kind), edit)


def published(kind: str, data: bytes) -> Spoil:
    return lambda world: world.write(parquet(world, kind), data)


def slake(index: int, **values: object) -> Spoil:
    return lambda world: world.json("data/slake/test.json", lambda rows: rows[index].update(values))


def slake_text(text: str | bytes) -> Spoil:
    return lambda world: world.write("data/slake/test.json", text)


def removed(name: str) -> Spoil:
    return lambda world: world.path(name).unlink()


def folder_instead(name: str) -> Spoil:
    return lambda world: (world.path(name).unlink(), world.path(name).mkdir())


def two_first_shards(world: World) -> None:
    """Of two revisions: as many files as there should be, but the second shard is not among them."""
    second = sorted(world.path("data/chartqa/data").glob("train-00001-*"))[0]
    second.rename(second.with_name("train-00000-of-00002-aaaaaaaaaaaaaaaa.parquet"))


def damaged_pages(world: World) -> None:
    """The footer is whole, so it opens; what it points to is not."""
    name = parquet(world, "vqa-rad")
    data = world.path(name).read_bytes()
    middle = len(data) // 2
    world.write(name, data[:4] + b"\xff" * (middle - 4) + data[middle:])


def not_utf8(world: World) -> None:
    """A text column of bytes that are none, as some writers store it."""
    rows = pq.read_table(world.path(parquet(world, "vqa-rad")))
    raw = pa.array([b"caf\xe9?"] * len(rows), pa.binary()).view(pa.string())
    pq.write_table(rows.set_column(1, "question", raw), world.path(parquet(world, "vqa-rad")))


def encrypted(world: World) -> None:
    """The flag of every member that says that a password is needed."""
    data = bytearray(world.path(ZIPPED).read_bytes())
    for signature, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + flag] |= 1
            place = data.find(signature, place + 4)
    world.write(ZIPPED, bytes(data))


def damaged_member(world: World) -> None:
    """Compressed data of the first member that no longer unpacks."""
    with zipfile.ZipFile(world.path(ZIPPED)) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(world.path(ZIPPED), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, picture in held.items():
            archive.writestr(name, picture)
        offset = archive.infolist()[0].header_offset + 30 + len(archive.infolist()[0].filename)
    data = bytearray(world.path(ZIPPED).read_bytes())
    data[offset : offset + 40] = b"\xff" * 40
    world.write(ZIPPED, bytes(data))


def authors(problem: str, **values: object) -> Spoil:
    """The authors' layout of Geometry3K, with values of a problem changed."""

    def spoil(world: World) -> None:
        world.path("data/geometry3k").rename(world.path("data/parquet"))
        write_authors_geometry3k(world.path("data/geometry3k"))
        world.json(f"data/geometry3k/{problem}/data.json", lambda value: value.update(values))

    return spoil


def authors_without(name: str) -> Spoil:
    return lambda world: (authors("test/2403")(world), world.path(f"data/geometry3k/{name}").unlink())


BENCHMARKS = [
    case(
        "a folder that is missing",
        reading("slake"),
        ["data/slake", "no such folder"],
        lambda w: w.path("data/slake").rename(w.path("data/elsewhere")),
    ),
    case("no json file of the split", reading("slake"), "no file test.json", removed("data/slake/test.json")),
    case(
        "no parquet file of the split",
        reading("vqa-rad"),
        "no file data/test-*.parquet or test-*.parquet or test.parquet",
        lambda w: w.path(parquet(w, "vqa-rad")).unlink(),
    ),
    case("no images", reading("slake"), "no file imgs.zip or imgs/*/source.jpg", removed(ZIPPED)),
    case(
        "a set of shards that lacks one",
        reading("chartqa", "train"),
        "1 of the 2 files data/train-*.parquet",
        lambda w: sorted(w.path("data/chartqa/data").glob("train-00001-*"))[0].unlink(),
    ),
    case(
        "a first shard that stands twice, and no second",
        reading("chartqa", "train"),
        ["data/train-*.parquet", "00000"],
        two_first_shards,
    ),
    case(
        "a json file that is a folder", reading("slake"), "test.json", folder_instead("data/slake/test.json")
    ),
    case("a row that is a number", reading("slake"), ["test.json: row 0", "found int"], slake_text("[1]")),
    case("a json file that is cut short", reading("slake"), "test.json", slake_text('[{"qid": 1')),
    case("a json file that is no list", reading("slake"), ["test.json", "dict"], slake_text('{"data": []}')),
    case("a json file nested too deep", reading("slake"), "test.json", slake_text("[" * 100_000)),
    case(
        "a row without a column",
        reading("slake"),
        ["test.json: row 1", "column 'q_lang' is missing"],
        lambda w: w.json("data/slake/test.json", lambda rows: rows[1].pop("q_lang")),
    ),
    case(
        "a row with an answer that is a number",
        reading("slake"),
        ["test.json: row 2", "column 'answer' is 7, expected str"],
        slake(2, answer=7),
    ),
    case(
        "a row with half a character",
        reading("slake"),
        ["test.json: row 2", "'question'"],
        slake(2, question="Is it \ud83d?"),
    ),
    case(
        "an answer type that is not there",
        reading("slake"),
        ["test.json: row 0", "'open-ended', expected OPEN or CLOSED"],
        slake(0, answer_type="open-ended"),
    ),
    case(
        "a question id that stands twice",
        reading("slake"),
        ["test.json: row 3", "'92'", "earlier row"],
        slake(3, qid=92),
    ),
    case(
        "a row whose image the archive lacks",
        reading("slake"),
        ["test.json: row 0", "imgs/xmlab7/source.jpg"],
        slake(0, img_name="xmlab7/source.jpg"),
    ),
    case(
        "an archive that is a pointer",
        reading("slake"),
        "imgs.zip: not a readable zip file",
        lambda w: w.write(ZIPPED, "version https://git-lfs.github.com/spec/v1"),
    ),
    case("an archive with a password", reading("slake"), ["imgs.zip", "xmlab1"], encrypted),
    case("an archive with damaged data", reading("slake"), ["imgs.zip", "xmlab1"], damaged_member),
    case(
        "a parquet file that is a pointer",
        reading("chartqa"),
        ["test-00000", "not a readable parquet file"],
        published("chartqa", b"version https://git-lfs.github.com/spec/v1"),
    ),
    case("a parquet file with damaged pages", reading("vqa-rad"), ["test-00000", "parquet"], damaged_pages),
    case("a text that is not utf-8", reading("vqa-rad"), ["test-00000", "parquet"], not_utf8),
    case(
        "a column that is missing",
        reading("vqa-rad"),
        ["column 'question' is missing", "it has image, text, answer"],
        table("vqa-rad", lambda t: t.rename_columns(["image", "text", "answer"])),
    ),
    case(
        "a column that stands twice",
        reading("vqa-rad"),
        ["test-00000", "'answer'", "twice"],
        table("vqa-rad", lambda t: t.append_column("answer", t["answer"])),
    ),
    case(
        "a column of another type",
        reading("scienceqa"),
        "column 'answer' is of type string, expected integer",
        table("scienceqa", lambda t: t.set_column(3, "answer", t["answer"].cast(pa.string()))),
    ),
    case(
        "the other form of geometry3k",
        reading("geometry3k-choice"),
        "column 'choices' is missing; column 'ground_truth' is missing",
        lambda w: w.write(parquet(w, "geometry3k-choice"), w.path(parquet(w, "geometry3k")).read_bytes()),
    ),
    case(
        "images that are no images",
        reading("vqa-rad"),
        ["row 0: the image cannot be read", "row 2: the image cannot be read"],
        lambda w: [row("vqa-rad", n, image={"bytes": b"no image", "path": None})(w) for n in (0, 2)],
    ),
    case(
        "a test image that is no image, found by the train split",
        reading("vqa-rad", "train"),
        ["The test split of vqa-rad has errors", "row 0"],
        row("vqa-rad", 0, image={"bytes": b"no image", "path": None}),
    ),
    case(
        "an image that is only named",
        reading("chartqa"),
        ["row 1: column 'image' holds no image", "images/3.png"],
        row("chartqa", 1, image={"bytes": None, "path": "images/3.png"}),
    ),
    case(
        "a problem without an image",
        reading("geometry3k"),
        ["row 3: there is no image"],
        row("geometry3k", 3, images=[]),
    ),
    case(
        "a choice that is not there",
        reading("scienceqa"),
        ["row 2", "column 'answer' is 3, but there are 3 choices"],
        row("scienceqa", 2, answer=3),
    ),
    case(
        "a choice without words",
        reading("scienceqa"),
        ["row 2", "choice"],
        row("scienceqa", 2, choices=["a", None, "c"]),
    ),
    case(
        "more choices than letters",
        reading("scienceqa"),
        ["row 2", "choices"],
        row("scienceqa", 2, choices=[f"number {n}" for n in range(30)], answer=28),
    ),
    case(
        "a letter of no choice",
        reading("geometry3k-choice"),
        ["row 2", "column 'ground_truth' is 'E'"],
        row("geometry3k-choice", 2, ground_truth="E"),
    ),
    case(
        "two labels",
        reading("chartqa"),
        ["row 2", "a list of one answer"],
        row("chartqa", 2, label=["1", "2"]),
    ),
    case("an answer that is null", reading("vqa-rad"), ["row 2", "answer"], row("vqa-rad", 2, answer=None)),
    case(
        "a split without rows",
        reading("chartqa"),
        "the test split of chartqa is empty: its files have no rows",
        table("chartqa", lambda t: t.slice(0, 0)),
    ),
    case(
        "a problem of the authors with choices in a text",
        reading("geometry3k"),
        ["2402/data.json", "column 'choices' is '1, 2', expected list"],
        authors("test/2402", choices="1, 2"),
    ),
    case(
        "a problem of the authors with choices that are numbers",
        reading("geometry3k"),
        ["2402/data.json", "choice"],
        authors("test/2402", choices=[1, 2, 3, 4]),
    ),
    case(
        "a problem of the authors without its picture",
        reading("geometry3k"),
        ["2403/img_diagram.png", "no such image"],
        authors_without("test/2403/img_diagram.png"),
    ),
    case(
        "a problem of the authors without its data",
        reading("geometry3k"),
        ["2403", "data.json"],
        authors_without("test/2403/data.json"),
    ),
]


def annotated(text: str | bytes | None, name: str = "r.jsonl") -> Spoil:
    """Rationales of the seed split from a file; ``None``: from one that is not there."""

    def spoil(world: World) -> None:
        if text is not None:
            world.write(name, text)
        world.json(SUITE, lambda v: v.update(seed_rationales={"kind": "annotated", "files": {"cells": name}}))

    return spoil


def lines(*rows: object) -> str:
    return "".join(json.dumps(each) + "\n" for each in rows)


def rationale(number: int, text: object = "row 1 . answer : 3") -> dict[str, object]:
    return {"query_id": f"cells-seed-{number:05d}", "rationale": text}


def annotated_table(**columns: list[object]) -> Spoil:
    def spoil(world: World) -> None:
        annotated(None, "r.parquet")(world)
        pq.write_table(pa.table(columns), world.path("r.parquet"))

    return spoil


def named_alone(world: World) -> None:
    annotated(None, "rationales")(world)
    Path("rationales").mkdir()


BOTH: list[object] = [FIRST, "cells-seed-00001"]
RATIONALES = [
    case("a file that is missing", SEED, ["r.jsonl: no such file", "seed_rationales.files"], annotated(None)),
    case("a folder in the place of the file", SEED, ["rationales"], named_alone),
    case("a file of no bytes", SEED, ["r.jsonl", "2 queries", FIRST], annotated("")),
    case("a file that is not text", SEED, "r.jsonl", annotated(b"\xff\xfe")),
    case(
        "a line that is not json",
        SEED,
        "r.jsonl: line 2: not JSON",
        annotated(lines(rationale(0)) + "{'a': 1}\n"),
    ),
    case(
        "one list of all rows",
        SEED,
        ["r.jsonl: line 1", "list"],
        annotated(lines([rationale(0), rationale(1)])),
    ),
    case("a line nested too deep", SEED, "r.jsonl: line 1", annotated("[" * 100_000)),
    case(
        "a line without its query id",
        SEED,
        ["r.jsonl: line 1", "query_id", "['id', 'rationale']"],
        annotated(lines({"id": FIRST, "rationale": "x"}, rationale(1))),
    ),
    case(
        "a query that is not there",
        SEED,
        ["r.jsonl", "'cells-seed-00009'", "not in the seed split"],
        annotated(lines(rationale(0), rationale(1), rationale(9))),
    ),
    case(
        "a query that stands twice",
        SEED,
        ["r.jsonl", f"'{FIRST}'", "several rows"],
        annotated(lines(rationale(0), rationale(1), rationale(0))),
    ),
    case(
        "a rationale of spaces", SEED, ["r.jsonl", "empty"], annotated(lines(rationale(0, " "), rationale(1)))
    ),
    case(
        "a rationale that is a list",
        SEED,
        ["r.jsonl: line 1", "must be text"],
        annotated(lines(rationale(0, ["one", "two"]), rationale(1))),
    ),
    case(
        "a rationale with half a character",
        SEED,
        ["r.jsonl: line 1", "rationale"],
        annotated(lines(rationale(0, "see \ud83d"), rationale(1))),
    ),
    case("text under the name of parquet", SEED, "r.parquet", annotated(lines(rationale(0)), "r.parquet")),
    case(
        "a parquet file without a column",
        SEED,
        ["r.parquet", "missing columns ['rationale']", "found ['query_id', 'text']"],
        annotated_table(query_id=BOTH, text=["x", "y"]),
    ),
    case(
        "a parquet file with a column twice",
        SEED,
        ["r.parquet", "rationale"],
        lambda w: (
            annotated_table(query_id=BOTH, rationale=["x", "y"])(w),
            w.table("r.parquet", lambda t: t.append_column("rationale", t["rationale"])),
        ),
    ),
    case(
        "a parquet file with ids that are numbers",
        SEED,
        ["r.parquet: row 0", "must be text"],
        annotated_table(query_id=[0, 1], rationale=["x", "y"]),
    ),
    case(
        "a parquet file with a null",
        SEED,
        ["r.parquet", "'cells-seed-00001'", "empty"],
        annotated_table(query_id=BOTH, rationale=["x", None]),
    ),
]


def nothing(world: World) -> None:
    """What is wrong is the command."""


def main_csv(text: str | bytes) -> Spoil:
    return lambda world: world.write(MAIN, text)


def argued(command: str, old: str, new: str) -> str:
    assert old in command
    return command.replace(old, new)


SEED9, ROUND9 = POLICY.replace("seed0", "seed9"), POLICY.replace("round0", "round9")
ARGUMENTS = [
    case("a task that is not there", reading("cels"), "did you mean 'cells'", nothing),
    case("a task that is a path", reading("../cells"), "'../cells'", nothing),
    case(
        "a split without a size",
        reading("slake", "train"),
        "sizes.train",
        lambda w: w.json(SUITE, lambda v: v["tasks"]["slake"]["sizes"].update(train=0)),
    ),
    case("a model that is not there", f"models {SUITE} nono", "'nono'", nothing),
    case("a run of an odd text", f"evaluate {SUITE} nano", "'nano' is not a run", nothing),
    case("a run with two dots in it", f"train {SUITE} nano/../vista/seed0/round1", "is not a run", nothing),
    case(
        "a run of another method", f"curate {SUITE} nano/grids/vita/seed0/round1", "'vita'; it has", nothing
    ),
    case("a run of a seed that is not there", argued(EVALUATE, POLICY, SEED9), ["seed9", POLICY], nothing),
    case("a run of a round that is not there", argued(EVALUATE, POLICY, ROUND9), ["round9", POLICY], nothing),
    case("a round that is not there, to curate", argued(CURATE, "round1", "round2"), ["round2"], nothing),
    case("cases of a run that has none", argued(CASES, "zero-shot", "sft-seed"), "sft-seed", nothing),
    case("a shard that is not there", f"sample {SUITE} {POLICY} {SAMPLES} 1", "shard 1", nothing),
    case("a shard that is not there, to score", f"score {SUITE} {POLICY} {SCORES} 7", "shard 7", nothing),
    case("samples that no method asks for", argued(SAMPLE, "k2", "k3"), ["k3-t1-n40", SAMPLES], nothing),
    case("scores that no method asks for", argued(SCORE, "top1", "top3"), ["top3", SCORES], nothing),
    case("a table that is not there", "show results/tables/mian.csv 1 overall", "no such file", nothing),
    case("a table that is a folder", "show results/tables 1 overall", "results/tables", nothing),
    case("a table of no bytes", f"show {MAIN} 1 overall", MAIN, main_csv(b"")),
    case("a table that is not text", f"show {MAIN} 1 overall", MAIN, main_csv(b"\xff\xfe\x00")),
    case("a table of ragged rows", f"show {MAIN} 1 overall", MAIN, main_csv("a,b\n1,2\n1,2,3,4\n")),
    case(
        "a column that is not in the table", f"show {MAIN} 1 total", ["no column 'total'", "overall"], nothing
    ),
    case("a row beyond the table", f"show {MAIN} 99 overall", "no row 99", nothing),
    case("a row that is a small two", f"show {MAIN} ² overall", "'²'", nothing),
    case("a row of far too many digits", f"show {MAIN} {'9' * 3000} overall", MAIN, nothing),
    case(
        "a row that matches nothing", f"show {MAIN} method=vita overall", "no row is 'method=vita'", nothing
    ),
    case("a row that matches several", f"show {MAIN} model=nano overall", "rows are 'model=nano'", nothing),
    case("a row by a column that is not there", f"show {MAIN} size=1 overall", "no column 'size'", nothing),
    case(
        "a table without its manifest",
        f"show {MAIN} 1 overall",
        f"{MAIN}.manifest.json",
        removed(f"{MAIN}.manifest.json"),
    ),
    case("a table without its suite", f"show {MAIN} 1 overall", SUITE, removed(SUITE)),
]


@pytest.mark.parametrize("spoilt", BENCHMARKS)
def test_a_malformed_copy_of_a_benchmark_is_refused(spoilt: Case, world: World) -> None:
    refused(world, spoilt)


@pytest.mark.parametrize("spoilt", RATIONALES)
def test_malformed_seed_rationales_are_refused(spoilt: Case, world: World) -> None:
    refused(world, spoilt)


@pytest.mark.parametrize("spoilt", ARGUMENTS)
def test_an_argument_that_names_nothing_is_refused(spoilt: Case, world: World) -> None:
    refused(world, spoilt)
