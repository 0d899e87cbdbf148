"""Bad benchmark files are refused before anything is written: file, row or column, and remedy."""

from __future__ import annotations

import json
import zipfile

import pyarrow as pa
import pytest

from tests.tasks import published as files
from vista.errors import VistaError
from vista.paths import Paths
from vista.tasks.generate import generate_split


@pytest.fixture
def refused(with_task, tmp_path):
    """Tries to prepare a split of a benchmark; gives the error, and makes sure that nothing was written."""

    def attempt(kind, folder, split="test", **settings):
        output = Paths(tmp_path / "results")
        with pytest.raises(VistaError) as raised:
            generate_split(with_task(kind, folder, **settings), output, kind, split)
        assert not output.results.exists()
        return str(raised.value)

    return attempt


def rewrite(folder, rows, schema, split="test"):
    """Replace the rows of a parquet split."""
    (path,) = folder.glob(f"data/{split}-*.parquet")
    files.write_parquet(path, rows, schema)


def test_a_missing_folder(refused, tmp_path):
    message = refused("slake", tmp_path / "nowhere")
    assert f"task 'slake': source.path {tmp_path / 'nowhere'}: no such folder" in message


@pytest.mark.parametrize(
    ("kind", "pattern", "named"),
    [
        ("slake", "test.json", "no file test.json"),
        ("slake", "imgs.zip", "no file imgs.zip or imgs/*/source.jpg"),
        ("vqa-rad", "data/test-*", "no file data/test-*.parquet or test-*.parquet or test.parquet"),
    ],
)
def test_a_missing_file(kind, pattern, named, refused, published):
    folder = published(kind)
    for path in folder.glob(pattern):
        path.unlink()
    assert named in refused(kind, folder)


def test_a_set_of_shards_that_is_not_complete(refused, published):
    folder = published("chartqa")
    next(folder.glob("data/train-00001-of-*")).unlink()
    assert "1 of the 2 files data/train-*.parquet" in refused("chartqa", folder, "train")


def test_a_missing_column_names_the_columns_that_are_there(refused, published):
    folder = published("vqa-rad")
    schema = pa.schema([("image", files.IMAGE), ("query", pa.string()), ("answer", pa.string())])
    rows = [{"image": files.cell(1), "query": "is it?", "answer": "no"}]
    rewrite(folder, rows, schema)
    message = refused("vqa-rad", folder)
    assert "test-00000-of-00001-eb8844602202be60.parquet: column 'question' is missing" in message
    assert "it has image, query, answer" in message


def test_a_column_of_another_type(refused, published):
    folder = published("scienceqa")
    schema = files.SCIENCEQA.set(3, pa.field("answer", pa.string()))
    rewrite(folder, [{**files.scienceqa_rows("test")[0], "answer": "A"}], schema)
    assert "column 'answer' is of type string, expected integer" in refused("scienceqa", folder)


def test_the_other_form_of_geometry3k(refused, published):
    assert "column 'choices' is missing; column 'ground_truth' is missing" in refused(
        "geometry3k-choice", published("geometry3k")
    )


def test_json_rows_that_lack_a_column_or_hold_another_type(refused, published):
    folder = published("slake")
    rows = files.slake_rows("test")
    del rows[1]["q_lang"]
    (folder / "test.json").write_text(json.dumps(rows))
    assert "test.json: row 1: column 'q_lang' is missing" in refused("slake", folder)
    rows = files.slake_rows("test")
    rows[2]["answer"] = 7
    (folder / "test.json").write_text(json.dumps(rows))
    assert "test.json: row 2: column 'answer' is 7, expected str" in refused("slake", folder)


@pytest.mark.parametrize("text", ["{", '{"data": []}', "[1]"])
def test_json_that_is_no_list_of_rows(text, refused, published):
    folder = published("slake")
    (folder / "test.json").write_text(text)
    assert "test.json" in refused("slake", folder)


def test_a_file_that_is_no_parquet_or_no_zip(refused, published):
    folder = published("chartqa")
    next(folder.glob("data/test-*")).write_text("version https://git-lfs.github.com/spec/v1")
    assert "not a readable parquet file" in refused("chartqa", folder)
    folder = published("slake")
    (folder / "imgs.zip").write_text("version https://git-lfs.github.com/spec/v1")
    assert "imgs.zip: not a readable zip file" in refused("slake", folder)


def test_unreadable_images_are_all_named(refused, published):
    folder = published("vqa-rad")
    rows = files.vqa_rad_rows("test")
    rows[0]["image"] = {"bytes": b"no image", "path": None}
    rows[2]["image"] = {"bytes": files.picture(2)[:200], "path": None}
    rewrite(folder, rows, files.VQA_RAD)
    message = refused("vqa-rad", folder)
    assert "parquet: row 0: the image cannot be read" in message
    assert "parquet: row 2: the image cannot be read" in message
    assert "row 1" not in message


def test_an_unreadable_test_image_is_found_when_the_train_split_is_made(refused, published):
    folder = published("vqa-rad")
    rows = files.vqa_rad_rows("test")
    rows[0]["image"] = {"bytes": b"no image", "path": None}
    rewrite(folder, rows, files.VQA_RAD)
    assert "The test split of vqa-rad has errors" in refused("vqa-rad", folder, "train")


@pytest.mark.parametrize("cell", [None, {"bytes": None, "path": "images/3.png"}])
def test_an_image_that_is_null_or_only_named(cell, refused, published):
    folder = published("chartqa")
    rows = files.chartqa_rows("test")
    rows[1]["image"] = cell
    rewrite(folder, rows, files.CHARTQA)
    assert "row 1: column 'image' holds no image" in refused("chartqa", folder)


def test_an_image_that_the_archive_lacks(refused, published):
    folder = published("slake")
    (folder / "imgs.zip").unlink()
    with zipfile.ZipFile(folder / "imgs.zip", "w") as archive:
        archive.writestr("imgs/xmlab2/source.jpg", files.picture(1))
    message = refused("slake", folder)
    assert "test.json: row 0: column 'img_name': no image imgs/xmlab1/source.jpg" in message


def test_a_problem_without_an_image(refused, published):
    folder = published("geometry3k")
    rows = files.geometry3k_rows("test")
    rows[3]["images"] = []
    rewrite(folder, rows, files.GEOMETRY3K)
    assert "row 3: there is no image" in refused("geometry3k", folder)


@pytest.mark.parametrize(
    ("kind", "change", "named"),
    [
        ("scienceqa", {"answer": 3}, "column 'answer' is 3, but there are 3 choices"),
        ("scienceqa", {"answer": -1}, "column 'answer' is -1, but there are 3 choices"),
        ("scienceqa", {"answer": None}, "column 'answer' is null"),
        ("scienceqa", {"question": " "}, "the question is empty"),
        ("geometry3k-choice", {"ground_truth": "E"}, "column 'ground_truth' is 'E'"),
        ("geometry3k-choice", {"ground_truth": "60"}, "column 'ground_truth' is '60'"),
        ("geometry3k-choice", {"ground_truth": None}, "answer is empty"),
        ("geometry3k", {"answer": ""}, "answer is empty"),
        ("chartqa", {"label": ["1", "2"]}, "column 'label' is ['1', '2'], expected a list of one answer"),
        ("chartqa", {"label": []}, "column 'label' is [], expected a list of one answer"),
        ("vqa-rad", {"answer": None}, "answer is empty"),
    ],
)
def test_an_answer_that_is_wrong_for_its_type(kind, change, named, refused, published):
    rows, schema = {
        "scienceqa": (files.scienceqa_rows, files.SCIENCEQA),
        "geometry3k-choice": (files.geometry3k_choice_rows, files.GEOMETRY3K_CHOICE),
        "geometry3k": (files.geometry3k_rows, files.GEOMETRY3K),
        "chartqa": (files.chartqa_rows, files.CHARTQA),
        "vqa-rad": (files.vqa_rad_rows, files.VQA_RAD),
    }[kind]
    folder = published(kind)
    changed = rows("test")
    changed[2] = {**changed[2], **change}
    rewrite(folder, changed, schema)
    message = refused(kind, folder)
    assert "parquet: row 2: " in message
    assert named in message


def test_slake_answer_types_and_ids_that_cannot_be(refused, published):
    folder = published("slake")
    rows = files.slake_rows("test")
    rows[0]["answer_type"] = "open-ended"
    rows[3]["qid"] = rows[2]["qid"]
    (folder / "test.json").write_text(json.dumps(rows))
    message = refused("slake", folder)
    assert "row 0: column 'answer_type' is 'open-ended', expected OPEN or CLOSED" in message
    assert "row 3: id '92' already stands in an earlier row" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"answer": "F"}, "data.json: column 'answer' is 'F', expected the letter of one of 4 choices"),
        ({"choices": "1, 2"}, "data.json: column 'choices' is '1, 2', expected list"),
        ({"annotat_text": ""}, "data.json: the question is empty"),
    ],
)
def test_a_problem_in_the_authors_layout(change, named, refused, tmp_path):
    files.write_authors_geometry3k(tmp_path / "folders")
    path = tmp_path / "folders/test/2402/data.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert f"2402/{named}" in refused("geometry3k", tmp_path / "folders")


def test_a_problem_in_the_authors_layout_without_its_picture(refused, tmp_path):
    files.write_authors_geometry3k(tmp_path / "folders")
    (tmp_path / "folders/test/2403/img_diagram.png").unlink()
    assert "2403/img_diagram.png: no such image" in refused("geometry3k-choice", tmp_path / "folders")


def test_an_empty_split(refused, published):
    folder = published("chartqa")
    rewrite(folder, [], files.CHARTQA)
    assert "the test split of chartqa is empty: its files have no rows" in refused("chartqa", folder)
    folder = published("slake")
    rows = [row for row in files.slake_rows("test") if row["q_lang"] == "zh"]
    (folder / "test.json").write_text(json.dumps(rows))
    assert "none of its 1 rows is a question of this task" in refused("slake", folder)


def test_only_the_first_twenty_problems_are_listed(refused, published):
    folder = published("chartqa")
    rows = [{**files.chartqa_rows("test")[0], "image": None} for _ in range(50)]
    rewrite(folder, rows, files.CHARTQA)
    message = refused("chartqa", folder)
    assert message.count("holds no image") == 20
    assert "reading stopped here" in message


@pytest.mark.parametrize(
    ("sizes", "split", "named"),
    [
        ({"seed": 2, "test": 9}, "test", "sizes.test asks for 9, but there are 3 queries"),
        ({"seed": 8}, "seed", "sizes.seed asks for 8, but there are 7 queries"),
        ({"seed": 4, "train": 4}, "train", "asks for 4 (seed) + 4 (train), but there are 7 queries"),
        ({"seed": 7}, "train", "asks for 7 (seed) + None (train), but there are 7 queries"),
    ],
)
def test_sizes_that_ask_for_more_than_is_published(sizes, split, named, refused, published):
    assert named in refused("chartqa", published("chartqa"), split, sizes=sizes)


def test_a_hub_that_cannot_be_reached(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = {"kind": "hub", "repo": "BoKelvin/SLAKE", "revision": "a" * 40}
    message = refused("slake", tmp_path, source=source)
    assert "data set BoKelvin/SLAKE at aaaaaaaaaa: not in the cache, and the hub cannot be reached" in message
    assert f"hf download --repo-type dataset BoKelvin/SLAKE --revision {'a' * 40}" in message
    assert "set source: {kind: path, path: FOLDER}" in message


def test_a_snapshot_in_the_cache_that_lacks_a_file_without_a_network(
    refused, published, tmp_path, monkeypatch
):
    cache = tmp_path / "cache"
    snapshot = cache / "datasets--BoKelvin--SLAKE/snapshots" / ("b" * 40)
    snapshot.parent.mkdir(parents=True)
    published("slake").rename(snapshot)
    (snapshot / "imgs.zip").unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = {"kind": "hub", "repo": "BoKelvin/SLAKE", "revision": "b" * 40}
    message = refused("slake", tmp_path, source=source)
    assert "no file imgs.zip" in message
    assert "hf download" in message
