"""What the rules are told to depend on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vista import fingerprints
from vista.config import Suite, load_suite, load_yaml
from vista.dag import Dag


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package whose source a test may edit."""
    copy = tmp_path / "vista"
    shutil.copytree(fingerprints.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "PACKAGE", copy)
    return copy


@pytest.fixture
def suite(root: Path, tmp_path: Path) -> Suite:
    suite = load_suite(root / "config/smoke.yaml", root=root)
    return suite.model_copy(update={"results": tmp_path / "results"})


def fingerprint(suite: Suite, stage: str, part: str = "**") -> str:
    return Path(Dag(suite).code(stage, part)).read_text()


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "# edited\n")


def test_an_edited_module_changes_the_fingerprint_of_its_stage_alone(package: Path, suite: Suite) -> None:
    before = {stage: fingerprint(suite, stage) for stage in fingerprints.SHARED_CODE}
    edit(package / "curation/filters.py")
    changed = {stage for stage in fingerprints.SHARED_CODE if fingerprint(suite, stage) != before[stage]}
    assert changed == {"curation"}


def test_an_edited_shared_module_changes_every_stage_that_computes_with_it(
    package: Path, suite: Suite
) -> None:
    before = {stage: fingerprint(suite, stage) for stage in fingerprints.SHARED_CODE}
    edit(package / "answers.py")
    changed = {stage for stage in fingerprints.SHARED_CODE if fingerprint(suite, stage) != before[stage]}
    assert changed == {stage for stage, shared in fingerprints.SHARED_CODE.items() if "answers.py" in shared}


def test_unchanged_code_leaves_the_fingerprint_file_untouched(package: Path, suite: Suite) -> None:
    path = Path(Dag(suite).code("training"))
    before = path.stat()
    Dag(suite).code("training")
    after = path.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_a_rule_may_depend_on_a_part_of_its_stage(package: Path, suite: Suite) -> None:
    before = fingerprint(suite, "analysis", "collect.py"), fingerprint(suite, "analysis")
    edit(package / "analysis/tables.py")
    after = fingerprint(suite, "analysis", "collect.py"), fingerprint(suite, "analysis")
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_rule_may_depend_on_further_shared_modules(package: Path, suite: Suite) -> None:
    plan = Dag(suite)
    before = Path(plan.code("tasks", also=["answers.py"])).read_text(), fingerprint(suite, "tasks")
    edit(package / "answers.py")
    after = Path(plan.code("tasks", also=["answers.py"])).read_text(), fingerprint(suite, "tasks")
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_a_rule_may_leave_out_a_folder_of_its_stage(package: Path, suite: Suite) -> None:
    plan = Dag(suite)
    before = Path(plan.code("tasks", without="kinds")).read_text(), fingerprint(suite, "tasks")
    edit(package / "tasks/kinds/slake.py")
    after = Path(plan.code("tasks", without="kinds")).read_text(), fingerprint(suite, "tasks")
    assert before[0] == after[0]
    assert before[1] != after[1]


def with_budget(suite: Suite, **settings: object) -> Suite:
    """The suite with a method whose plain samples match the cost of prefix resampling."""
    vista = suite.methods["vista-sft"]
    resample = {"kind": "budget-matched", "top_k": 1, **settings}
    method = type(vista).model_validate({**vista.model_dump(), "resample": resample, "rounds": 1})
    return suite.model_copy(update={"methods": {**suite.methods, "matched": method}})


def test_a_matched_budget_waits_for_the_prefix_resampling_that_vista_shares(suite: Suite) -> None:
    plan, policy = Dag(with_budget(suite)), "nano-smoke/grids/sft-seed/seed0/round0"
    base = f"{suite.results}/rollouts/{policy}"
    samples = f"{base}/samples/k6-t1-n80/0-of-1.parquet"
    prefix = "k6-t1-n80+prefix-j3-top1-swapped"
    matched = "k6-t1-n80+budget-of-prefix-j3-top1-swapped"
    assert plan.resample_inputs(policy, prefix, "0") == [samples]
    assert plan.resample_inputs(policy, matched, "0") == [
        samples,
        f"{base}/resamples/{prefix}/0-of-1.parquet",
    ]
    assert f"{base}/resamples/{prefix}/0-of-1.parquet" in plan.curation_inputs(
        "nano-smoke/grids/vista-sft/seed0/round1"
    )
    assert f"{base}/resamples/{matched}/0-of-1.parquet" in plan.curation_inputs(
        "nano-smoke/grids/matched/seed0/round1"
    )


def test_what_a_budget_is_matched_to_has_settings_even_if_no_method_reads_it(suite: Suite) -> None:
    plan = Dag(with_budget(suite, j=2))
    names = [f"k6-t1-n80+{name}-top1-swapped" for name in ("prefix-j2", "budget-of-prefix-j2", "prefix-j3")]
    assert len({plan.resampling_settings(name) for name in names}) == 3


def test_an_edited_truth_of_the_testbed_changes_what_reads_it(package: Path, suite: Suite) -> None:
    before = {stage: fingerprint(suite, stage) for stage in fingerprints.SHARED_CODE}
    edit(package / "testbed/rationales.py")
    changed = {stage for stage in fingerprints.SHARED_CODE if fingerprint(suite, stage) != before[stage]}
    assert changed == {stage for stage, shared in fingerprints.SHARED_CODE.items() if "testbed" in shared}
    assert "rollouts" in changed


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("rest-em", None),
        ("vista-sft", "scores"),
        ("random-drop", "scores"),
        ("vig", "gains"),
        ("logprob", "gains"),
        ("oracle-filter", None),
    ],
)
def test_a_training_set_is_made_from_what_its_filter_reads(root: Path, method: str, kind: str | None) -> None:
    raw = load_yaml(root / "config/testbed.yaml")
    suite = load_suite(root / "config/testbed.yaml", {**raw, "methods": ["sft-seed", method]}, root)
    plan = Dag(suite)
    inputs = plan.curation_inputs(f"nano-internvl/grids/{method}/seed0/round1")
    measured = [path for path in inputs if "/scores/" in path or "/gains/" in path]
    policy = "nano-internvl/grids/sft-seed/seed0/round0"
    name = "k10-t1-n80+prefix-j3-top1-swapped+positives"
    expected = [str(plan.paths.rollouts(policy, kind, name, 0, 1))] if kind else []
    assert measured == expected
    if kind:
        solutions = plan.measure_inputs(policy, kind, name, "0")
        assert [path.split("/")[-3] for path in solutions] == ["samples", "resamples"]
        assert set(solutions) < set(inputs)


def test_what_stands_for_the_image_decides_the_log_probabilities_and_nothing_else(suite: Suite) -> None:
    absent = suite.model_copy(
        update={"scoring": suite.scoring.model_copy(update={"without": "absent", "batch_size": 1})}
    )
    first, second = Dag(suite), Dag(absent)
    assert first.gains_settings("name") != second.gains_settings("name")
    assert first.scoring_settings("name") == second.scoring_settings("name")
