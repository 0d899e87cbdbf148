"""The objective that docs/adding.md adds, as it stands there, on a tiny model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from torch.nn.functional import logsigmoid

from tests.documents import code, section
from tests.training.conftest import pair
from tests.training.test_losses import Fresh, Hyper, log_probs, mean
from vista.config import SelfImprovement, methods, training_section
from vista.engines.checkpoints import Checkpoint
from vista.records import Row
from vista.training import objectives
from vista.training.fit import fit


def written(root: Path) -> dict[str, Any]:
    """The two classes of the example, each run where the page says that it belongs."""
    settings, loss = code(section(root, "adding.md", "An objective"), "python")
    names = dict(vars(methods))
    exec(settings, names)
    names = {**vars(objectives), "SimpoObjective": names["SimpoObjective"], "logsigmoid": logsigmoid}
    exec(loss, names)
    return names


def margins(checkpoint: Checkpoint, rows: list[Row]) -> list[float]:
    """By how much each chosen response is likelier per token than the rejected one."""
    return [
        mean(log_probs(checkpoint, row, row["chosen_ids"]))
        - mean(log_probs(checkpoint, row, row["rejected_ids"]))
        for row in rows
    ]


def test_the_documented_objective_trains_once_it_is_registered(
    fresh: Fresh, hyper: Hyper, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = written(root)
    monkeypatch.setitem(objectives.OBJECTIVES, "simpo", example["Simpo"])
    settings = example["SimpoObjective"](kind="simpo")
    checkpoint = fresh("qwen2.5-vl")
    rows = [pair(n, [30 + n, 31, 32], [33 + n, 34]) for n in range(4)]

    before = margins(checkpoint, rows)
    counts = fit(checkpoint, rows, hyper(epochs=6, learning_rate=1e-2), settings, "simpo")
    expected = mean([math.log1p(math.exp(-(2.0 * margin - 1.0))) for margin in before])
    assert counts["first_loss"] == pytest.approx(expected, abs=1e-4)
    assert counts["last_loss"] < counts["first_loss"]
    assert mean(margins(checkpoint, rows)) > mean(before)


def test_a_method_with_a_pairwise_objective_gets_pairs_and_no_seed_split(root: Path) -> None:
    plain = SelfImprovement.model_validate({"kind": "self-improvement"})
    method = plain.model_copy(update={"objective": written(root)["SimpoObjective"](kind="simpo")})
    assert (training_section(plain), plain.trains_on_seed) == ("sft", True)
    assert (training_section(method), method.trains_on_seed) == ("dpo", False)
