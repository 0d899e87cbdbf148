"""A policy that had nothing to be trained on has nothing to say, and says so."""

from __future__ import annotations

from tests.rollouts.conftest import PREFIX, SAMPLES
from vista.config import Suite
from vista.grid import Run
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths
from vista.records import CRITICAL, ROLLOUT, SCORES, read_rows
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.rollouts.score import score_shard


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
