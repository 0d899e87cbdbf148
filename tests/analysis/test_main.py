"""The main table and the table by task: means over seeds against recounts, and what is marked in them."""

from __future__ import annotations

import csv
import math
import statistics
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from tests.analysis.conftest import MODELS, TASKS, World, make_suite
from tests.analysis.test_tables import recount, slow_overall, tabulate_all
from tests.documents import undocumented
from tests.tasks.published import benchmark
from vista.analysis.collect import SILENT
from vista.analysis.main import AGAINST, TASK_COLUMNS, columns, main_rows, task_rows
from vista.analysis.stats import holm, mcnemar_p, pooled_difference
from vista.dag import Dag
from vista.grid import Run
from vista.paths import Paths, manifest_of
from vista.records import PREDICTION, read_rows

Row = dict[str, str]


def table_of(world: World, name: str = "main") -> list[Row]:
    tabulate_all(world)
    return read(world, name)


def read(world: World, name: str = "main") -> list[Row]:
    with world.paths.table(name, "csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_pictures_shared_with_test_are_counted_by_task_whether_kept_or_dropped(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "results")
    source = {"kind": "path", "path": tmp_path}
    shared = benchmark(kind="vqa-rad", source=source, sizes={"seed": 1, "train": 1, "test": TASKS["hard"]})
    suite = suite.model_copy(update={"tasks": {**suite.tasks, "hard": shared}})
    world = World(suite, Paths(suite.results)).fill()
    for split, kept in (("seed", 3), ("train", 1200)):
        counts = {"shared_kept": float(kept), "shared_dropped": 5.0}
        world.manifest(world.paths.queries("hard", split), "tasks", counts)
    rows = table_of(world, "tasks")
    assert {(row["task"], row["shared_kept"], row["shared_dropped"]) for row in rows} == {
        *(("easy", "", ""), ("hard", "1203", "5"), ("far", "", ""))
    }
    assert "shows: hard 1,203 (5 left out)." in world.paths.table("tasks", "md").read_text()
    inputs = Dag(suite).manifests()
    assert {str(manifest_of(world.paths.queries("hard", split))) for split in ("seed", "train")} < set(inputs)
    assert not any("/tasks/easy/" in path for path in inputs)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def one(rows: list[Row], **wanted: object) -> Row:
    (row,) = [row for row in rows if all(row[name] == str(value) for name, value in wanted.items())]
    return row


@pytest.fixture
def seeded(tmp_path: Path) -> World:
    """Three seeds, whose scores differ, as those of the methods do."""
    return three_seeds(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same with its tables; tests only read it."""
    world = three_seeds(tmp_path_factory.mktemp("made"))
    tabulate_all(world)
    return world


def three_seeds(folder: Path) -> World:
    suite = make_suite(folder / "results", seeds=[0, 1, 2])

    def score(run: Run, task: str, index: int) -> float:
        return float(Random(f"{run.id}/{task}/{index}").random() < 0.5)

    return World(suite, Paths(suite.results)).fill(score)


def test_there_is_one_row_for_all_seeds_of_a_model_method_and_round(made: World) -> None:
    rows = read(made)
    assert [(row["method"], row["round"]) for row in rows if row["model"] == MODELS[0]] == [
        *[("zero-shot", "0"), ("sft-seed", "0"), ("rest-em", "1"), ("rest-em", "2")],
        *[("vista-sft", "1"), ("vista-sft", "2"), ("dpo", "1")],
    ]
    assert {row["seeds"] for row in rows if row["method"] != "zero-shot"} == {"3"}
    assert one(rows, method="zero-shot", model="nano-a")["seeds"] == "1"


def test_the_columns_are_those_documented(made: World, root: Path) -> None:
    assert list(read(made)[0]) == columns(made.suite)
    assert list(read(made, "tasks")[0]) == TASK_COLUMNS
    assert undocumented(root, {*columns(made.suite), *TASK_COLUMNS} - set(TASKS)) == []


def test_accuracies_are_means_over_seeds_and_their_spread_stands_apart(made: World) -> None:
    row = one(read(made), model="nano-b", method="dpo")
    runs = [Run("nano-b", "both", "dpo", seed, 1) for seed in range(3)]
    scores = [recount(made, run) for run in runs]
    overall = [slow_overall([found["easy"], found["hard"]])[0] for found in scores]
    assert float(row["overall"]) == pytest.approx(statistics.mean(overall), abs=0.0051)
    assert float(row["seed_sd"]) == pytest.approx(statistics.stdev(overall), abs=0.0051)
    for task in TASKS:
        means = [statistics.mean(score for _, score in found[task].values()) for found in scores]
        assert float(row[task]) == pytest.approx(100 * statistics.mean(means), abs=0.0051)
    # The error over test queries is that of the mean over seeds, query by query.
    mean = {
        task: {
            query: (cluster, statistics.mean(found[task][query][1] for found in scores))
            for query, (cluster, _) in scores[0][task].items()
        }
        for task in ("easy", "hard")
    }
    assert float(row["se"]) == pytest.approx(slow_overall(list(mean.values()))[1], abs=0.0051)
    assert float(row["low"]) <= float(row["overall"]) <= float(row["high"])


def test_the_base_model_is_set_against_the_sft_seed_of_every_seed(made: World) -> None:
    rows = read(made)
    zero, seed = (one(rows, model="nano-a", method=name) for name in ("zero-shot", "sft-seed"))
    difference = float(zero["overall"]) - float(seed["overall"])
    assert float(zero["delta_sft_seed"]) == pytest.approx(difference, abs=0.011)
    assert zero["error"] == "queries, seeds"
    assert seed["delta_sft_seed"] == ""


def test_a_missing_run_is_counted_and_never_a_zero(seeded: World) -> None:
    seeded.no_positives(Run("nano-b", "both", "dpo", 1, 1))
    rows = table_of(seeded)
    row = one(rows, model="nano-b", method="dpo")
    assert [row[name] for name in ("status", "seeds", "missing")] == ["partial", "2", "1"]
    overall = [
        slow_overall([found["easy"], found["hard"]])[0]
        for found in (recount(seeded, Run("nano-b", "both", "dpo", seed, 1)) for seed in (0, 2))
    ]
    assert float(row["overall"]) == pytest.approx(statistics.mean(overall), abs=0.0051)
    text = seeded.paths.table("main", "md").read_text()
    assert "with a result: 37; without: 1 (no positives to train on)." in text
    assert missing(text) == [["nano-b", "dpo", "1", "1", "no positives to train on"]]
    for seed in (0, 2):
        seeded.no_positives(Run("nano-b", "both", "dpo", seed, 1))
    row = one(table_of(seeded), model="nano-b", method="dpo")
    assert {row[name] for name in ("easy", "hard", "overall", "low", "far", "delta_sft_seed", "p")} == {""}
    assert row["status"] == "no-positives"
    assert one(read(seeded, "tasks"), model="nano-b", method="dpo")["accuracy"] == ""


def test_a_run_whose_policy_has_no_result_says_so_and_seeds_with_one_reason_share_a_row(
    seeded: World,
) -> None:
    assert "Runs without a result" not in page_of(seeded)
    for seed in (0, 2):
        for number in (1, 2):
            seeded.no_positives(Run("nano-a", "both", "rest-em", seed, number))
    assert missing(page_of(seeded)) == [
        ["nano-a", "rest-em", "1", "0, 2", "no positives to train on"],
        [
            "nano-a",
            "rest-em",
            "2",
            "0, 2",
            "rest-em of round 1, which it would train on samples of, has no result",
        ],
    ]


def page_of(world: World) -> str:
    table_of(world)
    return world.paths.table("main", "md").read_text()


def missing(text: str) -> list[list[str]]:
    """The rows of the table of runs without a result."""
    lines = text.partition("## Runs without a result")[2].strip().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return rows[2 : rows.index([])] if [] in rows else rows[2:]


def test_p_values_are_corrected_over_the_rows_of_a_model_and_over_its_tasks(made: World) -> None:
    for name, count in (("main", 6), ("tasks", 6 * len(TASKS))):
        table = read(made, name)
        for model in MODELS:
            rows = [row for row in table if row["model"] == model and row["method"] != "sft-seed"]
            assert len(rows) == count
            known = [row for row in rows if row["p"]]
            assert len(known) > count / 2
            expected = holm([float(row["p"]) for row in known])
            assert [float(row["p_holm"]) for row in known] == pytest.approx(expected, abs=0.002)


def test_a_row_with_one_seed_beside_others_with_several_is_in_no_family(seeded: World) -> None:
    for seed in (1, 2):
        seeded.no_positives(Run("nano-b", "both", "vista-sft", seed, 1))
    row = one(table_of(seeded), model="nano-b", method="vista-sft", round=1)
    assert (row["error"], row["p_holm"]) == ("queries", "")
    assert row["p"] != ""
    assert "†" in next(
        line
        for line in seeded.paths.table("main", "md").read_text().splitlines()
        if "| vista-sft |       1 |" in line
    )


def test_the_best_is_bold_the_second_underlined_and_a_clear_difference_marked(tmp_path: Path) -> None:
    level = {"zero-shot": 0, "sft-seed": 0, "rest-em": 1, "vista-sft": 2, "dpo": 0}
    suite = make_suite(tmp_path)

    def score(run: Run, task: str, index: int) -> float:
        if task == "far":
            return 0.5
        return 0.1 * level[run.method] + (0.01 * (index % 2) if run.method != "sft-seed" else 0.0)

    world = World(suite, Paths(tmp_path)).fill(score)
    tabulate_all(world)
    lines = world.paths.table("main", "md").read_text().splitlines()
    header, _, *rows = [cells(line) for line in lines[: lines.index("## " + AGAINST)] if line.startswith("|")]
    found = {(row[1], row[2]): dict(zip(header, row, strict=True)) for row in rows if row[0] == "nano-b"}
    assert found["vista-sft", "1"]["hard"] == "**20.50**\\*", "equal rounds are equally good"
    assert found["vista-sft", "2"]["hard"] == "**20.50**\\*"
    assert found["rest-em", "1"]["hard"].startswith("<u>10.50</u>")
    assert found["dpo", "1"]["hard"] == "0.50"
    assert found["vista-sft", "1"]["far"] == "**50.00**"
    assert found["vista-sft", "1"]["overall"].startswith("**20.50** ±")
    assert "\\*" in found["vista-sft", "1"]["Δ SFT-Seed"]


def differences(values: list[float]) -> pd.DataFrame:
    ids = [str(number) for number in range(len(values))]
    return pd.DataFrame({"task": "a", "query_id": ids, "cluster_id": ids, "score": values})


def test_mcnemars_test_is_the_binomial_test_of_the_queries_that_differ() -> None:
    better, worse = 9, 2
    found = mcnemar_p(differences([1.0] * better + [-1.0] * worse + [0.0] * 50))
    assert found == pytest.approx(2 * binom.cdf(worse, better + worse, 0.5))
    assert mcnemar_p(differences([0.0] * 5)) == 1.0


def test_mcnemars_test_does_not_apply_to_partial_scores_or_several_questions_on_an_image() -> None:
    assert math.isnan(mcnemar_p(differences([0.5, 1.0])))
    assert math.isnan(mcnemar_p(differences([1.0, 0.0]).assign(cluster_id="same")))


def test_one_seed_of_right_or_wrong_scores_is_tested_by_mcnemar(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, out_of_domain=[], train_sets={"both": ["easy"]})
    right = {
        Run("nano-b", "both", "zero-shot", 0, 0): [True] * 9 + [False] * 2 + [True] * 20,
        Run("nano-b", "both", "sft-seed", 0, 0): [False] * 9 + [True] * 2 + [True] * 20,
    }
    scores = {run: differences([float(each) for each in found]) for run, found in right.items()}
    frames = {run: frame.assign(task="easy", unanswered=0, unfinished=0) for run, frame in scores.items()}
    table = task_rows(suite, dict.fromkeys(frames, "complete"), frames)
    row = table[table["method"] == "zero-shot"].iloc[0]
    assert row["test"] == "McNemar"
    assert row["p"] == pytest.approx(2 * binom.cdf(2, 11, 0.5))


def test_the_corrected_family_errs_in_at_most_five_of_a_hundred_benchmarks_without_differences() -> None:
    """2,000 benchmarks of 3 tasks and 4 methods that are all as good as SFT-Seed; p-values of McNemar."""
    random = np.random.default_rng(0)
    simulated, tasks, methods, queries = 2000, 3, 4, 150
    hard = random.random((simulated, tasks, 1, queries))
    right = random.random((simulated, tasks, methods + 1, queries)) < hard
    own, reference = right[:, :, 1:], right[:, :, :1]
    better, worse = (own & ~reference).sum(-1), (~own & reference).sum(-1)
    # As test_mcnemars_test_is_the_binomial_test says, for all of them at once.
    p = np.minimum(1.0, 2 * binom.cdf(np.minimum(better, worse), better + worse, 0.5))
    families = p.reshape(simulated, -1)
    # The smallest of Holm's p-values is the smallest p-value times their number.
    smallest = families.min(axis=1) * families.shape[1]
    assert [min(holm(list(family))) for family in families[:20]] == pytest.approx(
        np.minimum(smallest[:20], 1)
    )
    assert (smallest < 0.05).mean() <= 0.05


def test_pooled_differences_without_any_are_significant_in_at_most_five_of_a_hundred_families() -> None:
    """Several questions about an image, three seeds that scatter: the tests of the main table."""
    random = np.random.default_rng(1)
    simulated, methods, images, seeds = 300, 3, 60, 3
    false = 0
    ids = [f"{image}-{question}" for image in range(images) for question in range(2)]
    clusters = [str(image) for image in range(images) for _ in range(2)]
    for _ in range(simulated):
        p_values = []
        for _ in range(methods):
            of_image = np.repeat(random.normal(0, 0.3, images), 2)
            pairs = {
                ("m", seed): pd.DataFrame(
                    {
                        "task": "a",
                        "query_id": ids,
                        "cluster_id": clusters,
                        "score": of_image + random.normal(0, 0.4, 2 * images) + random.normal(0, 0.03),
                    }
                )
                for seed in range(seeds)
            }
            p_values.append(pooled_difference(pairs).p)
        false += min(p_values) * methods < 0.05
    # Three hundred families tell 5 % from 8, not from 6.
    assert false / simulated <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / simulated)


def test_equal_scores_give_equal_tables(seeded: World) -> None:
    names = [(name, suffix) for name in ("main", "tasks", "runs") for suffix in ("csv", "md", "tex")]
    tabulate_all(seeded)
    before = [seeded.paths.table(*name).read_bytes() for name in names]
    tabulate_all(seeded)
    assert [seeded.paths.table(*name).read_bytes() for name in names] == before


def silence(world: World, run: Run, task: str, unanswered: int, unfinished: int) -> None:
    """Take the answers of the first queries of a task, and the ends of the last."""
    last = TASKS[task] - unfinished
    rows = read_rows(world.paths.predictions(run.id), PREDICTION)
    for row in rows:
        index = int(row["query_id"].rpartition("-")[2])
        if row["task"] == task and index < unanswered:
            row |= {"answer": None, "score": 0.0}
        if row["task"] == task and index >= last:
            row |= {"finished": False, "score": 0.0}
    world.predictions(run, rows)


def test_responses_without_an_answer_and_cut_ones_are_shares_of_each_run_and_task(seeded: World) -> None:
    run = Run("nano-b", "both", "dpo", 0, 1)
    silence(seeded, run, "hard", unanswered=3, unfinished=2)
    silence(seeded, run, "far", unanswered=0, unfinished=3)
    main = table_of(seeded)
    keys = {"model": "nano-b", "method": "dpo"}
    single = one(read(seeded, "runs"), **keys, seed=0)
    # Of the tasks trained on, easy and hard, each with the same weight; far is out of domain.
    counted = {task: TASKS[task] for task in TASKS}
    assert single["unanswered"] == f"{100 * 3 / counted['hard'] / 2:.2f}"
    assert single["unfinished"] == f"{100 * 2 / counted['hard'] / 2:.2f}"
    assert one(read(seeded, "runs"), **keys, seed=1)["unanswered"] == "0.00"
    row = one(main, **keys)
    assert row["unanswered"] == f"{100 * 3 / counted['hard'] / 2 / 3:.2f}"
    assert row["unfinished"] == f"{100 * 2 / counted['hard'] / 2 / 3:.2f}"
    tasks = {task: one(read(seeded, "tasks"), **keys, task=task) for task in TASKS}
    assert {task: (row["unanswered"], row["unfinished"]) for task, row in tasks.items()} == {
        "easy": ("0.00", "0.00"),
        "hard": (f"{100 / 3 * 3 / counted['hard']:.2f}", f"{100 / 3 * 2 / counted['hard']:.2f}"),
        "far": ("0.00", f"{100 / 3 * 3 / counted['far']:.2f}"),
    }
    long = [line.split(",") for line in seeded.paths.long.read_text().splitlines()]
    found = [sum(int(line[long[0].index(name)]) for line in long[1:]) for name in SILENT]
    assert found == [3, 2 + 3], "the shares can be recomputed from long.csv"


def test_the_main_table_names_where_many_responses_have_no_answer(seeded: World) -> None:
    table_of(seeded)
    page = seeded.paths.table("main", "md")
    assert "have no answer" not in page.read_text()
    half = TASKS["hard"] // 2
    for seed in range(3):
        silence(seeded, Run("nano-b", "both", "dpo", seed, 1), "hard", unanswered=half, unfinished=0)
        silence(seeded, Run("nano-b", "both", "dpo", seed, 1), "far", unanswered=0, unfinished=3)
    silence(seeded, Run("nano-a", "both", "dpo", 0, 1), "hard", unanswered=1, unfinished=0)
    table_of(seeded)
    (note,) = [line for line in page.read_text().splitlines() if "have no answer" in line]
    assert "nano-b, dpo, round 1, hard: 50.00 % (0.00 %)" in note
    assert "nano-a" not in note, "a third of a sixth, over its seeds"
    assert "far" not in note, "there every response has an answer, though all were cut"


def test_numbers_are_unrounded_until_they_are_written(seeded: World) -> None:
    from vista.analysis.collect import collect, read_long, run_statuses, scores_by_run
    from vista.analysis.runs import run_cost

    collect(seeded.suite, seeded.paths)
    statuses = run_statuses(seeded.suite, seeded.paths)
    costs = {run: run_cost(seeded.suite, seeded.paths, run) for run in statuses}
    table = main_rows(seeded.suite, statuses, scores_by_run(read_long(seeded.paths.long)), costs)
    assert any(round(value, 2) != value for value in table["overall"])
