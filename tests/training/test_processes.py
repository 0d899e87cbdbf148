"""Steps spread over two processes, with whole weights in each or with parts, are the same steps."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.training.conftest import outcomes
from tests.training.two_processes import KINDS, ONLINE, Outcome, run
from vista.config import ModelTraining

# TRL logs these as the mean over processes of each one's mean, whatever its share of the tokens.
MEANS_OF_MEANS = {"entropy", "kl"}


@pytest.fixture(scope="module")
def found(launched: Path) -> dict[tuple[str, str], Outcome]:
    """What two processes made of each kind of training."""
    return outcomes(launched, "exact")


@cache
def alone(kind: str) -> Outcome:
    return run(kind, ModelTraining())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind"),
    [*itertools.product(["ddp", "fsdp", "zero3"], KINDS), *itertools.product(["ddp", "fsdp"], ONLINE)],
)
def test_two_processes_make_the_steps_that_one_makes(
    found: dict[tuple[str, str], Outcome], how: str, kind: str
):
    logged, weights, spread = found[how, kind]
    expected, expected_weights, _ = alone(kind)
    assert (spread > 0) == (how != "ddp")
    assert len(logged) == 4
    for step, one in zip(logged, expected, strict=True):
        same = step.keys() - MEANS_OF_MEANS
        assert step.keys() == one.keys()
        assert {name: step[name] for name in same} == pytest.approx(
            {name: one[name] for name in same}, abs=2e-4
        )
    together = [torch.cat([weight.flatten() for weight in each]) for each in (weights, expected_weights)]
    # Adam's first step is the sign of the gradient, so where that is almost 0 it may flip.
    assert (together[0] - together[1]).abs().gt(1e-5).float().mean() < 0.002


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp", "zero3"])
@pytest.mark.parametrize(("resumed", "whole"), [("resumed", "dpo"), ("resumed lora", "lora")])
def test_two_processes_that_resume_are_those_that_were_not_stopped(
    found: dict[tuple[str, str], Outcome], how: str, resumed: str, whole: str
):
    assert found[how, resumed][0] == found[how, whole][0]
    pairs = zip(found[how, resumed][1], found[how, whole][1], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("resumed", "whole"), [("resumed", "dpo"), ("resumed lora", "lora")])
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(resumed: str, whole: str):
    logged, weights, _ = alone(resumed)
    expected, expected_weights, _ = alone(whole)
    assert logged == expected
    assert all(torch.equal(a, b) for a, b in zip(weights, expected_weights, strict=True))
