"""The table of resolution: what a difference's variance is made of, and what its test finds."""

from __future__ import annotations

import csv
import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.conftest import World
from tests.analysis.test_ablation import ablation_suite, scattered
from tests.documents import undocumented
from vista.analysis.ablation import ablation_table
from vista.analysis.collect import collect, in_domain, read_long, scores_by_run
from vista.analysis.power import Variances, seeds_in_common, smallest_difference
from vista.analysis.resolution import (
    COLUMNS,
    NOTE_ON_BOUND,
    PARTS,
    resolution_rows,
    resolution_table,
    taken_apart,
)
from vista.analysis.stats import overall_mean, paired_scores, pooled_difference
from vista.config import Suite
from vista.dag import Dag
from vista.grid import Run, runs
from vista.manifest import Status, read_manifest
from vista.paths import Paths

Table = dict[tuple[str, str, str, str], dict[str, str]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    suite = ablation_suite(tmp_path_factory.mktemp("small"), seeds=[0, 1, 2])
    return World(suite, Paths(suite.results)).fill(scattered)


@pytest.fixture(scope="module")
def rows(small: World) -> Table:
    return table_of(small)


def table_of(world: World) -> Table:
    """Rows by method, reference, model and round."""
    collect(world.suite, world.paths)
    resolution_table(world.suite, world.paths)
    with world.paths.table("resolution", "csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    return {(row["method"], row["against"], row["model"], row["round"]): row for row in found}


def test_the_documentation_explains_every_column(root: Path) -> None:
    assert not undocumented(root, COLUMNS)


def test_the_parts_are_those_that_runs_were_made_of() -> None:
    """Simulated runs with known parts: estimates are right on average."""
    draw, sd = np.random.default_rng(0), {"queries": 20.0, "seeds": 6.0, "tasks": 4.0, "residual": 30.0}
    seeds, queries = 200, 100
    frames = {}
    common = {task: sd["queries"] * draw.normal(size=queries) for task in ("a", "b")}
    for seed in range(seeds):
        alike = sd["seeds"] * draw.normal()
        parts = []
        for task in ("a", "b"):
            score = common[task] + alike + sd["tasks"] * draw.normal()
            score = score + sd["residual"] * draw.normal(size=queries)
            ids = [f"{task}{index}" for index in range(queries)]
            parts.append(
                pd.DataFrame({"task": task, "query_id": ids, "cluster_id": ids, "score": score / 100})
            )
        frames["m", seed] = pd.concat(parts, ignore_index=True)
    found = taken_apart(frames, pooled_difference(frames).variances)
    assert set(found) == set(PARTS)
    assert found["sd_queries"] == pytest.approx(20 / math.sqrt(2 * queries), rel=0.15)
    assert found["sd_residual"] == pytest.approx(30 / math.sqrt(2 * queries), rel=0.1)
    assert found["sd_seeds"] == pytest.approx(6.0, rel=0.2)
    assert found["sd_tasks"] == pytest.approx(4 / math.sqrt(2), rel=0.25)
    whole = statistics.fmean(overall_mean(frame).se ** 2 for frame in frames.values())
    total = whole + pooled_difference(frames).variances.seeds - pooled_difference(frames).variances.residual
    assert sum(value**2 for value in found.values()) == pytest.approx(total * 1e4)


def test_there_is_a_row_for_each_of_the_ablation_table(small: World, rows: Table) -> None:
    ablation_table(small.suite, small.paths)
    with small.paths.table("ablation", "csv").open(newline="") as file:
        others = [
            tuple(row[name] for name in ("method", "against", "model", "round"))
            for row in csv.DictReader(file)
        ]
    assert list(rows) == others


def test_the_variance_between_seeds_is_that_of_all_rows_of_a_model_and_round(rows: Table) -> None:
    own = [row for row in rows.values() if (row["model"], row["round"]) == ("nano-a", "1")]
    (pooled_sd,) = {row["pooled_sd"] for row in own}
    mean = statistics.fmean(float(row["seed_sd"]) ** 2 for row in own)
    assert float(pooled_sd) == pytest.approx(math.sqrt(mean), abs=0.02)
    assert 2.0 < float(own[0]["pooled_df"]) < 2.0 * len(own)


def test_more_seeds_find_smaller_differences(rows: Table) -> None:
    for row in rows.values():
        found = [float(row[name]) for name in ("detectable_3", "detectable_5", "detectable_10")]
        assert found == sorted(found, reverse=True)
        assert row["detectable"] == row["detectable_3"]  # that is how many there are


def test_with_one_seed_the_number_is_a_lower_bound_from_queries_alone(tmp_path: Path) -> None:
    suite = ablation_suite(tmp_path, seeds=[0])
    world = World(suite, Paths(suite.results)).fill(scattered)
    row = table_of(world)["vista-sft", "rest-em", "nano-a", "2"]
    assert row["error"] == "queries"
    assert not any(row[name] for name in ("pooled_sd", "false_alarms", "detectable_3", "seeds_for_1.5"))
    ours, theirs = (Run("nano-a", "both", method, 0, 2) for method in ("vista-sft", "rest-em"))
    scores = scores_by_run(read_long(world.paths.long))
    se = overall_mean(paired_scores(*(in_domain(suite, run, scores[run]) for run in (ours, theirs)))).se
    assert float(row["detectable"]) == pytest.approx(280.16 * se, abs=0.01)
    page = world.paths.table("resolution", "md").read_text()
    assert NOTE_ON_BOUND.splitlines()[0] in page
    assert f"≥ {row['detectable']}" in page
    assert "No comparison has a second seed" in page


def test_a_row_of_one_seed_takes_the_scatter_of_others_for_other_numbers_of_seeds() -> None:
    names = {"against": "x", "model": "m", "train_set": "t", "round": 1}
    rows = [{"method": "a"} | names, {"method": "b"} | names, {"method": "c"} | names | {"round": 2}]
    several = Variances(0.3, 1.0, 0.2, 1 / 3, 2, 2)
    single = Variances(0.4, math.nan, 0.0, 1.0, 0, 0)
    found = seeds_in_common(rows, [several, single, single])
    assert found[0] == several
    assert found[1] == Variances(0.4, 1.0, 0.2, 1.0, 0, 2.0)
    assert found[2] == single  # of another round
    assert smallest_difference(found[1]) == smallest_difference(single)  # its test knows of no seeds


def test_runs_without_a_result_have_rows_without_numbers(tmp_path: Path) -> None:
    suite = ablation_suite(tmp_path)
    statuses: dict[Run, Status] = dict.fromkeys(runs(suite), "no-positives")
    table = resolution_rows(suite, statuses, {})
    assert len(table)
    assert set(table["status"]) == {"no-positives"}
    assert not table[["detectable", "error", "seed_sd"]].notna().any().any()


def test_it_reads_what_its_rule_declares(small: World, rows: Table) -> None:
    read = set(read_manifest(small.paths.table("resolution", "csv")).inputs)
    assert rows
    assert read <= set(Dag(small.suite).table_inputs("resolution"))


def test_equal_results_give_equal_bytes(small: World, rows: Table) -> None:
    before = small.paths.table("resolution", "csv").read_bytes()
    assert table_of(small) == rows
    assert small.paths.table("resolution", "csv").read_bytes() == before


def test_a_suite_that_compares_nothing_has_a_table_that_says_so(tmp_path: Path) -> None:
    suite: Suite = ablation_suite(tmp_path, methods={"sft-seed": {"kind": "seed"}}, swept={})
    world = World(suite, Paths(suite.results)).fill(scattered)
    assert table_of(world) == {}
    assert "No two methods" in world.paths.table("resolution", "md").read_text()
