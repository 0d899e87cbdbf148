"""The objective that docs/adding.md adds, as it stands there, on a tiny model."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import code, section
from tests.training.conftest import pair
from tests.training.test_losses import Fresh, Hyper, log_probs, mean
from vista.config import SelfImprovement, training_section
from vista.engines.checkpoints import Checkpoint
from vista.plugins import name_modules
from vista.records import Row
from vista.training.fit import fit


@pytest.fixture
def simpo(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The module of the page, where a suite that names it finds it."""
    (module,) = code(section(root, "adding.md", "An objective"), "python")
    (tmp_path / "simpo.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    name_modules(["simpo"])
    yield {"kind": "simpo"}
    name_modules([])
    sys.modules.pop("simpo")


def method_with(objective: dict[str, str]) -> SelfImprovement:
    return SelfImprovement.model_validate({"kind": "self-improvement", "objective": objective})


def margins(checkpoint: Checkpoint, rows: list[Row]) -> list[float]:
    """By how much each chosen response is likelier per token than the rejected one."""
    return [
        mean(log_probs(checkpoint, row, row["chosen_ids"]))
        - mean(log_probs(checkpoint, row, row["rejected_ids"]))
        for row in rows
    ]


def test_the_documented_objective_trains(fresh: Fresh, hyper: Hyper, simpo: dict[str, str]) -> None:
    settings = method_with(simpo).objective
    checkpoint = fresh("qwen2.5-vl")
    rows = [pair(n, [30 + n, 31, 32], [33 + n, 34]) for n in range(4)]

    before = margins(checkpoint, rows)
    counts = fit(checkpoint, rows, hyper(epochs=6, learning_rate=1e-2), settings, "simpo")
    expected = mean([math.log1p(math.exp(-(2.0 * margin - 1.0))) for margin in before])
    assert counts["first_loss"] == pytest.approx(expected, abs=1e-4)
    assert counts["last_loss"] < counts["first_loss"]
    assert mean(margins(checkpoint, rows)) > mean(before)


def test_a_method_with_a_pairwise_objective_gets_pairs_and_no_seed_split(simpo: dict[str, str]) -> None:
    plain = SelfImprovement.model_validate({"kind": "self-improvement"})
    method = method_with(simpo)
    assert (training_section(plain), plain.trains_on_seed) == ("sft", True)
    assert (training_section(method), method.trains_on_seed) == ("dpo", False)
