"""What the rules are told to depend on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from cProfile import Profile
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from vista import closure, grid, lock
from vista.config import Suite, documents, load_suite, load_yaml
from vista.config.documents import parse_yaml
from vista.dag import Dag, digests
from vista.errors import VistaError
from vista.manifest import fingerprint
from vista.plugins import implementation


@pytest.fixture
def suite(root: Path, tmp_path: Path) -> Suite:
    suite = load_suite(root / "config/smoke.yaml", root=root)
    return suite.model_copy(update={"results": tmp_path / "results"})


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
    queries = plan.train_queries(policy)
    prefix = "k6-t1-n80+prefix-j3-top1-swapped"
    matched = "k6-t1-n80+budget-of-prefix-j3-top1-swapped"
    assert plan.rollout_inputs("resamples", policy, prefix, "0") == [*queries, samples]
    assert plan.rollout_inputs("resamples", policy, matched, "0") == [
        *queries,
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
    assert len({plan.rollout_settings("resamples", name) for name in names}) == 3


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
        solutions = plan.rollout_inputs(kind, policy, name, "0")
        assert [path.split("/")[-3] for path in solutions[-2:]] == ["samples", "resamples"]
        assert set(solutions[-2:]) < set(inputs)


def test_what_stands_for_the_image_decides_the_log_probabilities_and_nothing_else(suite: Suite) -> None:
    absent = suite.model_copy(
        update={"scoring": suite.scoring.model_copy(update={"without": "absent", "batch_size": 1})}
    )
    first, second = Dag(suite), Dag(absent)
    assert first.rollout_settings("gains", "name") != second.rollout_settings("gains", "name")
    assert first.rollout_settings("scores", "name") == second.rollout_settings("scores", "name")


def test_somebody_elses_module_of_the_same_name_has_checksums_of_its_own(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vas.py").write_text("X = 1\n")
    monkeypatch.setitem(closure.SOURCES, "vas", tmp_path / "vas.py")
    plan = Dag(suite)
    ours, theirs = plan.code("curate", "vista.filters.vas"), plan.code("curate", "vas")
    assert ours != theirs
    assert "vas" in json.loads(Path(theirs).read_text())


def test_checksums_stay_while_jobs_run(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that began before an edit would pass for made by the edited code."""
    module = tmp_path / "lab.py"
    monkeypatch.setitem(closure.SOURCES, "lab", module)
    module.write_text("X = 1\n")
    first = Path(Dag(suite).code("curate", "lab"))
    before = first.read_text()
    module.write_text("X = 22\n")
    held = lock.take(suite.results)
    Dag(suite).code("curate", "lab")
    assert first.read_text() == before
    os.close(held)
    Dag(suite).code("curate", "lab")
    assert first.read_text() != before


def test_code_without_a_source_is_an_error_once_the_rules_are_read(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake asks for the code of single jobs only then; before, the Snakefile raises what was refused."""
    monkeypatch.setitem(sys.modules, "my_lab", ModuleType("my_lab"))
    plan = Dag(suite)
    plan.code("curate", "my_lab")
    assert "my_lab has no source file" in plan.refused
    plan = Dag(suite)
    plan.is_read = True
    for _ in range(2):
        with pytest.raises(VistaError, match="my_lab has no source file"):
            plan.code("curate", "my_lab")


def test_the_code_that_methods_and_tasks_name_is_kept_when_the_rules_have_been_read(suite: Suite) -> None:
    """Snakemake would take an output whose job's code is refused later for up to date."""
    plan = Dag(suite)
    plan.keep_code()
    kept = {Path(file).stem for file in plan.entries}
    assert {"tasks-grid", "sample-hf", "resample-prefix-hf", "curate-vas", "curate-none", "train-dpo"} <= kept


def test_a_kind_that_does_not_check_its_queries_depends_on_the_checks(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Path(Dag(suite).task_code("printed", "train")).stem == "tasks-grid"
    monkeypatch.setattr(implementation(suite.tasks["printed"]), "checks_queries", False)
    assert Path(Dag(suite).task_code("printed", "train")).stem == "tasks-grid-checks"


def test_a_job_knows_its_code_as_its_rule_does(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an evaluation also task by task: only a task's own scorer decides it."""
    run = "nano-smoke/grids/star/seed0/round1"
    scorer = "vista.evaluation.tasks.scorers.process_chartqa"
    monkeypatch.setattr(Dag, "scorers", lambda dag: {"grid-closed": scorer})
    dag = Dag(suite)
    dag.keep_code()
    planned = digests(suite, dag.plan, "evaluate", run)
    assert planned == digests(suite, None, "evaluate", run), "by hand, from the source as it is"
    assert planned["code"] == fingerprint(Path(dag.evaluation_code()).read_text())
    assert planned["settings"] == dag.evaluation_settings(run)
    of_tasks = {planned[f"code of {task}"] for task in suite.evaluated_tasks if task != "grid-closed"}
    assert len(of_tasks) == 1
    assert planned["code of grid-closed"] not in of_tasks


def calls(work: Callable[[], object]) -> int:
    """How many functions a piece of work calls."""
    profile = Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())


def test_what_a_job_is_asked_takes_no_longer_in_a_larger_grid(root: Path) -> None:
    raw = load_yaml(root / "config/testbed.yaml")
    counted = []
    for seeds in (range(2), range(20)):
        suite = load_suite(root / "config/testbed.yaml", {**raw, "seeds": list(seeds)}, root)
        dag, run = Dag(suite), grid.Run.parse("nano-internvl/grids/vista-sft/seed1/round2")
        files = grid.rollout_files(grid.self_improvement(suite, run))
        policy, first = grid.policy(suite, run).id, "nano-internvl/grids/sft-seed/seed0/round0"
        of_run = (
            *(
                dag.checkpoint,
                dag.training_start,
                dag.training_budget,
                dag.checked,
                dag.responses,
                dag.encodable,
            ),
            *(dag.curation_inputs, dag.curation_settings, dag.curation_code),
            *(dag.training_settings, dag.evaluation_settings),
        )
        asked: list[Callable[[], object]] = [partial(ask, run.id) for ask in of_run]
        for kind in ("samples", "resamples", "scores"):
            name = str(getattr(files, kind))
            asked.append(partial(dag.rollout_inputs, kind, policy, name, "0"))
            asked.append(partial(dag.rollout_settings, kind, name, policy))
        asked.append(partial(dag.case_inputs, first))
        for work in asked:  # what is looked up once
            work()
        counted.append([calls(work) for work in asked])
    assert counted[0] == counted[1]


def test_a_file_that_every_run_has_is_parsed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, texts = load_suite(root / "config/paper.yaml", root=root), list[str]()
    dag = Dag(suite)

    def counted(text: str) -> object:
        texts.append(text)
        return parse_yaml(text)

    monkeypatch.setattr(documents, "parse_yaml", counted)
    documents._parsed.cache_clear()
    for run in [run for run in grid.runs(suite) if grid.is_trained(suite, run)]:
        dag.training_settings(run.id)
    assert len(texts) == len(set(texts)) == 1


def test_what_a_reader_does_to_a_parsed_file_reaches_no_other(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("a: {b: [1]}\n")
    load_yaml(file)["a"]["b"].append(2)
    assert load_yaml(file) == {"a": {"b": [1]}}
    file.write_text("a: 1\n")
    assert load_yaml(file) == {"a": 1}
