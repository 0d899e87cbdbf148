"""Published files become queries: every adapter end to end, splits, duplicates, ids."""

from __future__ import annotations

import hashlib
import io
import shutil
import socket
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from tests.tasks import published as files
from vista.answers import extract, verify
from vista.chat import messages
from vista.damage import sha256
from vista.errors import VistaError
from vista.images import open_images
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.plugins import Plugin
from vista.records import Split, read_queries
from vista.task_kinds import TaskSettings
from vista.task_kinds.benchmarks import BenchmarkSettings
from vista.tasks.generate import generate_split

KINDS = sorted(files.WRITERS)

# By hand, from the rows in published.py: usable train rows, test rows, duplicates, shared images.
EXPECTED = {
    "slake": (10, 4, 1, 2),
    "vqa-rad": (8, 3, 1, 1),
    "geometry3k": (6, 6, 3, 3),
    "geometry3k-choice": (6, 6, 3, 3),
    "scienceqa": (6, 2, 1, 1),
    "chartqa": (7, 3, 1, 1),
}


def prepared(suite, kind, folder):
    """All splits of a benchmark, and the manifests' counts."""
    paths = Paths(folder)
    rows, counts = {}, {}
    for split in get_args(Split):
        generate_split(suite, paths, kind, split)
        rows[split] = read_queries(paths.queries(kind, split))
        counts[split] = read_manifest(paths.queries(kind, split)).counts
    return rows, counts


def test_every_benchmark_has_a_fixture():
    tasks = Plugin("task", TaskSettings, "vista.tasks")
    kinds = {kind for kind in tasks.kinds() if issubclass(tasks.settings(kind), BenchmarkSettings)}
    assert kinds == set(files.WRITERS)


@pytest.mark.parametrize("kind", KINDS)
def test_published_files_become_queries_that_can_be_shown_and_scored(
    kind, published, with_task, tmp_path, monkeypatch
):
    def no_network(*_, **__):
        raise AssertionError("the network was touched")

    folder = published(kind)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    rows, counts = prepared(with_task(kind, folder), kind, tmp_path)
    train, test, duplicates, shared = EXPECTED[kind]
    assert [len(rows[split]) for split in get_args(Split)] == [2, train - 2, test]
    assert [counts[split]["queries"] for split in get_args(Split)] == [2, train - 2, test]
    for split in ("seed", "train"):
        assert counts[split]["published"] == train
        assert (counts[split]["duplicates"], counts[split]["shared_images"]) == (duplicates, shared)
        assert counts[split]["removed"] == 0
    for row in (row for split in get_args(Split) for row in rows[split]):
        assert verify(row["answer"], row["answer"], row["answer_type"], row["choices"])
        assert len(open_images(row)) == 1
        assert messages(row)[1]["content"][1]["text"].count("Answer: X") == 1
        assert "<image>" not in row["instruction"]
        right = extract(f"The picture shows it. So, the answer is near.\nAnswer: {row['answer']}")
        assert verify(right, row["answer"], row["answer_type"], row["choices"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_the_same_byte_for_byte_when_made_again(kind, published, with_task, tmp_path):
    suite = with_task(kind, published(kind))
    for split in get_args(Split):
        first, second = Paths(tmp_path / "a"), Paths(tmp_path / "b")
        generate_split(suite, first, kind, split)
        generate_split(suite, second, kind, split)
        assert sha256(first.queries(kind, split)) == sha256(second.queries(kind, split))


@pytest.mark.parametrize("kind", KINDS)
def test_seed_train_and_test_are_disjoint_and_ids_outlive_a_change_of_seed(
    kind, published, with_task, tmp_path
):
    folder = published(kind)
    rows, _ = prepared(with_task(kind, folder), kind, tmp_path / "a")
    ids = {split: {row["query_id"] for row in rows[split]} for split in get_args(Split)}
    assert not ids["seed"] & ids["train"]
    assert not (ids["seed"] | ids["train"]) & ids["test"]
    seeds = [ids["seed"]]
    for seed in range(1, 6):
        other, _ = prepared(with_task(kind, folder, seed=seed), kind, tmp_path / str(seed))
        drawn = {row["query_id"] for row in other["seed"]}
        assert drawn | {row["query_id"] for row in other["train"]} == ids["seed"] | ids["train"]
        seeds.append(drawn)
    assert len({frozenset(drawn) for drawn in seeds}) > 1


def test_a_larger_seed_split_holds_the_smaller_one_and_train_what_is_left(published, with_task, tmp_path):
    folder = published("chartqa")
    drawn = {}
    for size in (1, 3):
        suite = with_task("chartqa", folder, {"seed": size, "train": 2, "test": 2})
        rows, _ = prepared(suite, "chartqa", tmp_path / str(size))
        drawn[size] = {split: [row["query_id"] for row in rows[split]] for split in get_args(Split)}
        assert [len(drawn[size][split]) for split in get_args(Split)] == [size, 2, 2]
        assert all(
            drawn[size][split] == sorted(drawn[size][split]) for split in get_args(Split)
        )  # published order
    assert set(drawn[1]["seed"]) < set(drawn[3]["seed"])
    assert set(drawn[1]["train"]) == set(drawn[3]["seed"]) - set(drawn[1]["seed"])


@pytest.mark.parametrize("kind", KINDS)
def test_duplicates_of_the_test_split_are_left_out_of_seed_and_train_if_asked(
    kind, published, with_task, tmp_path
):
    suite = with_task(kind, published(kind), duplicates="remove")
    rows, counts = prepared(suite, kind, tmp_path)

    def asked(row):
        return " ".join(row["instruction"].casefold().split()), row["cluster_id"]

    tested = {asked(row) for row in rows["test"]}
    assert not any(asked(row) in tested for split in ("seed", "train") for row in rows[split])
    train, test, duplicates, _ = EXPECTED[kind]
    assert counts["train"]["removed"] == duplicates
    assert len(rows["seed"]) + len(rows["train"]) == train - duplicates
    assert len(rows["test"]) == test


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_the_test_split_are_left_out_of_seed_and_train_if_asked(
    kind, published, with_task, tmp_path
):
    folder = published(kind)
    train, _, _, shared = EXPECTED[kind]
    kept, told = prepared(with_task(kind, folder), kind, tmp_path / "keep")
    suite = with_task(kind, folder, {"seed": 1}, shared_images="drop")
    rows, counts = prepared(suite, kind, tmp_path / "drop")

    def pictures(*splits):
        return {row["cluster_id"] for split in splits for row in rows[split]}

    assert not pictures("seed", "train") & pictures("test")
    assert len(rows["seed"]) + len(rows["train"]) == train - shared
    assert rows["test"] == kept["test"]
    for found, dropped in ((told, 0), (counts, shared)):
        seed, trained = found["seed"], found["train"]
        assert seed["shared_images"] == trained["shared_images"] == shared
        assert seed["shared_dropped"] == trained["shared_dropped"] == dropped
        assert seed["shared_kept"] + trained["shared_kept"] == shared - dropped
    assert "shared_kept" not in counts["test"]


def test_a_picture_is_the_same_under_another_name_and_in_another_format_without_loss(tmp_path, with_task):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8))
    lying = Image.Exif()
    lying[0x0112] = 6
    see_through = upright.copy()
    see_through.putalpha(255)
    forms = [
        *((upright, {"format": kind}) for kind in ("PNG", "BMP", "TIFF", "PPM")),
        (upright, {"format": "WEBP", "lossless": True}),
        (upright.transpose(Image.Transpose.ROTATE_90), {"format": "PNG", "exif": lying}),
        (see_through, {"format": "PNG"}),
    ]
    cells = []
    for number, (picture, options) in enumerate(forms):
        buffer = io.BytesIO()
        picture.save(buffer, **options)
        cells.append({"bytes": buffer.getvalue(), "path": f"{number}.img"})
    train = [
        {"image": cell, "question": f"is this sign {n}?", "answer": "no"} for n, cell in enumerate(cells)
    ]
    others = [{"image": files.cell(n), "question": "is it?", "answer": "no"} for n in range(2)]
    test = [{"image": cells[0], "question": "is there a fracture?", "answer": "no"}]
    for split, rows in (("train", train + others), ("test", test)):
        files.write_parquet(tmp_path / f"published/{split}.parquet", rows, files.VQA_RAD)
    suite = with_task("vqa-rad", tmp_path / "published", {"seed": 1}, shared_images="drop")
    _, counts = prepared(suite, "vqa-rad", tmp_path / "results")
    assert counts["train"]["shared_images"] == counts["train"]["shared_dropped"] == len(forms)


def test_where_every_picture_is_shared_the_error_says_what_keeps_them(tmp_path, with_task):
    rows = [{"image": files.cell(1), "question": f"sign {n}?", "answer": "no"} for n in range(3)]
    for split in ("train", "test"):
        files.write_parquet(tmp_path / f"published/{split}.parquet", rows, files.VQA_RAD)
    suite = with_task("vqa-rad", tmp_path / "published", {"seed": 1}, shared_images="drop")
    with pytest.raises(VistaError, match=r"there are 0 queries .* set shared_images: keep"):
        prepared(suite, "vqa-rad", tmp_path / "results")


def test_one_shared_picture_of_several_is_enough(tmp_path, with_task):
    cells = [files.cell(n) for n in range(5)]
    train = [
        {"images": cells[a : a + 2], "problem": f"<image> <image> Find $x_{a}$.", "answer": "2"}
        for a in range(4)
    ]
    test = [{"images": [cells[4], cells[0]], "problem": "<image> <image> Find $y$.", "answer": "3"}]
    for split, rows in (("train", train), ("test", test)):
        files.write_parquet(tmp_path / f"published/{split}.parquet", rows, files.GEOMETRY3K)
    suite = with_task("geometry3k", tmp_path / "published", {"seed": 1}, shared_images="drop")
    rows, counts = prepared(suite, "geometry3k", tmp_path / "results")
    assert len(rows["seed"]) + len(rows["train"]) == counts["train"]["shared_dropped"] == 2


def test_answers_in_words_to_what_asks_for_a_formula_are_counted(tmp_path, with_task):
    golds = [r"5 \sqrt { 2 }", "2 : 3 : 4", r"\frac { a b } { 2 }", r"6 \text { m }", "(3, 4)"]
    words = ["A D and B E", "angles 2,3, 6, and 7", r"\angle 3 \cong \angle Z"]
    rows = [
        {"images": [files.cell(n)], "problem": "<image>What?", "answer": answer}
        for n, answer in enumerate([*golds, *words])
    ]
    for split in ("train", "test"):
        files.write_parquet(tmp_path / f"published/{split}.parquet", rows, files.GEOMETRY3K)
    suite = with_task("geometry3k", tmp_path / "published", {"seed": 1})
    _, counts = prepared(suite, "geometry3k", tmp_path / "results")
    assert counts["test"]["in_words"] == len(words)


def test_questions_on_one_picture_share_a_cluster_however_it_is_encoded(published, with_task, tmp_path):
    folder = published("slake")
    rows, _ = prepared(with_task("slake", folder), "slake", tmp_path)
    clusters = [row["cluster_id"] for row in rows["test"]]
    assert clusters[0] == clusters[1] != clusters[2] == clusters[3]
    with Image.open(io.BytesIO(rows["test"][0]["images"][0]["bytes"])) as opened:
        picture = opened.convert("RGB")
    pixels = f"{picture.width}x{picture.height} ".encode() + picture.tobytes()
    assert clusters[0] == hashlib.sha256(pixels).hexdigest()[:16]


def test_slake_images_may_be_zipped_or_unpacked(published, with_task, tmp_path):
    files.write_slake(tmp_path / "unpacked", zipped=False)
    zipped, _ = prepared(with_task("slake", published("slake")), "slake", tmp_path / "a")
    unpacked, _ = prepared(with_task("slake", tmp_path / "unpacked"), "slake", tmp_path / "b")
    assert zipped == unpacked


@pytest.mark.parametrize("kind", ["geometry3k", "geometry3k-choice"])
def test_the_authors_folders_of_geometry3k_give_the_same_queries(kind, published, with_task, tmp_path):
    files.write_authors_geometry3k(tmp_path / "folders")
    parquet, _ = prepared(with_task(kind, published(kind)), kind, tmp_path / "a")
    folders, _ = prepared(with_task(kind, tmp_path / "folders"), kind, tmp_path / "b")
    assert folders == parquet
    assert folders["test"][1]["query_id"] == f"{kind}-test-00001"


def test_slake_keeps_english_questions_and_counts_those_without_an_answer(published, with_task, tmp_path):
    rows, counts = prepared(with_task("slake", published("slake")), "slake", tmp_path)
    assert [row["query_id"] for row in rows["test"]] == [f"slake-test-{n}" for n in (90, 92, 93, 94)]
    assert [row["answer_type"] for row in rows["test"]] == ["closed", "term", "term", "closed"]
    assert counts["train"]["unanswered"] == 1
    assert counts["train"]["other"] == counts["test"]["other"] == 1


def test_only_yes_no_questions_are_kept_if_asked(published, with_task, tmp_path):
    for kind, test in (("slake", 2), ("vqa-rad", 2)):
        suite = with_task(kind, published(kind), questions="yes-no")
        rows, _ = prepared(suite, kind, tmp_path)
        assert len(rows["test"]) == test
        assert {row["answer"].lower() for split in get_args(Split) for row in rows[split]} <= {"yes", "no"}
        assert {row["answer_type"] for split in get_args(Split) for row in rows[split]} == {"closed"}


def test_repeated_rows_within_a_split_are_counted(published, with_task, tmp_path):
    _, counts = prepared(with_task("vqa-rad", published("vqa-rad")), "vqa-rad", tmp_path)
    assert counts["train"]["repeated"] == 1
    assert counts["test"]["repeated"] == 0


def test_scienceqa_has_questions_with_an_image_with_context_and_letters(published, with_task, tmp_path):
    rows, counts = prepared(with_task("scienceqa", published("scienceqa")), "scienceqa", tmp_path)
    first, second = rows["test"]
    assert counts["test"]["other"] == 1
    assert (first["answer"], second["answer"]) == ("A", "C")
    assert second["query_id"] == "scienceqa-test-00002"  # the row's place in the published file
    assert second["instruction"].startswith(
        "Context: Look at the table.\nWhat can it do?\nA. West Virginia\nB. Louisiana\nC. Arizona\n"
    )
    assert second["choices"] == ["West Virginia", "Louisiana", "Arizona"]


def test_the_image_subset_and_chart_files_that_lmms_eval_reads_serve_as_well(with_task, tmp_path):
    science = tmp_path / "science"
    rows = [row for row in files.scienceqa_rows("test") if row["image"]]
    path = science / "ScienceQA-IMG/test-00000-of-00001-f0b8.parquet"
    files.write_parquet(path, rows, files.SCIENCEQA)
    generate_split(with_task("scienceqa", science), Paths(tmp_path), "scienceqa", "test")
    assert len(read_queries(Paths(tmp_path).queries("scienceqa", "test"))) == 2
    charts = tmp_path / "charts"
    rows = [
        {"type": "human_test", "question": row["query"], "answer": row["label"][0], "image": row["image"]}
        for row in files.chartqa_rows("test")
    ]
    schema = files.pa.schema(
        [(name, files.pa.string()) for name in ("type", "question", "answer")] + [("image", files.IMAGE)]
    )
    files.write_parquet(charts / "data/test-00000-of-00001-e2cd0b7a0f9eb20d.parquet", rows, schema)
    generate_split(with_task("chartqa", charts), Paths(tmp_path), "chartqa", "test")
    answers = [row["answer"] for row in read_queries(Paths(tmp_path).queries("chartqa", "test"))]
    assert answers == ["14", "No", "0.57"]


def test_the_test_split_needs_no_train_files(published, with_task, tmp_path):
    for kind in KINDS:
        folder = published(kind)
        for path in [*folder.rglob("train*.parquet"), *folder.glob("train.json")]:
            path.unlink()
        generate_split(with_task(kind, folder), Paths(tmp_path), kind, "test")
        assert len(read_queries(Paths(tmp_path).queries(kind, "test"))) == EXPECTED[kind][1]


def test_the_hubs_cache_serves_without_a_network(published, with_task, tmp_path, monkeypatch):
    """A snapshot as the hub library lays it out, found by repository and revision."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "cache"
    snapshot = cache / "datasets--flaviagiammarino--vqa-rad/snapshots" / revision
    shutil.copytree(published("vqa-rad"), snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))

    def no_network(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    source = {"kind": "hub", "repo": "flaviagiammarino/vqa-rad", "revision": revision}
    suite = with_task("vqa-rad", tmp_path, source=source)
    rows, _ = prepared(suite, "vqa-rad", tmp_path)
    assert len(rows["test"]) == 3
    recorded = read_manifest(Paths(tmp_path).queries("vqa-rad", "test")).inputs
    assert [path.rsplit("/", 1)[1] for path in recorded] == ["test-00000-of-00001-eb8844602202be60.parquet"]
