"""The resampler that docs/adding.md adds works as it is written there, on a tiny model."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import code, section
from tests.rollouts.conftest import POLICY, SAMPLES, resample, resampling
from vista import grid, plugins
from vista.config import Suite
from vista.config.loading import default_problems
from vista.dag import Dag
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import ROLLOUT, read_rows


@pytest.fixture
def warm(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example as a module outside the package, which a suite names."""
    (text,) = code(section(root, "adding.md", "A resampler"), "python")
    file = tmp_path / "lab/warm_example.py"
    file.parent.mkdir()
    file.write_text(text)
    monkeypatch.syspath_prepend(file.parent)
    plugins.name_modules(["warm_example"])
    yield file
    plugins.name_modules([])
    sys.modules.pop("warm_example")


@pytest.mark.usefixtures("odd_is_correct")
def test_the_documented_resampler_runs_once_it_is_named(small: tuple[Suite, Paths], warm: Path) -> None:
    suite, name = resampling(small[0], "warm", j=2)
    assert name == f"{SAMPLES}+warm-j2-t1.5"
    rows = resample(suite, small[1], name)
    samples = read_rows(small[1].rollouts(POLICY.id, "samples", SAMPLES, 0, 1), ROLLOUT)
    solved = {row["query_id"] for row in samples if row["correct"]}
    asked = dict.fromkeys(row["query_id"] for row in samples if row["query_id"] not in solved)
    assert [(row["query_id"], row["sample"]) for row in rows] == [(q, j) for q in asked for j in (0, 1)]
    assert {row["source"] for row in rows} == {"warm"}
    manifest = read_manifest(small[1].rollouts(POLICY.id, "resamples", name, 0, 1))
    assert manifest.counts["resampled"] == len(asked)
    assert manifest.settings["plugins"] == [
        {
            "kind": "warm",
            "module": "warm_example",
            "sha256": hashlib.sha256(warm.read_bytes()).hexdigest(),
        }
    ]
    assert Dag(suite).resample_inputs(POLICY.id, name, "0") == [
        str(small[1].rollouts(POLICY.id, "samples", SAMPLES, 0, 1))
    ]


def test_built_in_resamplers_leave_the_manifest_as_it_is(small: tuple[Suite, Paths]) -> None:
    suite, name = resampling(small[0], "rationalize")
    resample(suite, small[1], name)
    manifest = read_manifest(small[1].rollouts(POLICY.id, "resamples", name, 0, 1))
    assert "plugins" not in manifest.settings


@pytest.mark.usefixtures("warm")
def test_the_rest_of_the_suite_takes_it_for_what_its_settings_say(small: tuple[Suite, Paths]) -> None:
    suite, name = resampling(small[0], "warm", j=2)
    settings = grid.resampling_named(suite, name).settings
    assert settings.tries == 2
    assert not (settings.cuts or settings.reads_model or settings.needs_gold or settings.templates)
    assert default_problems({"resample.warm": {"j": 3}}, "mine.yaml") == []
