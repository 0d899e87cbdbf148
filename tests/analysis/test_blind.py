"""What an image adds: questions about their own images and about others, against a recount in plain loops."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.analysis.conftest import MODELS, World, make_suite
from tests.analysis.test_tables import recount, tabulate_all
from tests.documents import undocumented
from vista.analysis.blind import BLIND_COLUMNS
from vista.analysis.plan import results_names
from vista.config import Suite
from vista.config.tables import table_problems
from vista.grid import Run
from vista.paths import Paths

Row = dict[str, str]
Score = Callable[[Run, str, int], float]
KEYS = ("model", "method", "round")


def blind_suite(results: Path, of: str = "hard", test: int = 6, **changes: Any) -> Suite:
    """The suite of the other tests, with a task that asks another's questions blindly."""
    tasks = {name: task.model_dump() for name, task in make_suite(results).tasks.items()}
    sizes = {"seed": 0, "train": 0, "test": test}
    blind = {"kind": "blind", "of": of, "sizes": sizes, "original": tasks[of]}
    changes = {"out_of_domain": ["far", "unseen"], "seeds": [0, 1]} | changes
    return make_suite(results, tasks=tasks | {"unseen": blind}, **changes)


def tabled(suite: Suite, score: Score, *lacking: Run) -> list[Row]:
    world = World(suite, Paths(suite.results)).fill(score)
    for run in lacking:
        world.no_positives(run)
    tabulate_all(world)
    with world.paths.table("blind", "csv").open(newline="") as file:
        return list(csv.DictReader(file))


def seeded(run: Run, task: str, index: int) -> float:
    """Right by chance, more often with the image."""
    return float(Random(f"{run.id}/{task}/{index}").random() < (0.4 if task == "unseen" else 0.7))


def graded(run: Run, task: str, index: int) -> float:
    return Random(f"{run.id}/{task}/{index}").choice([0.0, 0.25, 0.5, 1.0])


@pytest.mark.parametrize("score", [seeded, graded])
@pytest.mark.parametrize("test", [6, 4])
def test_a_row_is_what_plain_loops_count(tmp_path: Path, score: Score, test: int) -> None:
    suite = blind_suite(tmp_path, test=test)
    rows = tabled(suite, score)
    world = World(suite, Paths(suite.results))
    assert len(rows) == len(MODELS) * len(suite.methods)
    for row in rows:
        own, other, kept = [], [], []
        seeds = [0] if row["method"] == "zero-shot" else suite.seeds
        for seed in seeds:
            answers = recount(world, Run(row["model"], "both", row["method"], seed, int(row["round"])))
            both = [
                (answers["hard"][f"hard-{index}"][1], answers["unseen"][f"unseen-hard-{index}"][1])
                for index in range(test)
            ]
            own.append(100 * sum(with_it for with_it, _ in both) / test)
            other.append(100 * sum(without for _, without in both) / test)
            if own[-1]:
                kept.append(100 * sum(map(min, both)) / sum(with_it for with_it, _ in both))
        assert (row["task"], row["blind"], row["image"]) == ("hard", "unseen", "other")
        assert (row["seeds"], row["n_test"]) == (str(len(seeds)), str(test))
        assert float(row["accuracy"]) == pytest.approx(statistics.mean(own), abs=0.0051)
        assert float(row["blind_accuracy"]) == pytest.approx(statistics.mean(other), abs=0.0051)
        assert float(row["kept"]) == pytest.approx(statistics.mean(kept), abs=0.0051)
        added = statistics.mean(own) - statistics.mean(other)
        assert float(row["added"]) == pytest.approx(added, abs=0.0051)
        assert float(row["added_low"]) <= float(row["added"]) <= float(row["added_high"])


def test_every_method_is_there_in_its_last_round_in_the_order_of_the_suite(tmp_path: Path) -> None:
    rows = tabled(blind_suite(tmp_path), seeded)
    last = {"zero-shot": "0", "sft-seed": "0", "rest-em": "2", "vista-sft": "2", "dpo": "1"}
    expected = [(model, method, number) for model in MODELS for method, number in last.items()]
    assert [tuple(row[key] for key in KEYS) for row in rows] == expected


def test_a_model_that_needs_no_image_gains_nothing_from_it(tmp_path: Path) -> None:
    rows = tabled(blind_suite(tmp_path), lambda run, task, index: float(index % 2))
    for row in rows:
        assert (row["added"], row["kept"]) == ("0.00", "100.00")
        assert row["p_holm"] in ("1.0000", "")  # of the base model none, as it has one run and the others two


def test_where_nothing_is_right_no_share_of_it_is_kept(tmp_path: Path) -> None:
    rows = tabled(blind_suite(tmp_path), lambda run, task, index: float(task == "unseen"))
    assert {(row["accuracy"], row["blind_accuracy"], row["kept"]) for row in rows} == {("0.00", "100.00", "")}


def test_a_run_without_a_result_says_so_and_counts_as_missing(tmp_path: Path) -> None:
    lost = [Run("nano-a", "both", "dpo", seed, 1) for seed in (0, 1)]
    half = Run("nano-b", "both", "dpo", 1, 1)
    suite = blind_suite(tmp_path)
    rows = {(row["model"], row["method"]): row for row in tabled(suite, seeded, *lost, half)}
    gone, there = rows["nano-a", "dpo"], rows["nano-b", "dpo"]
    assert (gone["status"], gone["seeds"], gone["missing"], gone["added"]) == ("no-positives", "0", "2", "")
    assert (there["status"], there["seeds"], there["missing"]) == ("partial", "1", "1")
    page = Paths(suite.results).table("blind", "md").read_text()
    assert [line for line in page.splitlines() if "no-positives" in line and "nano-a" in line]


def test_only_suites_that_ask_the_questions_both_ways_have_the_table(tmp_path: Path) -> None:
    both = blind_suite(tmp_path)
    assert "blind" in results_names(both)
    alone = blind_suite(tmp_path, of="far", test=3, out_of_domain=["unseen"])
    assert not [suite for suite in (make_suite(tmp_path), alone) if "blind" in results_names(suite)]
    refused = blind_suite(tmp_path, of="far", test=3, out_of_domain=["unseen"], tables=["blind"])
    (problem,) = table_problems(refused, "suite.yaml")
    assert "tables.blind: the suite has no such table" in problem
    assert table_problems(blind_suite(tmp_path, tables=["blind"]), "suite.yaml") == []


def test_every_column_is_documented(root: Path) -> None:
    assert undocumented(root, BLIND_COLUMNS) == []
