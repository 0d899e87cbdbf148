"""The resampler that docs/adding.md adds works as it is written there, on a tiny model."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from tests.documents import code, section
from tests.rollouts.conftest import POLICY, SAMPLES, resample, resampling
from vista import plugins
from vista.config import SelfImprovement, Suite, load_suite, load_yaml
from vista.config.loading import default_problems
from vista.dag import Dag
from vista.errors import VistaError
from vista.filters.none import NoFilterSettings
from vista.manifest import read_manifest
from vista.measured import prefix_resamples
from vista.paths import Paths
from vista.planning.assumptions import Assumptions
from vista.planning.estimate import Estimator
from vista.records import ROLLOUT, read_rows
from vista.resamplers import ResampleSettings
from vista.resamplers.none import NoResampleSettings


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
    assert Dag(suite).rollout_inputs("resamples", POLICY.id, name, "0")[-1:] == [
        str(small[1].rollouts(POLICY.id, "samples", SAMPLES, 0, 1))
    ]


def test_built_in_resamplers_leave_the_manifest_as_it_is(small: tuple[Suite, Paths]) -> None:
    suite, name = resampling(small[0], "rationalize")
    resample(suite, small[1], name)
    manifest = read_manifest(small[1].rollouts(POLICY.id, "resamples", name, 0, 1))
    assert "plugins" not in manifest.settings


@pytest.mark.usefixtures("warm")
def test_plans_comparisons_and_tables_have_it_as_well(root: Path) -> None:
    raw = load_yaml(root / "config/testbed.yaml") | {"plugins": ["warm_example"]}
    suite = load_suite(root / "config/testbed.yaml", raw, root)
    vista = suite.methods["vista-sft"]
    plain = vista.model_copy(update={"resample": NoResampleSettings(), "filter": NoFilterSettings()})
    settings = plain.model_dump() | {"resample": {"kind": "warm", "j": 2}}
    methods = {**suite.methods, "warm": SelfImprovement.model_validate(settings)}
    suite = suite.model_copy(update={"methods": methods})
    name = f"{suite.methods['warm'].rollouts.slug}+warm-j2-t1.5"
    (work,) = {each.settings for each in prefix_resamples(suite) if each.name == name}
    assert (work.kind, work.tries) == ("warm", 2)
    estimator = Estimator(suite, Assumptions())
    (file, *_) = [each for each in estimator.files if (each.kind, each.name) == ("resamples", name)]
    wrong = estimator.sampled(file.policy, suite.methods["warm"].rollouts.slug) * (1 - Assumptions().correct)
    assert estimator.solutions(file) == pytest.approx(2 * wrong)
    assert default_problems({"resample.warm": {"j": 3}}, "mine.yaml") == []
    value = suite.model_dump(mode="json")
    assert Suite.model_validate(value).methods["warm"].resample.model_dump() == work.model_dump()


def test_settings_that_do_not_name_their_files_are_refused() -> None:
    class Nameless(ResampleSettings):
        kind: Literal["nameless"]

    with pytest.raises(VistaError, match=r"Nameless has no property `slug`; add one that spells out every"):
        _ = Nameless(kind="nameless").slug
