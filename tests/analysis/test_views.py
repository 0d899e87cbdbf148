"""The tables of rounds, out of domain and sweeps against recounts from scores and the wider tables."""

from __future__ import annotations

import csv
import statistics
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.analysis.conftest import MODELS, World, make_suite
from tests.analysis.test_ablation import ablation_suite
from tests.analysis.test_tables import recount, slow_overall, tabulate_all
from tests.documents import undocumented
from vista.analysis.ablation import SWEEP_COLUMNS, ablation_table
from vista.analysis.main import TASK_COLUMNS
from vista.analysis.plan import ablation_names, results_names, table_names
from vista.analysis.tables import BENCHMARK_COLUMNS, ROUND_COLUMNS
from vista.config import Swept
from vista.grid import Run
from vista.paths import Paths

Row = dict[str, str]
TAU = {
    f"vista-sft+tau={value}": Swept(sweep="tau", of="vista-sft", set="filter.tau", value=value)
    for value in (-1.5, 0)
}


def read(world: World, name: str) -> list[Row]:
    with world.paths.table(name, "csv").open(newline="") as file:
        return list(csv.DictReader(file))


def seeded(run: Run, task: str, index: int) -> float:
    return float(Random(f"{run.id}/{task}/{index}").random() < 0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two seeds; tests only read it."""
    suite = make_suite(tmp_path_factory.mktemp("views"), seeds=[0, 1])
    found = World(suite, Paths(suite.results)).fill(seeded)
    tabulate_all(found)
    return found


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A sweep of τ with two values."""
    suite = ablation_suite(tmp_path_factory.mktemp("swept"))
    method = suite.methods["vista-sft"].model_dump() | {"rounds": 1}
    methods = {name: spec.model_dump() for name, spec in suite.methods.items() if "+" not in name}
    for name, each in TAU.items():
        methods[name] = method | {"filter": {"kind": "vas", "tau": each.value}}
    suite = ablation_suite(suite.results, methods=methods, swept=TAU)
    found = World(suite, Paths(suite.results)).fill(seeded)
    tabulate_all(found)
    ablation_table(found.suite, found.paths)
    return found


def test_a_round_is_set_against_the_checkpoint_that_it_sampled(world: World) -> None:
    rows = read(world, "rounds")
    assert {row["method"] for row in rows} == {"rest-em", "vista-sft"}, "the others have one round"
    for row in rows:
        gains = []
        for seed in world.suite.seeds:
            run = Run(row["model"], "both", row["method"], seed, int(row["round"]))
            before = replace(run, round=1) if run.round == 2 else replace(run, method="sft-seed", round=0)
            new, old = (
                slow_overall([found["easy"], found["hard"]])[0]
                for found in (recount(world, each) for each in (run, before))
            )
            gains.append(new - old)
        assert float(row["gain"]) == pytest.approx(statistics.mean(gains), abs=0.0051)
        assert float(row["gain_low"]) <= float(row["gain"]) <= float(row["gain_high"])


def test_the_page_of_rounds_has_a_row_for_each_method_and_a_column_for_each_round(world: World) -> None:
    lines = [line for line in world.paths.table("rounds", "md").read_text().splitlines() if "|" in line]
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["model", "method", "round 1", "round 2"]
    assert len(lines) == 2 + 2 * len(MODELS)


def test_out_of_domain_has_the_last_round_of_each_method_as_the_table_by_task(world: World) -> None:
    found = read(world, "ood")
    assert {row["task"] for row in found} == {"far"}
    last = {"rest-em": "2", "vista-sft": "2", "dpo": "1", "sft-seed": "0", "zero-shot": "0"}
    assert [(row["model"], row["method"]) for row in found] == [(m, x) for m in MODELS for x in _order(world)]
    assert all(row["round"] == last[row["method"]] for row in found)
    by_task = [row for row in read(world, "tasks") if row["task"] == "far"]
    assert all(row in by_task for row in found)


SETS = {"first": ["easy"], "second": ["hard"]}


def each_on_its_own(results: Path, *lacking: Run) -> World:
    """A train set for each task; some runs have no positives."""
    suite = make_suite(results, seeds=[0, 1], train_sets=SETS)
    found = World(suite, Paths(suite.results)).fill(seeded)
    for run in lacking:
        found.no_positives(run)
    tabulate_all(found)
    return found


def test_benchmarks_have_the_last_round_on_each_train_set_and_their_mean(tmp_path: Path) -> None:
    world = each_on_its_own(tmp_path / "results")
    main = {
        tuple(row[key] for key in ("model", "train_set", "method", "round")): row
        for row in read(world, "main")
    }
    rows = read(world, "benchmarks")
    assert len(rows) == len(MODELS) * len(_order(world)) * (len(SETS) + 1)
    for first, second, mean in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert [row["train_set"] for row in (first, second, mean)] == ["first", "second", "first + second"]
        assert first["round"] == {"rest-em": "2", "vista-sft": "2", "dpo": "1"}.get(first["method"], "0")
        for row in (first, second):
            source = main[row["model"], row["train_set"], row["method"], row["round"]]
            assert {name: source[name] for name in BENCHMARK_COLUMNS} == row
        both = [float(row["overall"]) for row in (first, second)]
        assert float(mean["overall"]) == pytest.approx(statistics.mean(both), abs=0.0101)
        errors = [float(row["se"]) for row in (first, second)]
        assert float(mean["se"]) == pytest.approx(sum(error**2 for error in errors) ** 0.5 / 2, abs=0.0101)
    lines = [line for line in world.paths.table("benchmarks", "md").read_text().splitlines() if "|" in line]
    header = ["model", "method", "first", "second", "mean"]
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == header
    assert len(lines) == 2 + len(MODELS) * len(_order(world))
    for column in range(2, 5):
        cells = [line.split("|")[1:-1][column] for line in lines[2:] if MODELS[0] in line]
        assert sum("**" in cell for cell in cells) >= 1, "the best is marked"


def test_a_method_without_a_result_on_one_benchmark_has_no_mean(tmp_path: Path) -> None:
    lacking = [Run(MODELS[0], "first", "vista-sft", seed, number) for seed in (0, 1) for number in (1, 2)]
    world = each_on_its_own(tmp_path / "results", *lacking, Run(MODELS[0], "first", "dpo", 0, 1))
    rows = {
        (row["method"], row["train_set"]): row
        for row in read(world, "benchmarks")
        if row["model"] == MODELS[0]
    }
    assert (rows["vista-sft", "first"]["status"], rows["vista-sft", "first"]["overall"]) == (
        "no-positives",
        "",
    )
    assert rows["vista-sft", "second"]["overall"] != ""
    mean = rows["vista-sft", "first + second"]
    assert (mean["overall"], mean["se"], mean["status"], mean["missing"]) == ("", "", "partial", "2")
    assert rows["dpo", "first + second"]["overall"] != "", "one seed of two has a result"
    page = world.paths.table("benchmarks", "md").read_text()
    (line,) = [line for line in page.splitlines() if MODELS[0] in line and "vista-sft" in line]
    assert [cell.strip() for cell in line.split("|")[1:-1]][2::2] == ["no-positives", ""]
    (line,) = [line for line in page.splitlines() if MODELS[0] in line and "| dpo " in line]
    assert "(1 of 2 runs)" in line


def test_a_suite_with_one_train_set_has_no_table_of_benchmarks(world: World) -> None:
    assert "benchmarks" not in results_names(world.suite)
    assert not world.paths.table("benchmarks", "csv").exists()


def _order(world: World) -> list[str]:
    return list(world.suite.methods)


def test_a_sweep_has_its_rows_of_the_ablation_table_and_the_value_that_it_varies(swept: World) -> None:
    found = read(swept, "sweep_tau")
    assert {(row["setting"], row["default"]) for row in found} == {("filter.tau", "-0.5")}
    wide = {
        (row["method"], row["model"], row["round"]): row
        for row in read(swept, "ablation")
        if row["kind"] == "sweep"
    }
    assert len(found) == len(wide)
    for row in found:
        other = wide[row["method"], row["model"], row["round"]]
        assert all(row[name] == other[name] for name in ("accuracy", "difference", "low", "high", "p_holm"))
        assert row["value"] == str(TAU[row["method"]].value)
    page = swept.paths.table("sweep_tau", "md").read_text()
    assert "`vista-sft` itself has `filter.tau` = -0.5." in page


def test_a_run_without_a_result_is_named_so_and_never_zero(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "results")
    found = World(suite, Paths(suite.results)).fill(seeded)
    for number in (1, 2):
        found.no_positives(Run(MODELS[0], "both", "vista-sft", 0, number))
    tabulate_all(found)
    for name, column in (("rounds", "overall"), ("ood", "accuracy")):
        (row, *_) = [
            row for row in read(found, name) if (row["model"], row["method"]) == (MODELS[0], "vista-sft")
        ]
        assert (row["status"], row["seeds"], row[column]) == ("no-positives", "0", "")
        assert "no-positives" in found.paths.table(name, "md").read_text()


def test_a_mean_that_lacks_a_run_says_so(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "results", seeds=[0, 1])
    found = World(suite, Paths(suite.results)).fill(seeded)
    found.no_positives(Run(MODELS[0], "both", "vista-sft", 1, 2))
    tabulate_all(found)
    for name in ("rounds", "ood"):
        lines = found.paths.table(name, "md").read_text().splitlines()
        (line,) = [line for line in lines if "(1 of 2 runs)" in line]
        assert MODELS[0] in line
        assert "vista-sft" in line


def test_a_row_of_one_seed_beside_others_of_two_is_marked(tmp_path: Path) -> None:
    only = {"vista-sft": {"seeds": [0]}}
    suite = make_suite(tmp_path / "results", seeds=[0, 1], only=only)
    found = World(suite, Paths(suite.results)).fill(seeded)
    tabulate_all(found)
    for name in ("rounds", "ood", "tasks"):
        text = found.paths.table(name, "md").read_text()
        rows = [line for line in text.splitlines() if line.startswith("|") and "†" in line]
        assert rows
        assert all("vista-sft" in row for row in rows)
        assert "as there is no second seed" in text


def test_a_sweep_that_has_no_run_is_an_empty_table(tmp_path: Path) -> None:
    only = {name: {"models": ["nano-a"]} for name in TAU} | {"vista-sft": {"models": ["nano-b"]}}
    plain = ablation_suite(tmp_path)
    methods = {name: spec.model_dump() for name, spec in plain.methods.items() if "+" not in name}
    for name, each in TAU.items():
        methods[name] = methods["vista-sft"] | {"filter": {"kind": "vas", "tau": each.value}}
    suite = ablation_suite(tmp_path, methods=methods, swept=TAU, only=only)
    found = World(suite, Paths(suite.results)).fill(seeded)
    tabulate_all(found)
    ablation_table(found.suite, found.paths)
    assert read(found, "sweep_tau") == []
    assert "None." in found.paths.table("sweep_tau", "md").read_text()


def test_the_rules_ask_for_exactly_the_tables_that_are_written(world: World, swept: World) -> None:
    written = {path.stem for path in world.paths.table("main", "csv").parent.glob("*.csv")}
    assert written == set(results_names(world.suite))
    written = {path.stem for path in swept.paths.table("main", "csv").parent.glob("*.csv")}
    assert written == {*results_names(swept.suite), *ablation_names(swept.suite)}
    assert {"difficulty", "distributions", "cost"} <= set(table_names(world.suite))


def test_every_column_is_documented(root: Path) -> None:
    names = {*ROUND_COLUMNS, *SWEEP_COLUMNS, *TASK_COLUMNS} - {"marked"}
    assert undocumented(root, names) == []
