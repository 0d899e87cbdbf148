"""The resampler that docs/adding.md adds, as it stands there, on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.documents import code, section
from tests.rollouts.conftest import POLICY, SAMPLES, resample, suite_at
from vista import grid
from vista.config import SelfImprovement, Suite, methods
from vista.dag import Dag
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import ROLLOUT, read_rows
from vista.rollouts import resamplers
from vista.rollouts.resample import RESAMPLERS


def written(root: Path) -> dict[str, Any]:
    """The two classes of the example, each run where the page says that it belongs."""
    settings, work = code(section(root, "adding.md", "A resampler"), "python")
    names = dict(vars(methods))
    exec(settings, names)
    names = {**vars(resamplers), "WarmResample": names["WarmResample"]}
    exec(work, names)
    return names


@pytest.mark.usefixtures("odd_is_correct")
def test_the_documented_resampler_runs_once_it_is_registered(
    small: tuple[Suite, Paths], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = written(root)
    monkeypatch.setitem(RESAMPLERS, "warm", example["WarmResampler"])
    plain = SelfImprovement.model_validate(
        {
            "kind": "self-improvement",
            "initial_policy": "zero-shot",
            "rollouts": {"k": 4, "max_new_tokens": 12},
        }
    )
    settings = example["WarmResample"](kind="warm", j=2)
    method = plain.model_copy(update={"resample": settings})
    suite = suite_at(small[1].results)
    suite = suite.model_copy(update={"methods": {**suite.methods, "warm": method}})

    name = grid.rollout_files(method).resamples
    assert name == f"{SAMPLES}+warm-j2-t1.5"
    rows = resample(suite, small[1], name)
    samples = read_rows(small[1].rollouts(POLICY.id, "samples", SAMPLES, 0, 1), ROLLOUT)
    solved = {row["query_id"] for row in samples if row["correct"]}
    asked = dict.fromkeys(row["query_id"] for row in samples if row["query_id"] not in solved)
    assert [(row["query_id"], row["sample"]) for row in rows] == [(q, j) for q in asked for j in (0, 1)]
    assert {row["source"] for row in rows} == {"warm"}
    assert read_manifest(small[1].rollouts(POLICY.id, "resamples", name, 0, 1)).counts["resampled"] == len(
        asked
    )
    assert Dag(suite).resample_inputs(POLICY.id, name, "0") == [
        str(small[1].rollouts(POLICY.id, "samples", SAMPLES, 0, 1))
    ]
