"""Whether a difference holds for other models: against plain formulae, and where the truth is known."""

from __future__ import annotations

import csv
import itertools
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.analysis.conftest import World
from tests.analysis.test_ablation import ablation_suite, frame, scattered
from tests.documents import undocumented
from vista.analysis.ablation import ablation_table
from vista.analysis.across_models import COLUMNS, across_models_page, across_models_rows
from vista.analysis.collect import collect
from vista.analysis.comparisons import ALL_MODELS
from vista.analysis.pairs import Pair
from vista.analysis.plan import ablation_names, table_names
from vista.analysis.stats import holm
from vista.config import Suite
from vista.config.tables import table_problems
from vista.grid import Run
from vista.paths import Paths

MODELS = ("m1", "m2", "m3", "m4")
Row = dict[str, str]


def sample_suite(results: Path, models: tuple[str, ...] = MODELS, **changes: Any) -> Suite:
    entries = {name: {"kind": "path", "path": f"/models/{name}"} for name in models}
    return ablation_suite(results, models=entries, **changes)


def tables_of(world: World) -> tuple[list[Row], list[Row]]:
    """The rows across models, and those of the ablation table."""
    collect(world.suite, world.paths)
    ablation_table(world.suite, world.paths)
    found = []
    for name in ("across_models", "ablation"):
        with world.paths.table(name, "csv").open(newline="") as file:
            found.append(list(csv.DictReader(file)))
    return found[0], found[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    suite = sample_suite(tmp_path_factory.mktemp("sample"))
    return World(suite, Paths(suite.results)).fill(scattered)


@pytest.fixture(scope="module")
def tables(world: World) -> tuple[list[Row], list[Row]]:
    return tables_of(world)


def differences_of(world: World, row: Row) -> dict[tuple[str, int], dict[tuple[str, str], float]]:
    """By model and seed, the difference of each query of the row, from ``long.csv``."""
    long = pd.read_csv(world.paths.long)
    long = long[long["task"].isin(["easy", "hard"])]
    reference = 0 if row["against"] == "sft-seed" else int(row["round"])
    ours = long[(long["method"] == row["method"]) & (long["round"] == int(row["round"]))]
    theirs = long[(long["method"] == row["against"]) & (long["round"] == reference)]
    keys = ["model", "seed", "task", "query_id"]
    both = ours.merge(theirs, on=keys)
    found: dict[tuple[str, int], dict[tuple[str, str], float]] = {}
    for each in both.to_dict("records"):
        queries = found.setdefault((str(each["model"]), int(each["seed"])), {})
        queries[str(each["task"]), str(each["query_id"])] = each["score_x"] - each["score_y"]
    return found


def mean_of(queries: dict[tuple[str, str], float]) -> float:
    """The mean over tasks of the mean over queries."""
    tasks = {task for task, _ in queries}
    return statistics.fmean(
        statistics.fmean(value for (own, _), value in queries.items() if own == task) for task in tasks
    )


def clustered(queries: dict[tuple[str, str], float]) -> float:
    """The variance of such a mean: two questions on each image, two tasks of unlike size."""
    variance = 0.0
    for task, count in (("easy", 4), ("hard", 6)):
        own = [queries[task, f"{task}-{index}"] for index in range(count)]
        images = [own[first] + own[first + 1] - 2 * statistics.fmean(own) for first in range(0, count, 2)]
        clusters = count // 2
        variance += clusters / (clusters - 1) * sum(value**2 for value in images) / (2 * count) ** 2
    return variance


def test_a_row_is_what_plain_formulae_give(world: World, tables: tuple[list[Row], list[Row]]) -> None:
    rows, _ = tables
    assert len(rows) > 10
    for row in rows:
        runs = differences_of(world, row)
        models = sorted({model for model, _ in runs})
        by_model = {
            model: statistics.fmean(mean_of(queries) for key, queries in runs.items() if key[0] == model)
            for model in models
        }
        means = list(by_model.values())
        mine = {
            model: {
                query: statistics.fmean(runs[key][query] for key in runs if key[0] == model)
                for query in next(iter(runs.values()))
            }
            for model in models
        }
        together = {
            query: statistics.fmean(mine[model][query] for model in models) for query in mine[models[0]]
        }
        # What single answers add to a model's mean is in how models scatter; it is taken from the queries'.
        queries = clustered(together)
        alone = statistics.fmean(clustered(mine[model]) for model in models)
        answers = (alone - queries) * len(models) / (len(models) - 1)
        variance = max(queries - max(answers, 0.0) / len(models), 0.0)
        between = statistics.variance(means) / len(means)
        se = math.sqrt(variance + between)
        degrees = (variance + between) ** 2 / (between**2 / (len(means) - 1))
        reach = stats.t.ppf(0.975, degrees) * se
        expected = {
            "difference": statistics.fmean(means),
            "se": se,
            "low": statistics.fmean(means) - reach,
            "high": statistics.fmean(means) + reach,
            "smallest": min(means),
            "largest": max(means),
            "models_sd": statistics.stdev(means),
        }
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(100 * value, abs=0.0051), name
        assert row["higher"] == str(sum(mean > 0 for mean in means))
        assert (row["models"], row["n_test"]) == ("4", "10")
        p = 2 * stats.t.sf(abs(statistics.fmean(means)) / se, degrees)
        assert float(row["p"]) == pytest.approx(p, abs=6e-5)


def test_that_all_models_are_alike_is_tested_by_an_analysis_of_variance(
    world: World, tables: tuple[list[Row], list[Row]]
) -> None:
    for row in tables[0]:
        groups: dict[str, list[float]] = {}
        for (model, _), queries in differences_of(world, row).items():
            groups.setdefault(model, []).append(mean_of(queries))
        every = [value for group in groups.values() for value in group]
        between = sum(len(g) * (statistics.fmean(g) - statistics.fmean(every)) ** 2 for g in groups.values())
        within = sum((value - statistics.fmean(g)) ** 2 for g in groups.values() for value in g)
        freedom = len(every) - len(groups)
        ratio = (between / (len(groups) - 1)) / (within / freedom)
        expected = stats.f.sf(ratio, len(groups) - 1, freedom)
        assert float(row["p_models"]) == pytest.approx(expected, abs=6e-5)


def test_its_rows_are_those_of_the_ablation_over_all_models(tables: tuple[list[Row], list[Row]]) -> None:
    across, ablation = tables
    together = [row for row in ablation if row["model"] == ALL_MODELS]
    same = ("kind", "method", "against", "differs", "train_set", "round", "last", "status", "models", "runs")
    for name in (*same, "missing", "difference", "n_test"):
        assert [row[name] for row in across] == [row[name] for row in together], name
    for side in ("low", "high"):
        assert [row[f"these_{side}"] for row in across] == [row[side] for row in together]


def test_holm_counts_last_rounds_and_sft_seed_apart(tables: tuple[list[Row], list[Row]]) -> None:
    rows, _ = tables
    assert all(row["p_holm"] == "" for row in rows if row["last"] == "False")
    for seed in (True, False):
        family = [row for row in rows if row["last"] == "True" and (row["kind"] == "seed") == seed]
        again = holm([float(row["p"]) for row in family])
        assert [float(row["p_holm"]) for row in family] == pytest.approx(again, abs=4e-4)


def test_one_seed_of_each_model_is_enough_but_does_not_say_whether_they_are_alike(tmp_path: Path) -> None:
    suite = sample_suite(tmp_path, seeds=[0])
    rows, ablation = tables_of(World(suite, Paths(tmp_path)).fill(scattered))
    assert {row["error"] for row in ablation} == {"queries"}
    assert all(row["low"] and row["p"] and row["detectable"] for row in rows)
    assert {row["p_models"] for row in rows} == {""}


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_seeds_that_agree_say_nothing_of_how_they_scatter(tmp_path: Path) -> None:
    def alike(run: Run, task: str, index: int) -> float:
        """The same for all seeds; models differ."""
        return scattered(Run(run.model, run.train_set, run.method, 0, run.round), task, index)

    rows, _ = tables_of(World(sample_suite(tmp_path), Paths(tmp_path)).fill(alike))
    assert {row["p_models"] for row in rows} == {""}
    assert all(row["low"] for row in rows)


def test_models_without_a_result_are_counted_and_one_alone_is_no_sample(tmp_path: Path) -> None:
    small = World(sample_suite(tmp_path), Paths(tmp_path)).fill(scattered)
    for model, seed in itertools.product(MODELS[:3], (0, 1)):
        small.no_positives(Run(model, "both", "vas-only", seed, 1))
    small.no_positives(Run("m1", "both", "prefix-only", 1, 2))
    rows = {(row["method"], row["against"], row["round"]): row for row in tables_of(small)[0]}
    alone = rows["vista-sft", "vas-only", "1"]
    assert (alone["status"], alone["models"], alone["runs"], alone["missing"]) == ("partial", "1", "2", "6")
    numbers = ("difference", "se", "low", "high", "p", "p_holm", "higher", "models_sd", "detectable")
    assert {alone[name] for name in numbers} == {""}
    partly = rows["prefix-only", "rest-em", "2"]
    assert (partly["status"], partly["models"], partly["runs"], partly["missing"]) == (
        "partial",
        "4",
        "7",
        "1",
    )
    assert partly["low"]
    page = small.paths.table("across_models", "md").read_text()
    line = next(line for line in page.splitlines() if "vas-only" in line and "vista-sft" in line)
    assert "2 of 8" in line
    assert "one model" in line


def test_a_suite_of_two_models_has_no_such_table_and_is_told_so(tmp_path: Path) -> None:
    two = ablation_suite(tmp_path)
    assert "across_models" not in table_names(two)
    asked = ablation_suite(tmp_path, tables=["main", "across_models"])
    (problem,) = table_problems(asked, "suite.yaml")
    assert problem == (
        "suite.yaml: tables.across_models: the suite has no such table: it has fewer than 3 models to train; "
        "remove it"
    )
    three = sample_suite(tmp_path, MODELS[:3], tables=["main", "across_models"])
    assert table_problems(three, "suite.yaml") == []
    assert "across_models" in ablation_names(three)


def test_every_column_is_documented(root: Path) -> None:
    assert undocumented(root, COLUMNS) == []


# --- where the truth is known ---


def drawn(
    random: np.random.Generator, models: int, seeds: int, spread: float
) -> list[tuple[dict[str, Any], list[Pair]]]:
    """One comparison of two methods that are as good as each other on the average model.

    Each model has a true difference of its own, drawn with deviation ``spread``; beside it scatter
    training seeds, queries, and single answers.
    """
    queries = random.normal(0.0, 0.1, 40)
    pairs = []
    for model in range(models):
        true = random.normal(0.0, spread)
        for seed in range(seeds):
            scores = true + random.normal(0.0, 0.01) + queries + random.normal(0.0, 0.1, 40)
            run = Run(f"m{model}", "both", "ours", seed, 1)
            pairs.append(Pair(run, run, frame([float(each) for each in scores]), (0.5, 0.5)))
    names = {"kind": "component", "method": "ours", "against": "theirs", "differs": "filter"}
    return [(names | {"model": ALL_MODELS, "train_set": "both", "round": 1, "last": True}, pairs)]


@pytest.mark.parametrize(
    ("spread", "seeds", "models"),
    [(0.1, 2, 4), (0.1, 1, 6), (0.0, 1, 6), (0.0, 1, 3), (0.02, 2, 10)],
)
def test_the_interval_holds_the_truth_for_other_models_in_95_of_100(
    spread: float, seeds: int, models: int
) -> None:
    random, repetitions = np.random.default_rng(0), 200
    covered = these = 0
    for _ in range(repetitions):
        row = across_models_rows(drawn(random, models, seeds, spread)).iloc[0]
        covered += row["low"] <= 0.0 <= row["high"]
        these += row["these_low"] <= 0.0 <= row["these_high"]
    # With few models Satterthwaite's approximation covers 93 of 100; 200 repetitions tell that to 2.
    assert 0.89 <= covered / repetitions <= 0.985
    if spread == 0.1 and seeds == 2:
        assert these / repetitions < 0.8, "the ablation's interval is about these models"


def test_equal_models_are_called_alike_and_others_not() -> None:
    random, repetitions = np.random.default_rng(1), 100
    for spread, least, most in ((0.0, 0.0, 0.11), (0.2, 0.8, 1.0)):
        p = [
            across_models_rows(drawn(random, models=4, seeds=3, spread=spread)).iloc[0]["p_models"]
            for _ in range(repetitions)
        ]
        assert least <= sum(each < 0.05 for each in p) / repetitions <= most


def test_the_detectable_difference_is_found_in_four_of_five_repetitions() -> None:
    random, repetitions, spread = np.random.default_rng(2), 200, 0.1
    smallest = [
        across_models_rows(drawn(random, models=6, seeds=1, spread=spread)).iloc[0]["detectable"]
        for _ in range(50)
    ]
    typical = statistics.median(smallest) / 100
    found = 0
    for _ in range(repetitions):
        ((names, pairs),) = drawn(random, models=6, seeds=1, spread=spread)
        moved = [
            Pair(pair.run, pair.against, pair.scores.assign(score=pair.scores["score"] + typical), pair.means)
            for pair in pairs
            if pair.scores is not None
        ]
        found += across_models_rows([(names, moved)]).iloc[0]["p"] < 0.05
    assert 0.7 <= found / repetitions <= 0.95


def test_a_page_says_nothing_of_comparisons_that_there_are_not(tmp_path: Path) -> None:
    suite = sample_suite(tmp_path)
    page = across_models_page(suite, across_models_rows([]))
    assert page.parts == ["No two methods of this suite differ in one part."]
