"""Bad benchmark files are refused before anything is written: file, row or column, and remedy."""

from __future__ import annotations

import json

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


@pytest.mark.parametrize(
    ("kind", "change", "named"),
    [
        ("scienceqa", {"answer": -1}, "column 'answer' is -1, but there are 3 choices"),
        ("scienceqa", {"answer": None}, "column 'answer' is null"),
        ("scienceqa", {"question": " "}, "the question is empty"),
        ("geometry3k-choice", {"ground_truth": "60"}, "column 'ground_truth' is '60'"),
        ("geometry3k-choice", {"ground_truth": None}, "answer is empty"),
        ("geometry3k", {"answer": ""}, "answer is empty"),
        ("chartqa", {"label": []}, "column 'label' is [], expected a list of one answer"),
    ],
)
def test_an_answer_that_is_wrong_for_its_type(kind, change, named, refused, published):
    rows, schema = {
        "scienceqa": (files.scienceqa_rows, files.SCIENCEQA),
        "geometry3k-choice": (files.geometry3k_choice_rows, files.GEOMETRY3K_CHOICE),
        "geometry3k": (files.geometry3k_rows, files.GEOMETRY3K),
        "chartqa": (files.chartqa_rows, files.CHARTQA),
    }[kind]
    folder = published(kind)
    changed = rows("test")
    changed[2] = {**changed[2], **change}
    rewrite(folder, changed, schema)
    message = refused(kind, folder)
    assert "parquet: row 2: " in message
    assert named in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"answer": "F"}, "data.json: column 'answer' is 'F', expected the letter of one of 4 choices"),
        ({"annotat_text": ""}, "data.json: the question is empty"),
    ],
)
def test_a_problem_in_the_authors_layout(change, named, refused, tmp_path):
    files.write_authors_geometry3k(tmp_path / "folders")
    path = tmp_path / "folders/test/2402/data.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert f"2402/{named}" in refused("geometry3k", tmp_path / "folders")


def test_a_split_of_chinese_questions_alone(refused, published):
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
