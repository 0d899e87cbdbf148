"""The smoke suite from nothing to its tables: complete, deterministic, resumable, fresh."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.checkout import EVERY_JOB, Checkout
from vista import closure, grid, warm
from vista.config import load_resolved
from vista.dag import Dag
from vista.manifest import read_manifest
from vista.paths import manifest_of
from vista.plugins import module_of
from vista.records import PREDICTION, read_rows

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]


def planned(checkout: Checkout) -> dict[str, int]:
    """How many jobs of each rule a dry run would start."""
    done = checkout.snakemake("results/smoke/tables/main.csv", "results/smoke/tables/cost.csv", *EVERY_JOB)
    assert done.returncode == 0, done.stderr
    jobs = re.findall(r"^(?:local)?rule (\w+):$", done.stdout + done.stderr, flags=re.MULTILINE)
    return dict(Counter(jobs))


def test_every_run_of_the_grid_has_a_row(finished: Checkout) -> None:
    suite = load_resolved(finished.results / "suite.json")
    table = pd.read_csv(finished.results / "tables/runs.csv")
    rows = list(
        zip(table["model"], table["train_set"], table["method"], table["seed"], table["round"], strict=True)
    )
    expected = [(r.model, r.train_set, r.method, r.seed, r.round) for r in grid.runs(suite)]
    assert sorted(rows) == sorted(expected)


def test_accuracies_in_the_table_are_a_recount_of_the_predictions(finished: Checkout) -> None:
    suite = load_resolved(finished.results / "suite.json")
    table = pd.read_csv(finished.main_csv)
    for run in grid.runs(suite):
        row = table[(table["method"] == run.method) & (table["round"] == run.round)].iloc[0]
        path = finished.results / "evaluation" / run.id / "predictions.parquet"
        predictions = read_rows(path, PREDICTION)
        for task in suite.evaluated_tasks:
            scores = [p["score"] for p in predictions if p["task"] == task]
            assert row[task] == pytest.approx(100 * sum(scores) / len(scores), abs=0.005)


def test_every_output_has_a_manifest_that_knows_its_bytes(finished: Checkout) -> None:
    suite = load_resolved(finished.results / "suite.json")
    outputs = [Path(p) for p in Dag(suite).predictions()]
    outputs += [Path(p).parent for p in [Dag(suite).checkpoint(run.id) for run in grid.runs(suite)]]
    for output in outputs:
        manifest = read_manifest(finished.folder / output)
        assert manifest.status == "complete"
        assert manifest.checksums
        assert manifest_of(finished.folder / output).is_file()


def test_every_job_that_reads_weights_or_makes_tables_was_forked_and_measured(finished: Checkout) -> None:
    forked = re.findall(r": vista (\w+)", (finished.results / "logs/warm.log").read_text())
    stages = ("rollouts", "training", "evaluation")
    measured = [file for stage in stages for file in (finished.results / "benchmarks" / stage).rglob("*.tsv")]
    assert sum(command in warm.MODELS for command in forked) == len(measured)
    curated = [*(finished.results / "curation").rglob("train.parquet")]
    assert forked.count("curate") == len(curated) > 0
    assert "tables" in forked
    # Who waits for a fork holds some 20 MB; the libraries alone take more than this.
    assert min(float(pd.read_csv(file, sep="\t")["max_rss"].iloc[0]) for file in measured) > 200.0


def test_nothing_is_left_to_do_after_a_finished_run(finished: Checkout) -> None:
    assert planned(finished) == {}


def test_adding_code_that_nothing_uses_and_rewriting_comments_reruns_nothing(copy: Checkout) -> None:
    package = copy.folder / "vista"
    for folder in ("filters", "resamplers", "objectives", "task_kinds", "figures"):
        (package / folder / "unused.py").write_text('"""Used by nothing."""\n\nVALUE = 1\n')
    for path in package.rglob("*.py"):
        path.write_text(path.read_text() + "\n\n# A comment.\n")
    assert planned(copy) == {}


def edit_module(checkout: Checkout, module: str) -> None:
    path = checkout.folder / "vista" / module
    path.write_text(path.read_text() + "\n\nEDITED = 1\n")


@pytest.mark.parametrize(
    ("module", "stale", "fresh"),
    [
        ("analysis/main.py", {"results"}, {"evaluate", "train", "curate", "sample", "models", "tasks"}),
        ("evaluation/evaluate.py", {"evaluate", "collect", "results", "cost"}, {"train", "sample", "models"}),
        ("filters/vas.py", {"curate", "train", "evaluate"}, {"models", "tasks"}),
        ("scores.py", {"score", "curate", "train", "evaluate"}, {"models", "tasks"}),
        ("training/train.py", {"train", "sample", "evaluate"}, {"models", "tasks"}),
        ("task_kinds/grid.py", {"tasks"}, set()),
        ("rollouts/score.py", {"score", "train"}, {"models", "tasks"}),
    ],
)
def test_editing_a_module_reruns_what_depends_on_it_and_nothing_else(
    copy: Checkout, module: str, stale: set[str], fresh: set[str]
) -> None:
    edit_module(copy, module)
    jobs = planned(copy)
    assert stale <= set(jobs)
    assert not fresh & set(jobs)


def test_editing_modules_that_no_method_and_no_task_names_reruns_nothing(copy: Checkout) -> None:
    for module in ("filters/oracle.py", "rollouts/gains.py", "rollouts/cases.py", "task_kinds/slake.py"):
        edit_module(copy, module)
    assert planned(copy) == {}


def test_the_closure_of_every_job_holds_all_that_the_job_had_loaded(
    finished: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tests/loaded/sitecustomize.py`` had each process of the finished run write down its modules."""
    monkeypatch.chdir(finished.folder)
    plan = Dag(load_resolved(Path("results/smoke/suite.json")))
    plug_ins = {
        module_of(part)
        for method in plan.suite.methods.values()
        for part in (getattr(method, name, None) for name in ("filter", "resample", "objective"))
        if part is not None
    } | {module_of(task) for task in plan.suite.tasks.values()}
    seen = set()
    for file in (finished.folder / "loaded").glob("*.json"):
        command, *arguments = json.loads(file.read_text())["arguments"]
        loaded = set(json.loads(file.read_text())["modules"])
        own = plan.entries[code_of(plan, command, arguments)]
        # Settings of all methods are read; the plug-ins of others are loaded for these alone.
        others = set(closure.closure(plug_ins - set(own)))
        missing = loaded - set(closure.closure([*own, "vista.__main__"]))
        assert missing <= others, (command, arguments, missing - others)
        seen.add(command)
    assert {"tasks", "models", "sample", "resample", "score", "curate", "train", "evaluate"} <= seen
    assert {"collect", "tables", "cost"} <= seen


def code_of(plan: Dag, command: str, arguments: list[str]) -> str:
    """The file of checksums that the rule of a command reads."""
    _, *rest = arguments
    if command == "tasks":
        return plan.task_code(rest[0], rest[1])
    if command == "models":
        return plan.model_code(rest[0])
    kinds = plan.rollout_kinds()
    if command in kinds:
        return plan.rollout_code(kinds[command], rest[1])
    if command == "curate":
        return plan.curation_code(rest[0])
    if command == "evaluate":
        return plan.evaluation_code()
    return plan.training_code(rest[0]) if command == "train" else plan.code(command)


def test_changing_one_methods_setting_reruns_that_method_alone(copy: Checkout) -> None:
    path = copy.folder / "config/methods.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("tau: -0.5}\n  objective: {kind: dpo}", "tau: 0.5}\n  objective: {kind: dpo}")
    )
    assert path.read_text() != text
    jobs = planned(copy)
    assert jobs["curate"] == jobs["train"] == jobs["evaluate"] == 1
    assert not {"sample", "resample", "score", "models", "tasks"} & set(jobs)


def edit_suite(checkout: Checkout, old: str, new: str) -> None:
    """Replace a text that the suite file has once."""
    path = checkout.folder / "config/smoke.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


RETOLD = {"collect", "results", "cost"}  # from what there is


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("vista-sft: {rounds: 2}", "vista-sft: {rounds: 3}", {"curate": 1, "train": 1, "evaluate": 1}),
        ("out_of_domain: [grid-noisy]", "out_of_domain: []", {"evaluate": 6}),
        ("out_of_domain: [grid-noisy]", "out_of_domain: [grid-noisy, printed]", {"evaluate": 6}),
    ],
)
def test_a_changed_setting_reruns_what_it_decides(
    copy: Checkout, old: str, new: str, expected: dict[str, int]
) -> None:
    edit_suite(copy, old, new)
    if "printed" in new:
        edit_suite(copy, "sizes: {train: 5120}", "sizes: {train: 5120, test: 40}")
    jobs = planned(copy)
    told = {rule: count for rule, count in jobs.items() if rule not in RETOLD}
    rollouts = {"sample", "resample", "score", "tasks"}
    assert {rule: count for rule, count in told.items() if rule not in rollouts} == expected
    if "rounds: 3" not in new:
        assert not {"sample", "resample", "score"} & set(told)


def test_settings_that_decide_nothing_rerun_nothing(copy: Checkout) -> None:
    edit_suite(copy, "engine:", "threads: 2\nengine:")
    edit_suite(copy, "eval_batch_size: 64", "eval_batch_size: 32")
    edit_suite(copy, "vista-sft: {rounds: 2}", "vista-sft: {rounds: 1}")
    assert set(planned(copy)) <= RETOLD


def test_the_order_of_tasks_reruns_all_that_is_read_in_this_order(copy: Checkout) -> None:
    edit_suite(copy, "grids: [grid-closed, grid-chain]", "grids: [grid-chain, grid-closed]")
    jobs = planned(copy)
    assert {"sample", "resample", "score", "curate", "train", "evaluate", "results"} <= set(jobs)
    assert not {"tasks", "models"} & set(jobs)
