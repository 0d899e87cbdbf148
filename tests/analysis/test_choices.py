"""A suite chooses which rows and columns readers see of a table; the CSV has all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest

from tests.analysis.conftest import World
from tests.analysis.test_blind import blind_suite
from vista.analysis.collect import collect
from vista.analysis.plan import results_names
from vista.analysis.tables import results_tables
from vista.config import ResultsTable, Suite, load_suite, load_yaml
from vista.config.tables import columns_of
from vista.errors import VistaError
from vista.paths import Paths

METHODS = ["vista-sft", "sft-seed"]
CHOICES: dict[str, dict[str, list[str]]] = {
    "main": {"methods": METHODS, "columns": ["method", "overall", "hard", "model"]},
    "tasks": {"columns": ["task", "accuracy"]},
    "rounds": {"methods": ["vista-sft"]},
    "ood": {"columns": ["method", "Δ far"]},
    "blind": {"methods": METHODS, "columns": ["method", "task", "added by the image"]},
    "benchmarks": {"methods": METHODS, "columns": ["mean", "method"]},
}


def made(folder: Path, **settings: Any) -> tuple[Suite, Paths]:
    """The results tables of a suite of two models, two train sets and a blind task."""
    suite = blind_suite(folder, train_sets={"first": ["easy"], "second": ["hard"]}, seeds=[0, 1], **settings)
    world = World(suite, Paths(suite.results)).fill()
    collect(suite, world.paths)
    results_tables(suite, world.paths)
    return suite, world.paths


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Paths, Paths]:
    """The tables as they are, and as chosen."""
    before, after = (tmp_path_factory.mktemp("results") for _ in range(2))
    return made(before)[1], made(after, tables={"cost": None, **CHOICES})[1]


def rows_of(paths: Paths, table: str) -> list[dict[str, str]]:
    """The page's own table: the first one."""
    lines = [line for line in paths.table(table, "md").read_text().splitlines() if line.startswith("|")]
    width = lines[0].count("|")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    end = next((at for at in range(2, len(lines)) if lines[at].startswith("|:")), len(lines) + 1) - 1
    assert all(line.count("|") == width for line in lines[:end])
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:end]]


@pytest.mark.parametrize("table", get_args(ResultsTable))
def test_the_csv_has_everything_whatever_is_shown(both: tuple[Paths, Paths], table: str) -> None:
    texts = [paths.table(table, "csv").read_bytes() for paths in both]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("table", CHOICES)
def test_the_page_has_the_chosen_columns_in_their_order(both: tuple[Paths, Paths], table: str) -> None:
    before, after = (rows_of(paths, table) for paths in both)
    wanted = CHOICES[table].get("columns", list(before[0]))
    assert list(after[0]) == wanted
    for suffix in ("tex", "html"):
        text = both[1].table(table, suffix).read_text()
        assert "The suite chooses which" in text
    assert "The suite chooses" not in both[0].table(table, "md").read_text()


@pytest.mark.parametrize("table", ["main", "rounds", "benchmarks"])
def test_the_page_has_the_rows_of_the_chosen_methods_in_their_order(
    both: tuple[Paths, Paths], table: str
) -> None:
    before, after = (rows_of(paths, table) for paths in both)
    methods = CHOICES[table]["methods"]
    every = pd.DataFrame(before)
    groups = 1 if table == "benchmarks" else 2
    expected = [
        method
        for _ in range(every["model"].nunique() * groups)
        for method in methods
        for _ in range(len(every[every["method"] == method]) // (every["model"].nunique() * groups))
    ]
    assert [row["method"] for row in after] == expected


def test_the_best_is_the_best_of_what_is_shown(both: tuple[Paths, Paths]) -> None:
    rows = rows_of(both[1], "main")
    assert sum("**" in row["overall"] for row in rows) >= 4, "in each model and train set there is one"


def test_a_page_has_no_column_that_cannot_be_chosen(both: tuple[Paths, Paths], tmp_path: Path) -> None:
    suite, paths = made(tmp_path)
    for table in results_names(suite):
        assert set(rows_of(paths, table)[0]) <= set(columns_of(suite, table)), table


def test_the_line_about_all_runs_counts_those_that_are_not_shown(both: tuple[Paths, Paths]) -> None:
    lines = [paths.table("main", "md").read_text().splitlines()[2] for paths in both]
    assert lines[0].startswith("Runs of the grid: ")
    assert lines[0] == lines[1]


@pytest.fixture
def raw(root: Path) -> dict[str, Any]:
    return load_yaml(root / "config/smoke.yaml")


def load(root: Path, raw: dict[str, Any], tables: Any) -> Suite:
    return load_suite(root / "config/smoke.yaml", value={**raw, "tables": tables}, checkout=root)


def test_a_list_is_a_mapping_without_choices(root: Path, raw: dict[str, Any]) -> None:
    assert load(root, raw, ["main", "cost"]) == load(root, raw, {"main": None, "cost": {}})


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            {"main": {"methods": ["vista-stf", "star"]}},
            r"tables\.main\.methods: no 'vista-stf'; there are",
        ),
        (
            {"main": {"columns": ["overal"]}},
            r"tables\.main\.columns: no 'overal'; there are model",
        ),
        ({"cost": {"columns": ["overall"]}}, r"tables\.cost: rows and columns can be chosen of main, tasks"),
        ({"benchmarks": {}}, r"tables\.benchmarks: the suite has no such table: there is one train set"),
        ({"main": {"methods": []}}, r"tables\.main\.methods: .* at least 1"),
        ({"main": {"rows": ["star"]}}, r"tables\.main\.rows: "),
        ({"mian": {}}, r"tables\.mian"),
        (["mian"], r"tables\.mian"),
        ([], r"tables: .* at least 1"),
    ],
)
def test_what_cannot_be_chosen_is_an_error_of_the_config(
    root: Path, raw: dict[str, Any], tables: Any, said: str
) -> None:
    with pytest.raises(VistaError, match=said):
        load(root, raw, tables)
