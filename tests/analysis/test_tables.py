"""The table of runs against recounts from the prediction files."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.conftest import MODELS, TASKS, World, make_suite
from tests.documents import undocumented
from vista import grid
from vista.analysis.collect import collect
from vista.analysis.comparisons import counterpart_of, reference_of
from vista.analysis.page import number, with_error
from vista.analysis.plan import results_names
from vista.analysis.runs import columns
from vista.analysis.tables import results_tables
from vista.dag import Dag
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import SUFFIX, read_manifest
from vista.paths import Paths, manifest_of
from vista.records import PREDICTION, read_rows

Row = dict[str, str]


def tabulate_all(world: World) -> None:
    collect(world.suite, world.paths)
    results_tables(world.suite, world.paths)


def table_of(world: World) -> dict[Run, Row]:
    tabulate_all(world)
    with world.paths.table("runs", "csv").open(newline="") as file:
        return {run_of(row): row for row in csv.DictReader(file)}


def run_of(row: Row) -> Run:
    return Run(row["model"], row["train_set"], row["method"], int(row["seed"]), int(row["round"]))


def markdown_of(world: World) -> str:
    tabulate_all(world)
    return world.paths.table("runs", "md").read_text()


def test_every_table_is_written_in_every_format_and_again_with_the_same_bytes(world: World) -> None:
    def written() -> dict[str, bytes]:
        tabulate_all(world)
        files = world.paths.table("main", "csv").parent.iterdir()
        return {file.name: file.read_bytes() for file in files if not file.name.endswith(SUFFIX)}

    first = written()
    assert set(first) == {
        f"{name}.{suffix}" for name in results_names(world.suite) for suffix in ("csv", "md", "tex", "html")
    }
    assert written() == first


def recount(world: World, run: Run) -> dict[str, dict[str, tuple[str, float]]]:
    """query → (cluster, score) by task, straight from a run's prediction file."""
    found: dict[str, dict[str, tuple[str, float]]] = {}
    for row in read_rows(world.paths.predictions(run.id), PREDICTION):
        found.setdefault(row["task"], {})[row["query_id"]] = (row["cluster_id"], row["score"])
    return found


def slow_overall(tasks: list[dict[str, tuple[str, float]]]) -> tuple[float, float]:
    """Mean over tasks and its error in plain loops, for tasks that share no image; in percent."""
    means, variance = [], 0.0
    for scores in tasks:
        mean = sum(score for _, score in scores.values()) / len(scores)
        sums: dict[str, float] = {}
        for cluster, score in scores.values():
            sums[cluster] = sums.get(cluster, 0.0) + score - mean
        task_variance = sum(s * s for s in sums.values()) / len(scores) ** 2 * len(sums) / (len(sums) - 1)
        means.append(mean)
        variance += task_variance / len(tasks) ** 2
    return 100 * sum(means) / len(tasks), 100 * math.sqrt(variance)


def test_there_is_one_row_per_run_in_the_order_of_the_suite(world: World) -> None:
    table = table_of(world)
    assert list(table) == grid.runs(world.suite)
    assert [run.method for run in table][:7] == [
        *("zero-shot", "sft-seed", "rest-em", "rest-em", "vista-sft", "vista-sft", "dpo")
    ]
    assert list(dict.fromkeys(run.model for run in table)) == MODELS


def test_the_columns_are_those_documented(world: World, root: Path) -> None:
    first = ["model", "train_set", "method", "round", "seed", "status"]
    scores = ["easy", "hard", "overall", "se", "far", "delta_sft_seed", "delta_se"]
    counts = ["train_samples", "samples_drawn", "samples_drawn_total"]
    counts += ["tokens_drawn_total", "tokens_trained_total", "unanswered", "unfinished", "n_test"]
    expected = [*first, *scores, *counts]
    tabulate_all(world)
    assert world.paths.table("runs", "csv").read_text().splitlines()[0].split(",") == expected
    assert undocumented(root, [name for name in expected if name not in TASKS]) == []


def test_accuracies_errors_and_differences_agree_with_a_recount(world: World) -> None:
    for run, row in table_of(world).items():
        scores = recount(world, run)
        for task in TASKS:
            mean = sum(score for _, score in scores[task].values()) / len(scores[task])
            assert row[task] == f"{100 * mean:.2f}"
        mean, error = slow_overall([scores["easy"], scores["hard"]])
        assert (row["overall"], row["se"]) == (f"{mean:.2f}", f"{error:.2f}")
        assert row["n_test"] == str(TASKS["easy"] + TASKS["hard"])
        assert row["status"] == "complete"
        if run.method == "sft-seed":
            assert (row["delta_sft_seed"], row["delta_se"]) == ("", "")
            continue
        reference = recount(world, Run(run.model, run.train_set, "sft-seed", run.seed, 0))
        differences = [
            {query: (cluster, score - reference[task][query][1]) for query, (cluster, score) in rows.items()}
            for task, rows in scores.items()
            if task != "far"
        ]
        mean, error = slow_overall(differences)
        assert float(row["delta_sft_seed"]) == pytest.approx(mean, abs=0.0051)
        assert float(row["delta_se"]) == pytest.approx(error, abs=0.0051)


def test_samples_are_counted_per_round_and_added_up_over_rounds(world: World) -> None:
    table = table_of(world)
    drawn = {
        (run.method, run.round): (row["samples_drawn"], row["samples_drawn_total"])
        for run, row in table.items()
        if run.model == "nano-b"
    }
    # Two shards: 10 + 11 samples and 3 + 4 resamples.
    assert drawn == {
        ("zero-shot", 0): ("0", "0"),
        ("sft-seed", 0): ("0", "0"),
        ("rest-em", 1): ("21", "21"),
        ("rest-em", 2): ("21", "42"),
        ("vista-sft", 1): ("28", "28"),
        ("vista-sft", 2): ("28", "56"),
        ("dpo", 1): ("21", "21"),
    }


def test_tokens_are_added_up_over_the_rounds_that_sampled_and_trained(world: World) -> None:
    """Of each shard's 500 in samples and in resamples; a training of the run at place n reads 1000 + n."""
    place = {run: number for number, run in enumerate(grid.runs(world.suite))}
    for run, row in table_of(world).items():
        if not grid.is_trained(world.suite, run):
            assert (row["tokens_drawn_total"], row["tokens_trained_total"]) == ("0", "0")
            continue
        rounds = [replace(run, round=number) for number in range(min(1, run.round), run.round + 1)]
        trained = sum(1000 + place[each] for each in rounds)
        files = {"sft-seed": 0, "vista-sft": 4}.get(run.method, 2)
        assert int(row["tokens_drawn_total"]) == 500 * files * run.round
        assert int(row["tokens_trained_total"]) == trained


def test_train_samples_come_from_the_training_sets_manifest(world: World) -> None:
    for run, row in table_of(world).items():
        if run.method == "zero-shot":
            assert row["train_samples"] == ""
        else:
            counts = read_manifest(world.paths.training_set(run.id)).counts
            assert row["train_samples"] == str(int(counts["examples"]))


def test_train_samples_do_not_count_what_training_left_out(world: World) -> None:
    run = Run("nano-b", "both", "vista-sft", 0, 1)
    before = int(table_of(world)[run]["train_samples"])
    world.manifest(world.paths.trained(run.id), "training", {"dropped_special_tokens": 3.0, "tokens": 9.0})
    assert int(table_of(world)[run]["train_samples"]) == before - 3
    assert str(manifest_of(world.paths.trained(run.id))) in Dag(world.suite).table_inputs("results")


def test_test_time_selection_has_rows_of_its_own_with_the_costs_of_what_it_decodes(tmp_path: Path) -> None:
    methods = make_suite(tmp_path / "any").model_dump(mode="json")["methods"]
    methods["chosen"] = {"kind": "select", "of": "vista-sft"}
    suite = make_suite(tmp_path / "results", methods=methods)
    table = table_of(World(suite, Paths(suite.results)).fill())
    rows = {run: row for run, row in table.items() if run.method == "chosen"}
    assert [(run.model, run.round) for run in rows] == [(model, n) for model in MODELS for n in (1, 2)]
    for run, row in rows.items():
        decoded = table[replace(run, method="vista-sft")]
        for name in ("train_samples", "samples_drawn", "samples_drawn_total", "n_test"):
            assert row[name] == decoded[name]
        reference = table[replace(run, method="sft-seed", round=0)]
        delta = float(row["overall"]) - float(reference["overall"])
        assert float(row["delta_sft_seed"]) == pytest.approx(delta, abs=0.011)
    assert counterpart_of(suite, "chosen") is None


def test_a_run_without_positives_is_a_marked_row_and_never_a_zero(world: World) -> None:
    run = Run("nano-b", "both", "dpo", 0, 1)
    world.no_positives(run)
    table = table_of(world)
    row = table[run]
    assert row["status"] == "no-positives"
    empty = ["easy", "hard", "overall", "se", "far", "delta_sft_seed", "delta_se", "n_test"]
    assert {row[name] for name in empty} == {""}
    assert (row["train_samples"], row["samples_drawn"]) == ("0", "21")
    assert len(table) == len(grid.runs(world.suite))
    text = markdown_of(world)
    assert "| no-positives |" in text


def test_a_round_after_one_without_positives_has_drawn_nothing_more(world: World) -> None:
    first, second = Run("nano-b", "both", "rest-em", 0, 1), Run("nano-b", "both", "rest-em", 0, 2)
    world.no_positives(first)
    world.no_positives(second)
    names = grid.rollout_files(grid.self_improvement(world.suite, second))
    for shard in range(2):
        file = world.paths.rollouts(first.id, "samples", names.samples, shard, 2)
        world.manifest(file, "rollouts", {}, "no-positives")
    row = table_of(world)[second]
    assert (row["samples_drawn"], row["samples_drawn_total"]) == ("0", "21")


def test_without_a_result_of_sft_seed_there_are_no_differences(world: World) -> None:
    world.predictions(Run("nano-b", "both", "sft-seed", 0, 0), [], "no-positives")
    table = table_of(world)
    assert {row["delta_sft_seed"] for run, row in table.items() if run.model == "nano-b"} == {""}
    assert all(row["overall"] for run, row in table.items() if run.method != "sft-seed")


def test_every_seed_is_compared_with_its_own_sft_seed(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, seeds=[3, 1])
    world = World(suite, Paths(tmp_path)).fill(
        lambda run, task, index: 1.0 if run.method == "sft-seed" and run.seed == 1 else 0.5
    )
    table = table_of(world)
    deltas = {run.seed: row["delta_sft_seed"] for run, row in table.items() if run.method == "dpo"}
    assert deltas == {3: "0.00", 1: "-50.00"}
    assert [run.seed for run in table if run.model == "nano-b" and run.round == 2] == [3, 1, 3, 1]


def test_two_runs_of_the_table_give_equal_bytes_whenever_they_are_made(world: World) -> None:
    tabulate_all(world)
    outputs = [world.paths.table("runs", suffix) for suffix in ("csv", "md", "tex")]
    before = [path.read_bytes() for path in outputs]
    world.fill()  # every file again, manifests with new times
    tabulate_all(world)
    assert [path.read_bytes() for path in outputs] == before
    assert not any(str(world.paths.results).encode() in content for content in before)


def test_a_manifest_without_its_count_is_an_error_that_names_it(world: World) -> None:
    output = world.paths.training_set(Run("nano-a", "both", "dpo", 0, 1).id)
    world.manifest(output, "curation", {})
    collect(world.suite, world.paths)
    with pytest.raises(VistaError, match=r"counts\.examples: missing") as error:
        results_tables(world.suite, world.paths)
    assert str(manifest_of(output)) in str(error.value)


def test_a_missing_shard_of_rollouts_is_an_error(world: World) -> None:
    run = Run("nano-a", "both", "vista-sft", 0, 2)
    names = grid.rollout_files(grid.self_improvement(world.suite, run))
    file = world.paths.rollouts(grid.policy(world.suite, run).id, "resamples", str(names.resamples), 1, 2)
    manifest_of(file).unlink()
    collect(world.suite, world.paths)
    with pytest.raises(VistaError, match=r"1-of-2\.parquet\.manifest\.json: no such file"):
        results_tables(world.suite, world.paths)


def test_a_long_table_older_than_the_predictions_is_noticed(world: World) -> None:
    collect(world.suite, world.paths)
    world.no_positives(Run("nano-b", "both", "dpo", 0, 1))
    with pytest.raises(VistaError, match=r"has rows in long\.csv; collect the predictions again"):
        results_tables(world.suite, world.paths)


def test_a_task_named_as_a_column_is_refused(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, out_of_domain=["se"])
    suite = suite.model_copy(update={"tasks": suite.tasks | {"se": suite.tasks["far"]}})
    with pytest.raises(VistaError, match="task 'se' is named as a column"):
        columns(suite)


def test_every_output_has_its_manifest(world: World) -> None:
    tabulate_all(world)
    for suffix in ("csv", "md", "tex"):
        assert read_manifest(world.paths.table("runs", suffix)).counts["rows"] == 14


# --- the Markdown table ---


def test_a_suite_without_sft_seed_has_no_reference(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    suite = suite.model_copy(update={"methods": {"zero-shot": suite.methods["zero-shot"]}})
    assert reference_of(suite, Run("nano-a", "both", "zero-shot", 0, 0)) is None
    row = next(iter(table_of(World(suite, Paths(tmp_path)).fill()).values()))
    assert row["delta_sft_seed"] == ""


def test_numbers_are_printed_with_two_decimals_and_no_negative_zero() -> None:
    assert [number(value) for value in (1 / 3, -0.001, 100.0, None, math.nan)] == [
        *("0.33", "0.00", "100.00", "", "")
    ]
    assert with_error(50.0, 1.234) == "50.00 ± 1.23"
    assert with_error(50.0, math.nan) == "50.00"
