"""Published accuracies stand beside the reproduced ones, each where it belongs."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.conftest import World, make_suite
from vista.analysis.collect import collect
from vista.analysis.reported import read_reported
from vista.analysis.tables import results_tables
from vista.config import Suite, load_suite
from vista.errors import VistaError
from vista.grid import Run
from vista.paths import Paths, manifest_of

HEADER = "model,method,round,task,accuracy,source"
SOURCE = "arXiv 0000.00000"


def write(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *(f"{row},{SOURCE}" for row in rows)]) + "\n")
    return path


def beside(suite: Suite) -> list[dict[str, str]]:
    """``reported.csv`` of a suite whose runs get a third of the answers right."""
    paths = Paths(suite.results)
    World(suite, paths).fill(score)
    collect(suite, paths)
    results_tables(suite, paths)
    with paths.table("reported", "csv").open() as file:
        return list(csv.DictReader(file))


def score(run: Run, task: str, index: int) -> float:
    """easy: 2 of 4 right, one on each image; hard: the first 3 of 6; far: all wrong."""
    return {"easy": float(index % 2), "hard": float(index < 3), "far": 0.0}[task]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(
        tmp_path / "reported.csv",
        "nano-b,rest-em,2,easy,40.00",
        "nano-b,rest-em,2,hard,60.00",
        "nano-b,rest-em,2,mean,50.10",
        "nano-b,r3v,2,easy,70.00",
        "another,rest-em,2,easy,30.00",
    )


def test_each_reported_number_of_the_suites_models_has_a_row(tmp_path: Path, file: Path) -> None:
    rows = beside(make_suite(tmp_path / "results", reported=file))
    assert [(row["model"], row["method"], row["task"]) for row in rows] == [
        ("nano-b", "rest-em", "easy"),
        ("nano-b", "rest-em", "hard"),
        ("nano-b", "rest-em", "mean"),
        ("nano-b", "r3v", "easy"),
    ]
    easy, hard, mean, r3v = rows
    assert (easy["reproduced"], easy["reported"], easy["difference"]) == ("50.00", "40.00", "10.00")
    assert (hard["reproduced"], hard["reported"], hard["difference"]) == ("50.00", "60.00", "-10.00")
    assert (mean["reproduced"], mean["reported"], mean["difference"]) == ("50.00", "50.10", "-0.10")
    assert easy["source"] == SOURCE
    # A method that the suite lacks keeps its reported number, and no other.
    assert (r3v["reported"], r3v["reproduced"], r3v["difference"], r3v["seed"]) == ("70.00", "", "", "")


def test_the_interval_is_that_of_the_main_table(tmp_path: Path, file: Path) -> None:
    suite = make_suite(tmp_path / "results", reported=file)
    easy, hard, mean = beside(suite)[:3]
    # easy: each image has one right answer of two, so the images agree exactly.
    assert (easy["low"], easy["high"]) == ("50.00", "50.00")
    # hard: images of 2, 1 and 0 right answers of 2: the first (or the last) is drawn three times in 1 of 27.
    assert (hard["low"], hard["high"]) == ("0.00", "100.00")
    with Paths(suite.results).table("main", "csv").open(newline="") as opened:
        (main,) = [
            row
            for row in csv.DictReader(opened)
            if (row["model"], row["method"], row["round"]) == ("nano-b", "rest-em", mean["round"])
        ]
    assert (mean["low"], mean["high"]) == (main["low"], main["high"])
    assert mean["low"] < mean["reproduced"] < mean["high"]


def test_a_checkpoint_for_each_task_has_its_mean_over_the_checkpoints(tmp_path: Path, file: Path) -> None:
    train_sets = {"first": ["easy"], "second": ["hard"]}
    rows = beside(make_suite(tmp_path / "results", reported=file, train_sets=train_sets))
    assert [(row["train_set"], row["task"], row["reproduced"]) for row in rows[:3]] == [
        ("first", "easy", "50.00"),
        ("second", "hard", "50.00"),
        ("first + second", "mean", "50.00"),
    ]


def test_a_mean_over_other_tasks_than_the_reported_one_is_not_compared(tmp_path: Path, file: Path) -> None:
    suite = make_suite(tmp_path / "results", reported=file, train_sets={"first": ["easy"]})
    mean = next(row for row in beside(suite) if row["task"] == "mean")
    assert (mean["reported"], mean["reproduced"]) == ("50.10", "")


def test_every_seed_has_a_row(tmp_path: Path, file: Path) -> None:
    rows = beside(make_suite(tmp_path / "results", reported=file, seeds=[0, 1]))
    assert [row["seed"] for row in rows if row["task"] == "easy" and row["method"] == "rest-em"] == ["0", "1"]


def test_the_markdown_tables_show_the_reported_numbers(tmp_path: Path, file: Path) -> None:
    suite = make_suite(tmp_path / "results", reported=file)
    beside(suite)
    paths = Paths(suite.results)
    text = paths.table("reported", "md").read_text()
    assert SOURCE in text
    assert "+10.00" in text
    header, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in paths.table("main", "md").read_text().splitlines()
        if line.startswith("|")
    ]
    found = {
        (row[0], row[1], row[2]): row[header.index("reported")] for row in rows if len(row) == len(header)
    }
    assert found["nano-b", "rest-em", "2"] == "50.10"
    assert found["nano-b", "rest-em", "1"] == ""


def test_every_table_has_its_manifest_and_none_is_written_without_reported_numbers(
    tmp_path: Path, file: Path, world: World
) -> None:
    suite = make_suite(tmp_path / "beside", reported=file)
    beside(suite)
    for suffix in ("csv", "md"):
        assert manifest_of(Paths(suite.results).table("reported", suffix)).is_file()
    collect(world.suite, world.paths)
    results_tables(world.suite, world.paths)
    assert not world.paths.table("reported", "csv").exists()
    assert "reported" not in world.paths.table("main", "md").read_text()


def test_every_mistake_in_the_file_is_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "wrong.csv",
        "m,a,1,easy,40.0",
        "m,a,1,easy,41.0",
        "m,a,one,hard,40.0",
        "m,a,1,hard,140",
        "m,a,2,hard,",
    )
    with pytest.raises(VistaError) as caught:
        read_reported(path)
    text = str(caught.value)
    assert "line 3: m/a/1/easy is in an earlier line already" in text
    assert "line 4: round: expected a whole number, found 'one'" in text
    assert "line 5: accuracy: expected a percentage, found '140'" in text
    assert "line 6: accuracy: empty" in text
    path.write_text("model,accuracy\nm,4\n")
    with pytest.raises(VistaError, match="expected the columns"):
        read_reported(path)
    with pytest.raises(VistaError, match="no such file"):
        read_reported(tmp_path / "nowhere.csv")


def test_the_papers_numbers_are_under_the_names_of_its_suite_and_their_means_agree(root: Path) -> None:
    suite = load_suite(root / "config/paper.yaml", root=root)
    assert suite.reported is not None
    frame = read_reported(root / suite.reported)
    assert set(frame["model"]) <= set(suite.models)
    assert set(frame["task"]) == {*suite.train_sets, "mean"}
    assert set(frame["method"]) <= set(suite.methods)
    wide = frame.pivot(index=["model", "method", "round"], columns="task", values="accuracy")
    stated = wide.dropna()
    assert len(stated) == 6
    computed = stated[list(suite.train_sets)].mean(axis="columns")
    pd.testing.assert_series_equal(computed, stated["mean"], atol=0.005, rtol=0, check_names=False)
