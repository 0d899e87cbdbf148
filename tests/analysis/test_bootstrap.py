"""Bootstrap intervals against slow loops, the clustered error, and simulations with a known truth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from tests.analysis.test_stats import frame, scores_of
from vista.analysis.stats import bootstrap_interval, overall_mean


def slow_interval(rows: pd.DataFrame, resamples: int, seed: int) -> tuple[float, float]:
    """The same in plain loops, for tasks without common images; drawn by other random numbers."""
    random = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        of_task = []
        for _, own in rows.groupby("task"):
            images = [list(scores) for _, scores in own.groupby("cluster_id")["score"]]
            drawn = [score for i in random.integers(len(images), size=len(images)) for score in images[i]]
            of_task.append(sum(drawn) / len(drawn))
        means.append(sum(of_task) / len(of_task))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def test_the_interval_is_that_of_plain_loops() -> None:
    rows = frame([*scores_of("a", 30, 1), *scores_of("b", 20, 2)])
    found = bootstrap_interval(rows)
    assert found == pytest.approx(slow_interval(rows, 1000, 5), abs=0.015)


def test_the_interval_is_that_of_scipy_for_one_question_an_image() -> None:
    rows = frame(scores_of("a", 60, 8)).drop_duplicates("cluster_id")
    found = bootstrap_interval(rows, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        [rows["score"].to_numpy(float)], np.mean, n_resamples=20_000, method="percentile", rng=3
    ).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_it_agrees_with_the_clustered_error_where_there_are_many_images() -> None:
    rows = frame(scores_of("a", 400, 3))
    mean = overall_mean(rows)
    low, high = bootstrap_interval(rows)
    assert (low + high) / 2 == pytest.approx(mean.mean, abs=0.1 * mean.se)
    assert (high - low) / 2 == pytest.approx(1.96 * mean.se, rel=0.08)


def test_images_that_two_tasks_share_are_drawn_for_both() -> None:
    one = scores_of("a", 40, 4)
    twice = frame([*one, *(("b", cluster, score) for _, cluster, score in one)])
    # A second copy of the task on the same images tells nothing new.
    assert bootstrap_interval(twice) == pytest.approx(bootstrap_interval(frame(one)), abs=1e-12)


def test_equal_scores_have_equal_intervals_whatever_their_order() -> None:
    rows = frame(scores_of("a", 30, 6))
    shuffled = rows.sample(frac=1.0, random_state=0)
    assert bootstrap_interval(rows) == bootstrap_interval(shuffled) == bootstrap_interval(rows)
    assert bootstrap_interval(rows, seed=1) != bootstrap_interval(rows)


def test_a_single_image_has_no_interval() -> None:
    assert all(math.isnan(end) for end in bootstrap_interval(frame([("a", "x", 1), ("a", "x", 0)])))


def test_it_covers_the_truth_in_95_of_100_simulated_benchmarks() -> None:
    """Two tasks, images with one to three questions that tend to agree; the truth is ½."""
    random = np.random.default_rng(7)
    simulated, covered = 2000, 0
    tasks, images = ("a", "b"), 60
    for _ in range(simulated):
        rows: list[tuple[str, str, float]] = []
        for task in tasks:
            level = random.beta(2, 2, size=images)
            asked = random.integers(1, 4, size=images)
            owner = np.repeat(np.arange(images), asked)
            right = random.random(len(owner)) < level[owner]
            rows += [(task, f"{task}{i}", float(score)) for i, score in zip(owner, right, strict=True)]
        low, high = bootstrap_interval(frame(rows), resamples=400)
        covered += low <= 0.5 <= high
    assert 0.93 <= covered / simulated <= 0.97
