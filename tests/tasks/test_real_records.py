"""The benchmarks' real records, without their pictures: what the docs and plans say is counted from them.

The folder that ``VISTA_SAMPLES`` names holds the files as published (docs/benchmarks.md says where they are
from). A picture is a small one of its own for each published name.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tasks.published import GEOMETRY3K, VQA_RAD, benchmark, write_parquet
from vista.damage import sha256
from vista.plugins import make
from vista.records import Row
from vista.task_kinds import Prepared


@cache
def tiny(name: str) -> bytes:
    """A picture that only this name has."""
    pixels = np.frombuffer(f"{name:<48}".encode()[:48], np.uint8).reshape(4, 4, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def unzipped(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def shown(rows: list[Row]) -> list[Row]:
    return [{**row, "image": {"bytes": tiny(row["image"]), "path": None}} for row in rows]


@pytest.fixture(scope="module")
def slake(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slake")
    for split in ("train", "test"):
        (folder / f"{split}.json").write_bytes(
            gzip.decompress((samples / f"slake/{split}.json.gz").read_bytes())
        )
        for row in json.loads((folder / f"{split}.json").read_text("utf-8")):
            path = folder / "imgs" / row["img_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tiny(row["img_name"]))
    return folder


@pytest.fixture(scope="module")
def vqa_rad(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub's splits, from the authors' JSON."""
    folder = tmp_path_factory.mktemp("vqa-rad")
    rows: dict[str, list[Row]] = {}
    for split in ("test", "train"):
        found = [
            {
                "image": row["image_name"],
                "question": str(row["question"]).lower(),
                "answer": str(row["answer"]).lower(),
            }
            for row in unzipped(samples / f"vqa-rad/{split}set.json.gz")
            if row["phrase_type"] in ("freeform", "para")
        ]
        if split == "train":  # without what is repeated, or stands in test
            tested = {tuple(row.values()) for row in rows["test"]}
            distinct = {tuple(row.values()): row for row in found}
            found = [row for triplet, row in distinct.items() if triplet not in tested]
        rows[split] = found
        write_parquet(folder / f"data/{split}-00000-of-00001.parquet", shown(found), VQA_RAD)
    return folder


def prepared(kind: str, folder: Path, split: str, **settings: Any) -> Prepared:
    source = {"kind": "path", "path": folder}
    found: Prepared = make(benchmark(kind=kind, source=source, **settings)).prepare(kind, split)
    return found


def counts(found: Prepared, *names: str) -> list[float]:
    return [found.counts[name] for name in names]


def planned(kind: str, folder: Path, split: str, **settings: Any) -> int:
    """What a plan says before the files are read."""
    return benchmark(kind=kind, source={"kind": "path", "path": folder}, **settings).queries(split)


def test_slakes_files_are_those_of_the_hub(slake: Path, root: Path) -> None:
    documented = (root / "docs/benchmarks.md").read_text("utf-8")
    for split in ("train", "test"):
        assert sha256(slake / f"{split}.json") in documented


def test_slake_has_the_english_questions_that_the_docs_count(slake: Path) -> None:
    train, test = (prepared("slake", slake, split) for split in ("train", "test"))
    assert counts(train, "published", "unanswered", "repeated", "images") == [4918, 1, 7, 450]
    assert counts(train, "duplicates", "shared_images", "shared_kept", "shared_dropped") == [0, 0, 0, 0]
    assert counts(test, "published", "unanswered", "images") == [1061, 0, 96]
    assert [planned("slake", slake, split) for split in ("train", "test")] == [4918 + 1, 1061]


def test_slake_has_the_yes_no_questions_that_the_paper_asks(slake: Path) -> None:
    for split, size in (("train", 1681), ("test", 355)):
        found = prepared("slake", slake, split, questions="yes-no")
        assert found.counts["queries"] == size == planned("slake", slake, split, questions="yes-no")


def test_vqa_rad_shares_nearly_every_test_picture_and_no_question(vqa_rad: Path) -> None:
    train, test = (prepared("vqa-rad", vqa_rad, split) for split in ("train", "test"))
    assert counts(train, "published", "images") == [1793, 313]
    assert counts(train, "duplicates", "shared_images", "shared_kept") == [0, 1059, 1059]
    assert counts(test, "published", "images") == [451, 203]
    both = [{row["cluster_id"] for row in found.rows} for found in (train, test)]
    assert len(both[0] & both[1]) == 202


@pytest.mark.parametrize(
    ("questions", "published", "shared"), [("all", 1793, 1059), ("yes-no", 940, 380)], ids=["all", "yes-no"]
)
def test_vqa_rad_can_be_trained_on_without_the_pictures_of_its_test_split(
    questions: str, published: int, shared: int, vqa_rad: Path
) -> None:
    asked = {"questions": questions, "sizes": {"seed": 100}, "shared_images": "drop"}
    seed, train, test = (prepared("vqa-rad", vqa_rad, split, **asked) for split in ("seed", "train", "test"))
    tested = {row["cluster_id"] for row in test.rows}
    assert not {row["cluster_id"] for found in (seed, train) for row in found.rows} & tested
    assert counts(train, "published", "shared_images", "shared_dropped", "shared_kept") == [
        *(published, shared, shared, 0)
    ]
    assert train.counts["queries"] == published - shared - 100
    for split, found in (("seed", seed), ("train", train), ("test", test)):
        assert found.counts["queries"] == planned("vqa-rad", vqa_rad, split, **asked)


def test_all_601_golds_of_geometry3k_can_be_read_and_three_are_words(samples: Path, tmp_path: Path) -> None:
    lines = (samples / "geometry3k/test-601.jsonl").read_text("utf-8").splitlines()
    rows = [
        {
            "images": [{"bytes": tiny(row["image_path"]), "path": None}],
            "problem": "<image>" + row["question"],
            "answer": row["ground_truth"],
        }
        for row in map(json.loads, lines)
    ]
    write_parquet(tmp_path / "data/test-00000-of-00001.parquet", rows, GEOMETRY3K)
    found = prepared("geometry3k", tmp_path, "test")
    assert counts(found, "queries", "in_words") == [601, 3]


@pytest.mark.parametrize("kind", ["geometry3k", "geometry3k-choice"])
def test_the_authors_own_folders_of_geometry3k_can_be_read(kind: str, samples: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(samples / "geometry3k/authors", tmp_path / split)
    train, test = (prepared(kind, tmp_path, split) for split in ("train", "test"))
    assert counts(test, "queries", "images", "repeated") == [10, 10, 0]
    assert counts(train, "duplicates", "shared_images") == [10, 10]
    first = next(iter(test.rows))
    assert first["instruction"].startswith(r"In $\odot X, A B=30, C D=30,$")
    assert first["answer"] == ("80" if kind == "geometry3k" else "D")


def test_the_pictures_of_vqa_rad_can_be_shown(samples: Path, tmp_path: Path) -> None:
    pictures = sorted((samples / "vqa-rad/images").iterdir())
    rows = [
        {
            "image": {"bytes": path.read_bytes(), "path": path.name},
            "question": "is this a ct?",
            "answer": "no",
        }
        for path in pictures
    ]
    write_parquet(tmp_path / "data/test-00000-of-00001.parquet", rows, VQA_RAD)
    assert counts(prepared("vqa-rad", tmp_path, "test"), "queries", "images") == [8, 8]
