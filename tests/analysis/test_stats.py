"""Means and standard errors against hand-made numbers, statsmodels and slow loops."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from vista.analysis.stats import averaged, overall_mean, paired_difference, paired_scores
from vista.errors import VistaError

# A busy core is no reason to fail, and fifty examples are enough for sums and means.
busy = settings(max_examples=50)


def frame(rows: list[tuple[str, str, float]]) -> pd.DataFrame:
    """Scores from (task, cluster, score); queries are numbered."""
    table = pd.DataFrame(rows, columns=["task", "cluster_id", "score"])
    return table.assign(query_id=[str(i) for i in range(len(table))])


def scores_of(task: str, clusters: int, seed: int, prefix: str | None = None) -> list[tuple[str, str, float]]:
    """Random scores of one task: clusters of one to four queries that tend to agree."""
    random = np.random.default_rng(seed)
    rows = []
    for cluster in range(clusters):
        level = random.random()
        for _ in range(random.integers(1, 5)):
            rows.append((task, f"{prefix or task}{cluster}", float(random.random() < level)))
    return rows


@st.composite
def one_task(draw: st.DrawFn, name: str = "a") -> list[tuple[str, str, float]]:
    count = draw(st.integers(2, 30))
    clusters = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    values = draw(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=count, max_size=count))
    # Two images at least: with one there is no standard error.
    clusters[:2] = [0, 1]
    return [(name, f"{name}{cluster}", value) for cluster, value in zip(clusters, values, strict=True)]


def test_a_hand_made_example_gives_the_numbers_worked_out_on_paper() -> None:
    # Mean 0.5; residuals +½ +½ | −½ −½ | +½ −½: cluster sums 1, −1, 0;
    # variance 3/2 · (1 + 1 + 0) / 6² = 1/12.
    scores = frame([("a", "x", 1), ("a", "x", 1), ("a", "y", 0), ("a", "y", 0), ("a", "z", 1), ("a", "z", 0)])
    found = overall_mean(scores)
    assert found.mean == 0.5
    assert found.se == pytest.approx(math.sqrt(1 / 12))
    assert (found.n, found.clusters) == (6, 3)


def test_the_overall_mean_weighs_tasks_equally_not_queries() -> None:
    scores = frame([("a", "x", 1), ("a", "y", 1), ("a", "z", 1), ("a", "w", 1), ("b", "u", 0), ("b", "v", 0)])
    assert overall_mean(scores).mean == 0.5


@busy
@given(one_task())
def test_one_task_agrees_with_statsmodels_cluster_robust_error_of_a_constant(rows: list) -> None:
    scores = frame(rows)
    codes = pd.factorize(scores["cluster_id"])[0]
    fit = sm.OLS(scores["score"].to_numpy(), np.ones(len(scores))).fit(
        cov_type="cluster", cov_kwds={"groups": codes, "use_correction": True}
    )
    found = overall_mean(scores)
    assert found.mean == pytest.approx(fit.params[0], abs=1e-12)
    assert found.se == pytest.approx(fit.bse[0], abs=1e-9)


def test_tasks_that_share_every_image_agree_with_statsmodels_contrast_of_task_means() -> None:
    rows = [row for task in "abc" for row in scores_of(task, clusters=40, seed=ord(task), prefix="image")]
    scores = frame(rows)
    dummies = pd.get_dummies(scores["task"], dtype=float).to_numpy()
    fit = sm.OLS(scores["score"].to_numpy(), dummies).fit(
        cov_type="cluster",
        cov_kwds={"groups": pd.factorize(scores["cluster_id"])[0], "use_correction": False},
    )
    weights = np.full(3, 1 / 3)
    expected = math.sqrt(40 / 39 * float(weights @ fit.cov_params() @ weights))
    assert overall_mean(scores).se == pytest.approx(expected)
    apart = frame([(task, task + cluster, score) for task, cluster, score in rows])
    assert overall_mean(apart).se != pytest.approx(expected, rel=1e-3), "sharing images must matter"


@busy
@given(one_task("a"), one_task("b"), one_task("c"))
def test_tasks_without_common_images_add_as_independent_ones(a: list, b: list, c: list) -> None:
    alone = [overall_mean(frame(rows)).se for rows in (a, b, c)]
    expected = math.sqrt(sum(se**2 for se in alone)) / 3
    assert overall_mean(frame(a + b + c)).se == pytest.approx(expected, abs=1e-12)


def test_two_copies_of_a_task_on_the_same_images_are_worth_no_more_than_one() -> None:
    rows = scores_of("a", clusters=25, seed=1, prefix="image")
    copies = rows + [("b", cluster, score) for _, cluster, score in rows]
    assert overall_mean(frame(copies)).se == pytest.approx(overall_mean(frame(rows)).se)


def test_images_with_one_query_each_give_the_textbook_standard_error() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    scores = frame([("a", str(i), value) for i, value in enumerate(values)])
    assert overall_mean(scores).se == pytest.approx(np.std(values, ddof=1) / math.sqrt(5))


@busy
@given(one_task(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_names_of_images_do_not_matter(rows: list, random: object) -> None:
    shuffled = [(task, f"other {cluster}", score) for task, cluster, score in rows]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = overall_mean(frame(rows)), overall_mean(frame(shuffled))
    assert one.mean == pytest.approx(other.mean, abs=1e-12)
    assert one.se == pytest.approx(other.se, abs=1e-12)


@busy
@given(one_task(), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_error_scales_with_the_scores_and_ignores_a_shift(rows: list, scale: float, shift: float) -> None:
    moved = frame([(task, cluster, score * scale + shift) for task, cluster, score in rows])
    assert overall_mean(moved).se == pytest.approx(scale * overall_mean(frame(rows)).se, abs=1e-9)


def test_the_error_covers_the_true_mean_as_often_as_it_should() -> None:
    """Over simulated test sets, the mean lies within two errors of the truth in about 95 of 100."""
    covered = [
        abs(found.mean - 0.5) < 1.96 * found.se
        for found in (overall_mean(frame(scores_of("a", clusters=60, seed=seed))) for seed in range(2000))
    ]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_a_single_image_has_no_standard_error() -> None:
    assert math.isnan(overall_mean(frame([("a", "x", 1), ("a", "x", 0)])).se)
    mixed = frame([("a", "x", 1), ("a", "y", 0), ("b", "z", 1), ("b", "z", 0)])
    assert math.isnan(overall_mean(mixed).se)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no scores"),
        ([("a", "", 1.0)], "no cluster_id"),
        ([("a", None, 1.0)], "no cluster_id"),
        ([("a", "x", math.nan)], "not finite"),
    ],
)
def test_what_has_no_meaningful_mean_is_refused(rows: list, said: str) -> None:
    with pytest.raises(VistaError, match=said):
        overall_mean(frame(rows))


# --- paired differences ---


def test_a_paired_difference_by_hand() -> None:
    # Differences 1, 1 | 0, 0 | −1, 0 have the mean 1/6; cluster sums of residuals 5/3, −1/3, −4/3;
    # variance 3/2 · (25 + 1 + 16)/9 / 36 = 7/36.
    images = ["x", "x", "y", "y", "z", "z"]
    mine = frame([("a", image, s) for image, s in zip(images, [1, 1, 0, 1, 0, 1], strict=True)])
    theirs = frame([("a", image, s) for image, s in zip(images, [0, 0, 0, 1, 1, 1], strict=True)])
    found = paired_difference(mine, theirs)
    assert found.mean == pytest.approx(1 / 6)
    assert found.se == pytest.approx(math.sqrt(7 / 36))


@busy
@given(one_task("a"), one_task("b"), st.randoms(use_true_random=False))
def test_the_paired_error_is_that_of_the_differences_and_changes_sign_only(
    a: list, b: list, random: object
) -> None:
    mine = frame(a + b)
    theirs = mine.assign(score=[random.random() for _ in range(len(mine))])  # type: ignore[attr-defined]
    found, back = paired_difference(mine, theirs), paired_difference(theirs, mine)
    difference = mine.assign(score=mine["score"] - theirs["score"])
    assert found.se == pytest.approx(overall_mean(difference).se, abs=1e-12)
    assert found.mean == pytest.approx(overall_mean(mine).mean - overall_mean(theirs).mean, abs=1e-12)
    assert (found.mean, found.se) == (pytest.approx(-back.mean, abs=1e-12), pytest.approx(back.se, abs=1e-12))


def test_a_run_does_not_differ_from_itself() -> None:
    scores = frame(scores_of("a", clusters=10, seed=0))
    found = paired_difference(scores, scores.sample(frac=1, random_state=1))
    assert (found.mean, found.se) == (0.0, 0.0)


def test_equal_query_ids_of_different_tasks_are_not_paired_with_each_other() -> None:
    mine = pd.DataFrame(
        {"task": ["a", "b"], "query_id": ["0", "0"], "cluster_id": ["x", "y"], "score": [1.0, 0.0]}
    )
    assert list(paired_scores(mine, mine)["score"]) == [0.0, 0.0]


def test_runs_on_different_queries_are_not_compared() -> None:
    scores = frame(scores_of("a", clusters=5, seed=0))
    with pytest.raises(VistaError, match="answered by only one"):
        paired_difference(scores, scores.iloc[1:])
    with pytest.raises(VistaError, match="two scores"):
        paired_difference(pd.concat([scores, scores.iloc[:1]]), scores)
    with pytest.raises(VistaError, match="two cluster ids"):
        paired_difference(scores.assign(cluster_id="elsewhere"), scores)


def test_runs_in_another_order_are_averaged_alike_and_a_query_that_comes_twice_is_refused() -> None:
    frames = {
        (model, seed): pd.DataFrame(
            {
                "task": ["a", "a", "b"],
                "query_id": ["1", "2", "1"],
                "cluster_id": ["x", "y", "z"],
                "score": [float(seed), 1.0 - seed, 0.5 * (model == "m")],
            }
        )
        for model, seed in (("m", 0), ("m", 1), ("n", 0))
    }
    found = averaged(frames)
    assert found["score"].tolist() == [0.25, 0.75, 0.25]
    turned = {key: frame if key == ("m", 0) else frame[::-1] for key, frame in frames.items()}
    pd.testing.assert_frame_equal(averaged(turned), found, check_dtype=False)
    twice = {key: pd.concat([frame, frame[:1]], ignore_index=True) for key, frame in frames.items()}
    with pytest.raises(VistaError, match="do not answer the same queries"):
        averaged(twice)
