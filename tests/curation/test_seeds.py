"""Which rationales of the seed split a run is trained on: annotated, a teacher's, or the base's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.curation.conftest import TASKS, Folder, query, rollout
from vista import grid
from vista.config import AnnotatedRationales, Sampling, SelfRationales, Suite, TeacherRationales
from vista.curation.curate import curate
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths
from vista.records import EXAMPLE, QUERY, ROLLOUT, Row, read_rows, write_rows

Maker = Callable[..., Run]

TEACHER = TeacherRationales(
    kind="teacher", endpoint="http://localhost/v1", model="m", cache=Path("cache"), max_requests=9
)


def with_seeds(suite: Suite, settings: Any) -> Suite:
    return suite.model_copy(update={"seed_rationales": settings})


def own(suite: Suite, **changes: Any) -> Suite:
    sampling = Sampling(k=3, max_new_tokens=50)
    return with_seeds(suite, SelfRationales(kind="self", rollouts=sampling, **changes))


def sampled(suite: Suite, paths: Paths, run: Run, rows: list[Row]) -> None:
    """Spread the base model's solutions to the seed queries over the shards."""
    found = grid.seed_samples(suite, run)
    assert found is not None
    for shard in range(suite.shards):
        path = paths.rollouts(found.policy.id, "samples", found.name, shard, suite.shards)
        write_rows(path, rows[shard :: suite.shards], ROLLOUT)
        Recorder("rollouts", {}, []).write(path, {})


def read(paths: Paths, run: Run) -> list[Row]:
    return read_rows(paths.training_set(run.id), EXAMPLE)


def texts(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row["query_id"], row["completion"][0]["content"][0]["text"]) for row in rows]


def test_the_base_model_s_right_solutions_are_trained_on_as_sampled(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    run = run_of("sft-seed", 0)
    mine = own(suite, max_per_query=2)
    right = [rollout("grid-open-1", n, True) for n in range(2)] + [rollout("grid-closed-0", 1, True)]
    wrong = [rollout("grid-open-1", 2, False), rollout("grid-chain-0", 0, False)]
    sampled(mine, paths, run, wrong + right)
    curate(mine, paths, run)
    rows = read(paths, run)
    assert texts(rows) == [("grid-closed-0", "text 1"), ("grid-open-1", "text 0"), ("grid-open-1", "text 1")]
    assert [row["completion_ids"] for row in rows] == [[5, 6, 1], [5, 6, 0], [5, 6, 1]]
    assert {row["source"] for row in rows} == {"seed"}
    manifest = read_manifest(paths.training_set(run.id))
    assert manifest.counts["examples"] == manifest.counts["from_seed"] == 3
    assert manifest.counts["seed_without_rationale"] == 4
    assert manifest.settings["seed_rationales"] == mine.seed_rationales.model_dump(mode="json")
    assert len(manifest.inputs) == len(TASKS) + mine.shards


def test_at_most_so_many_per_query_are_drawn_by_the_run_s_seed(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    mine = own(suite)
    rows = [rollout(f"{task}-{q}", n, True) for task in TASKS for q in range(2) for n in range(10)]
    drawn = []
    for seed in (0, 0, 1):
        run = run_of("sft-seed", 0, seed)
        sampled(mine, paths, run, rows)
        curate(mine, paths, run)
        drawn.append(texts(read(paths, run)))
        assert [name for name, _ in drawn[-1]] == [f"{task}-{q}" for task in TASKS for q in range(2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({text for _, text in drawn[0]}) > 1


def test_every_round_mixes_in_the_rows_of_sft_seed(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    mine = own(suite)
    seed_run = run_of("sft-seed", 0)
    sampled(mine, paths, seed_run, [rollout("grid-open-0", n, True) for n in range(10)])
    curate(mine, paths, seed_run)
    for number in (1, 2):
        run = run_of("rest-em", number)
        folder.rollouts(run, [rollout("grid-open-1", 0, True, text="from the train split")])
        curate(mine, paths, run)
        rows = read(paths, run)
        assert rows[:1] == read(paths, seed_run)
        assert texts(rows[1:]) == [("grid-open-1", "from the train split")]
    run = run_of("dpo")
    folder.rollouts(run, [rollout("grid-open-1", n, n == 0) for n in range(2)])
    curate(mine, paths, run)  # pairs: no seed rows
    assert read_manifest(paths.training_set(run.id)).counts["from_seed"] == 0
    assert "seed_rationales" not in read_manifest(paths.training_set(run.id)).settings


def test_a_base_model_without_a_right_solution_leaves_sft_seed_untrained(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    run = run_of("sft-seed", 0)
    mine = own(suite)
    sampled(mine, paths, run, [rollout("grid-open-0", n, False) for n in range(3)])
    curate(mine, paths, run)
    manifest = read_manifest(paths.training_set(run.id))
    assert (manifest.status, manifest.counts["examples"]) == ("no-positives", 0)
    assert read(paths, run) == []


def test_a_solution_to_another_query_is_refused(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    run = run_of("sft-seed", 0)
    sampled(own(suite), paths, run, [rollout("grid-open-9", 0, True)])
    with pytest.raises(VistaError, match="'grid-open-9' is not among the seed queries"):
        curate(own(suite), paths, run)


def some_without(paths: Paths) -> None:
    """The seed split as a teacher leaves it: one query of each task without a rationale."""
    for task in TASKS:
        rows = [query(f"{task}-{n}", task, "seed") for n in range(2)]
        rows[0]["rationale"] = None
        write_rows(paths.queries(task, "seed"), rows, QUERY)


def test_queries_that_the_teacher_did_not_solve_are_left_out_and_counted(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    some_without(paths)
    run = run_of("sft-seed", 0)
    curate(with_seeds(suite, TEACHER), paths, run)
    assert [row["query_id"] for row in read(paths, run)] == [f"{task}-1" for task in TASKS]
    manifest = read_manifest(paths.training_set(run.id))
    assert (manifest.counts["seed_without_rationale"], manifest.counts["from_seed"]) == (3, 3)
    assert manifest.settings["seed_rationales"]["kind"] == "teacher"


def test_a_teacher_that_solved_nothing_leaves_sft_seed_untrained(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
) -> None:
    folder.queries("seed", rationale=None)
    run = run_of("sft-seed", 0)
    curate(with_seeds(suite, TEACHER), paths, run)
    assert read_manifest(paths.training_set(run.id)).status == "no-positives"


def test_an_annotated_split_must_be_whole(suite: Suite, paths: Paths, folder: Folder, run_of: Maker) -> None:
    some_without(paths)
    with pytest.raises(VistaError, match=r"seed query 'grid-closed-0'.*no rationale"):
        curate(with_seeds(suite, AnnotatedRationales()), paths, run_of("sft-seed", 0))
