"""Jobs that were to have a GPU, on a machine whose torch sees none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.malformed.harness import (
    EVALUATE,
    GAINS,
    RESAMPLE,
    SAMPLE,
    SCORE,
    SUITE,
    TRAIN,
    Case,
    World,
    case,
    refused,
)
from vista.config import load_suite
from vista.engines.checkpoints import require_gpu


def suite_asks(world: World) -> None:
    world.json(SUITE, lambda value: value.update(gpus=1))


def model_asks(world: World) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["models"]["nano"]["resources"]["training"]["gpus"] = 4

    world.json(SUITE, edit)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")


@pytest.mark.parametrize(
    "spoilt",
    [
        *(
            case(command.split()[0], command, ["gpus: 1 asks", "CUDA_VISIBLE_DEVICES: 3", "nano"], suite_asks)
            for command in (SAMPLE, RESAMPLE, SCORE, GAINS, TRAIN, EVALUATE)
        ),
        case("own resources", TRAIN, "resources.training.gpus: 4 of model nano asks", model_asks),
    ],
)
def test_a_pretrained_model_does_not_fall_back_to_the_cpu(spoilt: Case, world: World) -> None:
    refused(world, spoilt)


def test_a_model_that_is_built_here_runs_anywhere(root: Path) -> None:
    suite = load_suite(root / "config/smoke.yaml", root=root).model_copy(update={"gpus": 1})
    require_gpu(suite, "nano-smoke", "rollouts")
