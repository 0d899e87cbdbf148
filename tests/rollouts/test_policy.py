"""A policy that was never trained gives empty files that say so; and shards of its train queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nano import query
from tests.rollouts.conftest import POLICY, PREFIX, SAMPLES
from vista.config import Suite
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths
from vista.records import CRITICAL, QUERY, ROLLOUT, SCORES, read_rows, write_rows
from vista.rollouts.policy import load_policy, shard_bounds, shard_queries
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.rollouts.score import score_shard
from vista.solutions import asked_by


def test_a_policy_without_positives_gives_empty_files_of_that_status(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    policy = Run("nano", "tasks", "vista", 0, 1)
    paths.trained(policy.id).mkdir(parents=True)
    Recorder("training", {}, []).write(paths.trained(policy.id), {}, "no-positives")
    scores = f"{PREFIX}+positives"
    sample_shard(suite, paths, policy, SAMPLES, 0)
    resample_shard(suite, paths, policy, PREFIX, 0)
    score_shard(suite, paths, policy, scores, 0)
    written = {
        ("samples", SAMPLES): ROLLOUT,
        ("resamples", PREFIX): ROLLOUT,
        ("critical", PREFIX): CRITICAL,
        ("scores", scores): SCORES,
    }
    for (kind, name), schema in written.items():
        output = paths.rollouts(policy.id, kind, name, 0, 1)
        assert read_rows(output, schema) == []
        assert read_manifest(output).status == "no-positives"


@given(total=st.integers(0, 1000), shards=st.integers(1, 50))
def test_shards_cover_every_query_once_and_evenly(total: int, shards: int) -> None:
    bounds = [shard_bounds(total, shard, shards) for shard in range(shards)]
    assert [index for first, last in bounds for index in range(first, last)] == list(range(total))
    sizes = [last - first for first, last in bounds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shard", [-1, 3])
def test_a_shard_that_does_not_exist_is_refused(shard: int) -> None:
    with pytest.raises(VistaError, match="not among shards 0 to 2"):
        shard_bounds(10, shard, 3)


@pytest.mark.parametrize("padding", [True, False, None])
def test_a_policy_may_be_padded_where_the_suite_or_a_gpu_allows_it(
    small: tuple[Suite, Paths], padding: bool | None
) -> None:
    suite, paths = small
    checkpoint = load_policy(suite.model_copy(update={"padding": padding}), paths, POLICY)
    on_gpu = checkpoint.device.type == "cuda"
    assert checkpoint.padding is (on_gpu if padding is None else padding)


def test_shards_take_the_tasks_one_after_another(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    in_two = suite.model_copy(update={"shards": 2})
    names = [[q["query_id"] for q in shard_queries(in_two, paths, POLICY, shard)] for shard in (0, 1)]
    assert names == [["q0", "q1", "q2", "q3"], ["q4", "q5", "q6", "q7", "q8"]]


def test_a_query_id_in_two_tasks_is_refused(small: tuple[Suite, Paths]) -> None:
    suite, paths = small
    (paths.results / "tasks").unlink()
    for task in ("first", "second"):
        write_rows(paths.queries(task, "train"), [{**query(0), "task": task}], QUERY)
    with pytest.raises(VistaError, match=r"'q0' is already in .*first"):
        shard_queries(suite, paths, POLICY, 0)


def test_a_solution_to_an_unknown_query_is_refused() -> None:
    with pytest.raises(VistaError, match=r"'q9'.*delete the policy's samples"):
        asked_by([query(0)], [{"query_id": "q0"}, {"query_id": "q9"}])
