"""What results were made with, against what is installed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from vista import versions
from vista.config import load_suite
from vista.dag import Dag
from vista.records import write_text
from vista.versions import mixed_versions, recorded_versions, version_note

HERE = {"torch": "2.1", "numpy": "2.0", "snakemake": "9.0"}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with other packages than this one."""
    monkeypatch.setattr(versions, "installed", lambda: dict(HERE))


def make(results: Path, output: str, **packages: str) -> None:
    write_text(results / output / "manifest.json", json.dumps({"packages": packages}))


def test_equal_versions_and_no_results_say_nothing(tmp_path: Path) -> None:
    assert version_note(tmp_path / "none") is None
    assert version_note(tmp_path) is None
    make(tmp_path, "models/a", torch="2.1", snakemake="8.0")
    assert version_note(tmp_path) is None, "no number depends on the version of snakemake"


def test_other_versions_are_told_in_one_line(tmp_path: Path) -> None:
    make(tmp_path, "models/a", torch="2.0", numpy="2.0")
    make(tmp_path, "training/a/b", torch="1.9", numpy="1.0")
    assert version_note(tmp_path) == (
        f"{tmp_path} was made with torch 1.9 and 2.0, numpy 1.0 and 2.0; installed are torch 2.1, numpy 2.0: "
        "nothing is made again for that"
    )


def test_a_package_is_compared_where_it_is_recorded_and_installed(tmp_path: Path) -> None:
    make(tmp_path, "models/a", vllm="0.1")
    make(tmp_path, "evaluation/a", numpy="2.0")
    assert version_note(tmp_path) is None


def test_only_the_stages_that_take_long_are_read(tmp_path: Path) -> None:
    make(tmp_path, "rollouts/a/samples/b", torch="2.0")
    make(tmp_path, "training/.a.part", torch="2.0")
    assert recorded_versions(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"packages": 1}', '{"packages": ["torch"]}'])
def test_a_manifest_that_cannot_be_read_is_left_to_verify(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "models/a/manifest.json", text)
    assert version_note(tmp_path) is None


def test_five_thousand_manifests_are_read_in_seconds(tmp_path: Path) -> None:
    for number in range(5000):
        folder = tmp_path / f"training/m/t/method{number}/seed0/round1"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"packages": HERE, "checksums": {"a": "b" * 64}}))
    start = time.process_time()
    assert version_note(tmp_path) is None
    assert time.process_time() - start < 10


def test_mixed_versions_are_counted_with_examples_of_the_rarer(tmp_path: Path) -> None:
    outputs = {f"tasks/{n}": {"numpy": "2.0"} for n in range(9)}
    outputs |= {f"models/{n}": {"numpy": "1.9"} for n in range(4)} | {"long.csv": {"numpy": "1.8"}}
    assert mixed_versions(outputs) == [
        "numpy: 2.0 (9 outputs), 1.9 (4 outputs: models/0, models/1, models/2, …), 1.8 (1 output: long.csv)"
    ]
    assert mixed_versions({"a": {"numpy": "2.0"}, "b": {"numpy": "2.0"}, "c": {}}) == []


def test_the_environment_of_vllm_may_have_another_torch() -> None:
    """Only within one environment is a second version a surprise."""
    outputs = {"rollouts/a": {"torch": "1.9", "vllm": "0.1"}, "models/a": {"torch": "2.1"}}
    assert mixed_versions(outputs) == []
    outputs["rollouts/b"] = {"torch": "1.8", "vllm": "0.1"}
    assert mixed_versions(outputs) == ["torch with vLLM: 1.8 (1 output), 1.9 (1 output: rollouts/a)"]


def test_a_training_that_vllm_samples_for_is_of_the_main_environment() -> None:
    outputs = {
        "rollouts/a": {"torch": "1.9", "vllm": "0.1"},
        "training/a": {"torch": "2.1", "trl": "1", "vllm": "0.1"},
        "training/b": {"torch": "2.1", "trl": "1"},
    }
    assert mixed_versions(outputs) == []
    outputs["training/a"] = {"torch": "2.2", "trl": "1", "vllm": "0.2"}
    assert mixed_versions(outputs) == [
        "vllm: 0.1 (1 output), 0.2 (1 output: training/a)",
        "torch: 2.1 (1 output), 2.2 (1 output: training/a)",
    ]


def test_a_run_that_starts_tells_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    suite = load_suite(root / "config/smoke.yaml", root=root).model_copy(update={"results": tmp_path})
    first = Dag(suite)
    assert first.begin() is None
    os.close(first.taken)
    make(tmp_path, "models/a", torch="2.0")
    assert "was made with torch 2.0" in str(Dag(suite).begin())
