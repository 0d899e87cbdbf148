"""Detectors are measured as slow, obvious code would measure them, and with honest intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_auc_score

from vista.analysis.intervals import auroc, auroc_within, partial_correlation
from vista.seeding import generator

few = st.integers(0, 4)  # so that there are many ties


@st.composite
def judged(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Suspicion by two detectors, unfaithfulness and query of some solutions."""
    rows = draw(st.lists(st.tuples(few, few, st.booleans(), st.integers(0, 3)), min_size=1, max_size=25))
    table = np.array(rows)
    return table[:, :2].astype(float), table[:, 2].astype(bool), table[:, 3].astype(int)


def pairs_in_order(suspicion: np.ndarray, unfaithful: np.ndarray, groups: np.ndarray) -> tuple[float, int]:
    """Pairs of the same group in the right order, ties half, and how many pairs there are."""
    right, count = 0.0, 0
    for i in np.flatnonzero(unfaithful):
        for j in np.flatnonzero(~unfaithful):
            if groups[i] == groups[j]:
                count += 1
                right += 1.0 if suspicion[i] > suspicion[j] else 0.5 * (suspicion[i] == suspicion[j])
    return right, count


@settings(max_examples=150, deadline=None)
@given(judged())
def test_the_auroc_is_sklearns_and_counts_pairs(solutions) -> None:
    suspicion, unfaithful, queries = solutions
    for index, found in enumerate(auroc(suspicion, unfaithful, queries)):
        right, count = pairs_in_order(suspicion[:, index], unfaithful, np.zeros(len(queries)))
        if count == 0:
            assert math.isnan(found.value)
            continue
        assert found.value == pytest.approx(right / count)
        assert found.value == pytest.approx(roc_auc_score(unfaithful, suspicion[:, index]))
        assert math.isnan(found.low) or 0.0 <= found.low <= found.value <= found.high <= 1.0


@settings(max_examples=150, deadline=None)
@given(judged())
def test_within_queries_only_their_own_pairs_count(solutions) -> None:
    suspicion, unfaithful, queries = solutions
    for index, found in enumerate(auroc_within(suspicion, unfaithful, queries, queries)):
        right, count = pairs_in_order(suspicion[:, index], unfaithful, queries)
        assert math.isnan(found.value) if count == 0 else found.value == pytest.approx(right / count)


def test_a_score_that_differs_by_query_alone_detects_nothing_within() -> None:
    queries = np.array([0, 0, 0, 1, 1, 1])
    unfaithful = np.array([True, True, False, True, False, False])
    suspicion = np.where(queries == 0, 1.0, 0.0)[:, None]
    assert auroc(suspicion, unfaithful, queries)[0].value == pytest.approx(6 / 9)
    assert auroc_within(suspicion, unfaithful, queries, queries)[0].value == 0.5


def test_auroc_within_queries_by_hand() -> None:
    queries = np.array([0, 0, 0, 1, 1, 2])
    unfaithful = np.array([True, False, False, True, False, True])
    suspicion = np.array([3.0, 1.0, 4.0, 2.0, 1.0, 0.0])[:, None]
    found = auroc_within(suspicion, unfaithful, queries, queries)[0]  # 3 > 1, 3 < 4; 2 > 1
    assert (found.value, found.n, found.clusters) == (pytest.approx(2 / 3), 5, 2)
    # Influence of query 0: (1 − 2/3·2)/3, of query 1: (1 − 2/3·1)/3; variance 2·Σ².
    reach = norm.ppf(0.975) * math.sqrt(2 * 2 * (1 / 9) ** 2) / (2 / 9)
    assert math.log(found.high / (1 - found.high)) == pytest.approx(math.log(2.0) + reach)


def test_two_policies_solutions_to_one_query_are_not_compared_but_belong_together() -> None:
    unfaithful = np.array([True, False, True, False])
    suspicion = np.array([1.0, 2.0, 3.0, 0.0])[:, None]
    one_query = np.zeros(4, dtype=int)
    found = auroc_within(suspicion, unfaithful, np.array([0, 0, 1, 1]), one_query)[0]
    assert (found.value, found.clusters) == (0.5, 1)
    assert math.isnan(found.low)


@pytest.mark.parametrize("same", [True, False])
def test_one_sort_of_rationale_has_no_auroc(same: bool) -> None:
    unfaithful, queries = np.full(5, same), np.arange(5)
    found = auroc(np.arange(5.0)[:, None], unfaithful, queries)[0]
    assert math.isnan(found.value)
    assert found.n == 0
    assert math.isnan(auroc_within(np.arange(5.0)[:, None], unfaithful, queries, queries)[0].value)


def test_without_clusters_the_variance_is_delongs() -> None:
    rng = generator("test", "DeLong")
    unfaithful = np.arange(40) < 15
    suspicion = rng.normal(size=40) + unfaithful
    wins = (suspicion[:15, None] > suspicion[None, 15:]).astype(float)
    delong = wins.mean(1).var(ddof=1) / 15 + wins.mean(0).var(ddof=1) / 25
    found = auroc(suspicion[:, None], unfaithful, np.arange(40))[0]
    low = math.log(found.value / (1 - found.value)) - math.log(found.low / (1 - found.low))
    error = low * found.value * (1 - found.value) / norm.ppf(0.975)
    assert error**2 == pytest.approx(delong, rel=0.05)  # its finite corrections differ a little


def draw_judged(rng: np.random.Generator, queries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solutions of 60 queries that share a random effect each; the true AUROC is Φ(1/√(2·(1 + 1)))."""
    codes = np.repeat(np.arange(queries), rng.integers(2, 8, size=queries))
    unfaithful = rng.random(len(codes)) < rng.beta(1.0, 2.0, size=queries)[codes]
    effect, noise = rng.normal(size=queries)[codes], rng.normal(size=len(codes))
    return (unfaithful + effect + noise)[:, None], unfaithful, codes


def test_intervals_cover_the_true_auroc_as_often_as_stated() -> None:
    rng = generator("test", "coverage of the AUROC")
    across, within = norm.cdf(1 / math.sqrt(2 * 2)), norm.cdf(1 / math.sqrt(2))
    covered = np.zeros(2)
    for _ in range(400):
        suspicion, unfaithful, queries = draw_judged(rng, 60)
        found = auroc(suspicion, unfaithful, queries)[0]
        inside = auroc_within(suspicion, unfaithful, queries, queries)[0]
        covered += [found.low <= across <= found.high, inside.low <= within <= inside.high]
    assert ((covered / 400 >= 0.92) & (covered / 400 <= 0.98)).all(), covered / 400


@pytest.mark.parametrize("ranked", [False, True])
def test_the_partial_correlation_is_that_of_regression_residuals(ranked: bool) -> None:
    rng = generator("test", "partial")
    length = rng.integers(5, 30, size=50).astype(float)
    unfaithful = rng.random(50) < length / 35
    suspicion = (length + 6 * unfaithful + rng.normal(size=50))[:, None]
    found = partial_correlation(suspicion, unfaithful, length, np.arange(50), ranked)[0]
    columns = [suspicion[:, 0], unfaithful.astype(float), length]
    x, y, control = (rankdata(column) if ranked else column for column in columns)
    design = sm.add_constant(control)
    residuals = [sm.OLS(column, design).fit().resid for column in (x, y)]
    assert found.value == pytest.approx(np.corrcoef(*residuals)[0, 1])
    assert found.low < found.value < found.high


def test_a_detector_that_is_the_length_has_no_correlation_beside_it() -> None:
    length = np.array([3.0, 4.0, 5.0, 6.0, 9.0])
    unfaithful = np.array([True, False, True, False, True])
    alone = partial_correlation(2 * length[:, None], unfaithful, length, np.arange(5), ranked=False)[0]
    assert math.isnan(alone.value)


def test_a_constant_length_leaves_the_plain_correlation() -> None:
    unfaithful = np.array([True, False, True, False, True])
    x = np.array([2.0, 1.0, 4.0, 3.0, 5.0])
    found = partial_correlation(x[:, None], unfaithful, np.full(5, 7.0), np.arange(5), ranked=False)[0]
    assert found.value == pytest.approx(np.corrcoef(x, unfaithful)[0, 1])


@pytest.mark.parametrize("ranked", [False, True])
def test_intervals_cover_the_true_partial_correlation_as_often_as_stated(ranked: bool) -> None:
    rng = generator("test", "coverage of the correlation")

    def draw(queries: int) -> tuple[np.ndarray, ...]:
        suspicion, unfaithful, codes = draw_judged(rng, queries)
        length = rng.normal(size=len(codes))
        return suspicion + length[:, None], unfaithful, length, codes

    truth = partial_correlation(*draw(100_000), ranked=ranked)[0].value
    found = [partial_correlation(*draw(60), ranked=ranked)[0] for _ in range(400)]
    covered = np.mean([each.low <= truth <= each.high for each in found])
    assert 0.91 <= covered <= 0.98
