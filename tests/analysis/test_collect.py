"""The long table: whole, ordered, and refused when a run's predictions are not whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.conftest import MODELS, TASKS, World, make_suite
from vista import grid
from vista.analysis.collect import LONG_COLUMNS, collect, in_domain, read_long, scores_by_run
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import Paths, manifest_of
from vista.records import PREDICTION, read_rows
from vista.shown import spreadsheet

SEED_RUN = Run("nano-b", "both", "sft-seed", 0, 0)


def long_of(world: World) -> pd.DataFrame:
    collect(world.suite, world.paths)
    return read_long(world.paths.long)


def mend(world: World, change: object) -> None:
    """Rewrite the predictions of one run after a change to its rows."""
    rows = read_rows(world.paths.predictions(SEED_RUN.id), PREDICTION)
    world.predictions(SEED_RUN, change(rows))  # type: ignore[operator]


def test_every_prediction_of_every_run_stands_in_the_long_table_once(world: World) -> None:
    long = long_of(world)
    runs = grid.runs(world.suite)
    assert len(long) == len(runs) * sum(TASKS.values())
    by_run = scores_by_run(long)
    assert set(by_run) == set(runs)
    for run in runs:
        expected = {
            (row["task"], row["query_id"]): (row["cluster_id"], row["score"])
            for row in read_rows(world.paths.predictions(run.id), PREDICTION)
        }
        found = by_run[run][["task", "query_id", "cluster_id", "score"]].itertuples(index=False, name=None)
        assert {(task, query): (cluster, score) for task, query, cluster, score in found} == expected


def test_runs_tasks_and_queries_are_in_the_suites_order(world: World) -> None:
    long = long_of(world)
    assert list(scores_by_run(long)) == grid.runs(world.suite)
    assert list(long["model"].unique()) == MODELS
    assert list(long["task"].unique()) == ["easy", "hard", "far"]
    assert list(long["query_id"].head(4)) == [f"easy-{i}" for i in range(4)]


def test_collecting_twice_gives_the_same_bytes(world: World) -> None:
    collect(world.suite, world.paths)
    before = world.paths.long.read_bytes()
    for run in grid.runs(world.suite):
        rows = read_rows(world.paths.predictions(run.id), PREDICTION)
        world.predictions(run, sorted(rows, key=lambda row: (row["score"], row["query_id"])))
    collect(world.suite, world.paths)
    assert world.paths.long.read_bytes() == before


def test_scores_and_ids_survive_the_csv_to_the_last_bit(world: World) -> None:
    value = 0.1 + 0.2  # 0.30000000000000004
    mend(world, lambda rows: [row | {"score": value} for row in rows])
    rows = scores_by_run(long_of(world))[SEED_RUN]
    assert set(rows["score"]) == {value}
    assert rows["query_id"].map(type).eq(str).all()


@pytest.mark.parametrize("text", ["007", "7", "NA", "", "nan", "1e5", "1.0", "True", "2026-11-27", "-0"])
@pytest.mark.parametrize("others", [[], ["x"]])
def test_text_that_looks_like_numbers_or_gaps_stays_text(
    tmp_path: Path, text: str, others: list[str]
) -> None:
    table = pd.DataFrame(
        [[each, each, each, 0, 0, each, each, each, 0, 0, 1.0] for each in [text, *others]],
        columns=LONG_COLUMNS,
    )
    path = tmp_path / "long.csv"
    spreadsheet(table).to_csv(path, index=False)
    found = read_long(path)
    for name in ("model", "train_set", "method", "task", "query_id", "cluster_id"):
        assert list(found[name]) == [text, *others]


def test_ids_that_a_spreadsheet_would_calculate_are_read_as_they_are(tmp_path: Path) -> None:
    ids = ["=1+1", "+a", "-a", "@a", "'a", "'=a", "-5", "a"]
    rows = [["m", "t", "x", 0, 0, "a", each, f"{each}!", 0, 0, 1.0] for each in ids]
    path = tmp_path / "long.csv"
    spreadsheet(pd.DataFrame(rows, columns=LONG_COLUMNS)).to_csv(path, index=False)
    assert "'=1+1" in path.read_text()
    found = read_long(path)
    assert list(found["query_id"]) == ids
    assert list(found["cluster_id"]) == [f"{each}!" for each in ids]


def test_each_train_set_has_the_rows_of_the_one_evaluation_of_the_base_model(tmp_path: Path) -> None:
    sets = {"one": ["easy"], "other": ["hard"], "both": ["easy", "hard"]}
    suite = make_suite(tmp_path / "results", train_sets=sets)
    world = World(suite, Paths(suite.results)).fill()
    base = {name: Run("nano-b", name, "zero-shot", 0, 0) for name in sets}
    apart = {name: world.paths.predictions(run.id) for name, run in base.items()}
    # As an earlier version wrote them: from the same weights, into a folder of each train set's own.
    for run in base.values():
        world.predict(run, lambda run, task, index: float(index % 2))
    long = long_of(world)
    whole = world.paths.long.read_bytes()
    for name in ("other", "both"):
        shutil.rmtree(apart[name].parent)
    by_run = scores_by_run(long_of(world))
    assert world.paths.long.read_bytes() == whole
    assert [run for run in by_run if run.method == "zero-shot" and run.model == "nano-b"] == [*base.values()]
    shown = [by_run[run].drop(columns="train_set").to_csv(index=False) for run in base.values()]
    assert len(set(shown)) == 1
    assert len(long) == len(grid.runs(suite)) * sum(TASKS.values())
    read = read_manifest(world.paths.long).inputs
    assert [str(apart[name]) in read for name in sets] == [True, False, False]
    rows = read_rows(apart["one"], PREDICTION)
    world.predictions(base["one"], [row | {"run": base["other"].id} for row in rows])
    with pytest.raises(VistaError, match=r"one/zero-shot.*found 'nano-b/other/.*expected 'nano-b/one/"):
        collect(world.suite, world.paths)


def test_a_run_without_positives_has_no_rows_and_stops_nobody(world: World) -> None:
    run = Run("nano-b", "both", "dpo", 0, 1)
    world.no_positives(run)
    by_run = scores_by_run(long_of(world))
    assert run not in by_run
    assert len(by_run) == len(grid.runs(world.suite)) - 1
    counts = read_manifest(world.paths.long).counts
    assert counts["runs"] - counts["runs_complete"] == 1


def test_a_run_without_positives_need_not_have_a_prediction_file(world: World) -> None:
    run = Run("nano-b", "both", "dpo", 0, 1)
    world.no_positives(run)
    world.paths.predictions(run.id).unlink()
    assert run not in scores_by_run(long_of(world))


def test_a_run_without_positives_that_has_predictions_is_an_error(world: World) -> None:
    rows = read_rows(world.paths.predictions(SEED_RUN.id), PREDICTION)
    world.predictions(SEED_RUN, rows, "no-positives")
    with pytest.raises(VistaError, match=r"sft-seed/seed0/round0: task 'easy': 4 predictions, but none"):
        collect(world.suite, world.paths)


def test_no_run_at_all_with_a_result_gives_an_empty_table(world: World) -> None:
    for run in grid.runs(world.suite):
        world.predictions(run, [], "no-positives")
    assert long_of(world).empty


def test_runs_that_were_not_evaluated_are_all_named(world: World) -> None:
    missing = [SEED_RUN, Run("nano-a", "both", "rest-em", 0, 2)]
    for run in missing:
        manifest_of(world.paths.predictions(run.id)).unlink()
    with pytest.raises(VistaError) as error:
        collect(world.suite, world.paths)
    assert all(run.id in str(error.value) for run in missing)
    assert not world.paths.long.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda rows: [r for r in rows if r["query_id"] != "hard-3"],
            "have no prediction, the first is 'hard-3'",
        ),
        (lambda rows: [r for r in rows if r["task"] != "hard"], "6 queries have no prediction"),
        (lambda rows: [*rows, rows[-1]], "1 queries have several predictions, the first is 'easy-0'"),
        (
            lambda rows: [*rows, rows[-1] | {"query_id": "new"}],
            "are not in the test split, the first is 'new'",
        ),
        (
            lambda rows: [*rows, rows[-1] | {"task": "other"}],
            "task 'other': 1 predictions, but none are expected",
        ),
        (lambda rows: [*rows[:-1], rows[-1] | {"cluster_id": "c"}], "another cluster_id"),
        (lambda rows: [*rows[:-1], rows[-1] | {"score": 1.5}], "score that is not within"),
        (lambda rows: [*rows[:-1], rows[-1] | {"score": float("nan")}], "score that is not within"),
        (lambda rows: [*rows[:-1], rows[-1] | {"score": None}], "score that is not within"),
    ],
)
def test_predictions_that_are_not_one_score_per_query_are_refused(
    world: World, change: object, said: str
) -> None:
    mend(world, change)
    with pytest.raises(VistaError) as error:
        collect(world.suite, world.paths)
    assert SEED_RUN.id in str(error.value)
    assert said in str(error.value)
    assert str(error.value).count("\n") == 1, "only this run is at fault"
    assert not world.paths.long.exists()


def test_the_predictions_of_another_run_are_refused(world: World) -> None:
    mend(world, lambda rows: [row | {"run": "nano-a/both/sft-seed/seed0/round0"} for row in rows])
    with pytest.raises(VistaError, match="column run: found 'nano-a/both/sft-seed"):
        collect(world.suite, world.paths)


def test_a_long_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    with pytest.raises(VistaError, match="no such file"):
        read_long(path)
    path.write_text("model,score\nm,1\n")
    with pytest.raises(VistaError, match="expected the columns"):
        read_long(path)


def test_only_the_tasks_of_the_train_set_are_in_domain(world: World) -> None:
    rows = scores_by_run(long_of(world))[SEED_RUN]
    assert set(in_domain(world.suite, SEED_RUN, rows)["task"]) == {"easy", "hard"}


def test_the_manifest_names_what_the_table_was_made_from(world: World) -> None:
    collect(world.suite, world.paths)
    inputs = read_manifest(world.paths.long).inputs
    assert {str(world.paths.predictions(run.id)) for run in grid.runs(world.suite)} <= set(inputs)
