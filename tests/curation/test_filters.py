"""The filters against hand-made scores, scipy's z-score and properties of the rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vista.errors import VistaError
from vista.filters import Context
from vista.filters.none import NoFilterSettings
from vista.filters.vas import VasSettings, VisionAwareAttention
from vista.plugins import make
from vista.records import Row
from vista.scores import layer_indices, standardise, visual_share
from vista.seeding import generator
from vista.solutions import Solution

SHARES = st.lists(st.floats(0.01, 0.99).map(lambda x: round(x, 3)), min_size=1, max_size=12)


def solution(sample: int, correct: bool = True) -> Solution:
    return Solution("q", ("sample", -1, sample), [sample], f"text {sample}", correct)


def row(sample: int, share: float, layers: int = 3, at: int = 1) -> Row:
    """A share of ``share`` at layer ``at``, none on the image elsewhere."""
    vision = [share if layer == at else 0.0 for layer in range(layers)]
    return {
        "query_id": "q",
        "sample": sample,
        "source": "sample",
        "parent": None,
        "layers": list(range(layers)),
        "num_layers": layers,
        "s_vis": vision,
        "s_sys": [(1 - value) / 2 for value in vision],
        "s_ins": [(1 - value) / 2 for value in vision],
    }


def context(shares: list[float], correct: list[bool] | None = None) -> Context:
    flags = correct or [True] * len(shares)
    return Context(
        "q",
        [solution(n, flag) for n, flag in enumerate(flags)],
        {("sample", -1, n): row(n, share) for n, share in enumerate(shares)},
        lambda: generator("test"),
    )


def kept(shares: list[float], correct: list[bool] | None = None, **settings: Any) -> list[bool]:
    given_context = context(shares, correct)
    found = [s for s in given_context.solutions if s.correct]
    return VisionAwareAttention(VasSettings(kind="vas", **settings)).keep(found, given_context)


def test_positives_half_a_standard_deviation_below_the_mean_of_their_query_fall():
    # mean 0.4, population sd 0.1: z = -1.41…, -0.7…, 0, 0.7…, 1.41…
    shares = [0.4 - 0.1414213562, 0.4 - 0.0707106781, 0.4, 0.4 + 0.0707106781, 0.4 + 0.1414213562]
    assert kept(shares) == [False, False, True, True, True]
    assert kept(shares, tau=-1.0) == [False, True, True, True, True]
    assert kept(shares, tau=-2.0) == [True] * 5


def test_a_lone_positive_and_equal_positives_are_kept():
    assert kept([0.1]) == [True]
    assert kept([0.2, 0.2, 0.2]) == [True, True, True]
    assert kept([0.2, 0.2], tau=0.5) == [True, True]


def test_rounding_in_the_scores_of_equal_positives_drops_none_of_them():
    assert kept([0.2, 0.2 + 3e-8, 0.2 - 3e-8]) == [True, True, True]


def test_of_two_positives_the_lower_one_falls_unless_small_groups_are_exempt():
    assert kept([0.30, 0.31]) == [False, True]
    assert kept([0.30, 0.31], min_group=3) == [True, True]


def test_two_compared_solutions_are_recognised_as_such():
    rule = VisionAwareAttention(VasSettings(kind="vas"))
    assert rule.compares_just_two(context([0.1, 0.2]))
    assert not rule.compares_just_two(context([0.1, 0.2, 0.3]))
    assert not rule.compares_just_two(context([0.1, 0.2, 0.3, 0.3], [True, False, False, False]))
    exempt = VisionAwareAttention(VasSettings(kind="vas", min_group=3))
    assert not exempt.compares_just_two(context([0.1, 0.2]))


def test_the_scope_decides_whether_negatives_count_in_the_mean():
    shares, correct = [0.3, 0.4, 0.9, 0.9], [True, True, False, False]
    assert kept(shares, correct, scope="positives") == [False, True]
    assert kept(shares, correct, scope="all") == [False, False]


def test_scores_are_averaged_over_the_layers_chosen():
    scored = row(0, 0.6, layers=4, at=2)
    assert visual_share(scored, [0.5]) == pytest.approx(0.6)
    assert visual_share(scored, [0.5, 0.75]) == pytest.approx(0.3)
    assert visual_share(scored, [0.0, 0.25, 0.5, 1.0]) == pytest.approx(0.15)


def test_the_share_is_what_the_image_gets_of_all_three_segments():
    scored = {**row(0, 0.5), "s_sys": [9, 0.1, 9], "s_vis": [9, 0.2, 9], "s_ins": [9, 0.5, 9]}
    assert visual_share(scored, [0.5]) == pytest.approx(0.25)


@pytest.mark.parametrize(("num_layers", "layer"), [(3, 1), (4, 2), (36, 18), (1, 0)])
def test_a_half_is_the_layer_at_half_the_depth_rounded_down(num_layers: int, layer: int):
    assert layer_indices([0.5], num_layers) == [layer]


def test_fractions_stay_within_the_model_and_name_each_layer_once():
    assert layer_indices([1.0, 0.99, 0.0], 3) == [0, 2]


def test_a_layer_that_was_not_scored_is_named():
    scored = {**row(0, 0.5), "layers": [0, 2], "s_sys": [1, 1], "s_vis": [1, 1], "s_ins": [1, 1]}
    with pytest.raises(VistaError, match=r"layer 1 was not scored, only \[0, 2\].*scoring.layers"):
        visual_share(scored, [0.5])


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_attention_that_sums_to_nothing_is_refused(value: float):
    scored = {**row(0, 0.5), "s_sys": [value] * 3, "s_vis": [value] * 3, "s_ins": [value] * 3}
    with pytest.raises(VistaError, match="layer 1: attention sums to"):
        visual_share(scored, [0.5])


def test_a_positive_without_a_score_is_named():
    incomplete = context([0.1, 0.2])
    scores = dict(incomplete.scores)
    del scores["sample", -1, 1]
    rule = make(VasSettings(kind="vas"))
    with pytest.raises(VistaError, match=r"'q'.*\('sample', -1, 1\) has no attention score"):
        rule.keep(list(incomplete.solutions), Context("q", incomplete.solutions, scores, incomplete.random))


def test_no_filter_keeps_every_positive_without_scores():
    bare = Context("q", [solution(0), solution(1)], {}, lambda: generator("test"))
    rule = make(NoFilterSettings())
    assert rule.keep(list(bare.solutions), bare) == [True, True]
    assert not rule.compares_just_two(bare)


@given(SHARES, st.sampled_from([0, 1]))
def test_z_scores_agree_with_scipy(shares: list[float], ddof: int):
    values = np.array(shares)
    ours = standardise(values, ddof).z
    if len(set(shares)) == 1:
        assert not ours.any()
    else:
        np.testing.assert_allclose(ours, scipy.stats.zscore(values, ddof=ddof), rtol=1e-9, atol=1e-9)


@given(SHARES, st.floats(-3, 3))
def test_who_is_kept_looked_at_the_image_at_least_as_much_as_who_fell(shares: list[float], tau: float):
    mask = kept(shares, tau=tau)
    stay = [share for share, keeps in zip(shares, mask, strict=True) if keeps]
    fall = [share for share, keeps in zip(shares, mask, strict=True) if not keeps]
    assert not stay or not fall or min(stay) >= max(fall)


@given(SHARES)
def test_the_paper_threshold_never_drops_the_best_positive(shares: list[float]):
    assert kept(shares)[int(np.argmax(shares))]


def test_four_equal_positives_at_the_threshold_stay_whatever_their_order_and_rounding():
    for place in range(5):
        shares = [0.125 + 1e-9 * number for number in range(4)]
        assert kept([*shares[:place], 0.5, *shares[place:]]) == [True] * 5


@given(SHARES, st.randoms(use_true_random=False))
def test_the_order_of_solutions_does_not_matter(shares: list[float], random: Any):
    order = list(range(len(shares)))
    random.shuffle(order)
    mask, mixed = kept(shares), kept([shares[index] for index in order])
    assert [mask[index] for index in order] == mixed
