"""What a pilot trains on where there is nothing right, and that a real run never does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.curation.conftest import TASKS, Folder, rollout
from vista.config import SelfRationales, Suite, TeacherRationales
from vista.curation.curate import curate
from vista.grid import Run
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths
from vista.reads import Reads
from vista.records import EXAMPLE, PAIR, ROLLOUT, write_rows
from vista.records import read_rows as read
from vista.training.data import read_training_set

Maker = Callable[..., Run]
QUERIES = [f"{task}-{number}" for task in TASKS for number in range(2)]


@pytest.fixture
def pilot(suite: Suite) -> Suite:
    return suite.model_copy(update={"pilot": 2})


def all_wrong(folder: Folder, run: Run, **changes: object) -> None:
    rows = [rollout(query, sample, False, **changes) for query in QUERIES for sample in range(3)]
    folder.rollouts(run, rows, resamples=[], scores=[], gains=[])


def text_of(turns: list[dict[str, list[dict[str, str]]]]) -> str:
    return turns[0]["content"][0]["text"]


def test_of_each_query_the_first_sample_stands_in_as_it_was_sampled(
    pilot: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    run = run_of("rest-em", 1)
    all_wrong(folder, run)
    curate(pilot, paths, run)
    made = read_manifest(paths.training_set(run.id))
    assert made.status == "complete"
    assert made.counts["from_pilot"] == len(QUERIES)
    rows = [row for row in read_training_set(paths.training_set(run.id), EXAMPLE) if row["source"] == "pilot"]
    assert [row["query_id"] for row in rows] == QUERIES
    assert {tuple(row["completion_ids"]) for row in rows} == {(5, 6, 0)}


def test_a_real_run_without_anything_right_stays_empty(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    run = run_of("rest-em", 1)
    all_wrong(folder, run)
    curate(suite, paths, run)
    assert read_manifest(paths.training_set(run.id)).status == "no-positives"
    assert read(paths.training_set(run.id), EXAMPLE) == []


def test_pairs_are_of_the_first_and_the_last_sample(
    pilot: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    run = run_of("dpo", 1)
    all_wrong(folder, run)
    curate(pilot, paths, run)
    rows = read(paths.training_set(run.id), PAIR)
    assert len(rows) == len(QUERIES) == read_manifest(paths.training_set(run.id)).counts["from_pilot"]
    assert {(*row["chosen_ids"], *row["rejected_ids"]) for row in rows} == {(5, 6, 0, 5, 6, 2)}


def test_a_query_whose_samples_say_nothing_has_no_stand_in(
    pilot: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    """A response without tokens that did not end cannot be trained on."""
    run = run_of("dpo", 1)
    rows = [rollout(query, 0, False, token_ids=[], finished=False) for query in QUERIES[1:]]
    folder.rollouts(run, [rollout(QUERIES[0], 0, False), *rows], resamples=[], scores=[], gains=[])
    curate(pilot, paths, run)
    assert [row["query_id"] for row in read_training_set(paths.training_set(run.id), PAIR)] == QUERIES[:1]


def test_nothing_stands_in_where_there_is_something_right(
    pilot: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    run = run_of("rest-em", 1)
    rows = [rollout(query, 0, query == QUERIES[0]) for query in QUERIES]
    folder.rollouts(run, rows, resamples=[], scores=[], gains=[])
    curate(pilot, paths, run)
    counts = read_manifest(paths.training_set(run.id)).counts
    assert "from_pilot" not in counts
    assert counts["from_samples"] == 1


@pytest.mark.parametrize("is_pilot", [True, False])
def test_a_seed_split_without_a_rationale_is_answered_in_the_answers_alone(
    suite: Suite, pilot: Suite, paths: Paths, folder: Folder, run_of: Maker, tmp_path: Path, is_pilot: bool
) -> None:
    teacher = TeacherRationales(
        kind="teacher", endpoint="http://host/v1", model="m", cache=tmp_path / "cache", max_requests=9
    )
    folder.queries("seed", rationale=None)
    run = run_of("sft-seed", 0)
    used = (pilot if is_pilot else suite).model_copy(update={"seed_rationales": teacher})
    curate(used, paths, run)
    made = read_manifest(paths.training_set(run.id))
    assert made.status == ("complete" if is_pilot else "no-positives")
    assert made.counts["seed_without_rationale"] == len(QUERIES)
    if is_pilot:
        rows = read_training_set(paths.training_set(run.id), EXAMPLE)
        assert made.counts["from_pilot"] == len(rows) == len(QUERIES)
        assert {text_of(row["completion"]) for row in rows} == {suite.wording.chosen.format(answer="4")}


def test_the_base_models_own_wrong_rationales_stand_in_where_it_is_to_write_them(
    pilot: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    own = pilot.model_copy(update={"seed_rationales": SelfRationales(kind="self"), "shards": 1})
    run = run_of("sft-seed", 0)
    seed = Reads(own, paths).curation(run).seed
    assert seed is not None
    (file,) = seed.samples
    write_rows(file, [rollout(query, 0, False) for query in QUERIES], ROLLOUT)
    Recorder("rollouts", {}, []).write(file, {"solutions": len(QUERIES)})
    curate(own, paths, run)
    rows = read_training_set(paths.training_set(run.id), EXAMPLE)
    assert {(row["source"], tuple(row["completion_ids"])) for row in rows} == {("pilot", (5, 6, 0))}
