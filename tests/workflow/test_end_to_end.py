"""The smoke suite from nothing to its tables: complete, deterministic, resumable, fresh."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.checkout import Checkout
from vista import grid
from vista.config import load_resolved
from vista.dag import Dag
from vista.manifest import read_manifest
from vista.paths import manifest_of
from vista.records import PREDICTION, read_rows

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]


def planned(checkout: Checkout) -> dict[str, int]:
    """How many jobs of each rule a dry run would start."""
    done = checkout.snakemake("results/smoke/tables/main.csv", "results/smoke/tables/cost.csv", "--dry-run")
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


def test_nothing_is_left_to_do_after_a_finished_run(finished: Checkout) -> None:
    assert planned(finished) == {}


@pytest.mark.parametrize(
    ("module", "stale", "fresh"),
    [
        ("analysis/tables.py", {"results"}, {"evaluate", "train", "curate", "sample", "models", "tasks"}),
        ("evaluation/evaluate.py", {"evaluate", "collect", "results", "cost"}, {"train", "sample", "models"}),
        ("curation/filters.py", {"curate", "train", "evaluate"}, {"models", "tasks"}),
        ("training/train.py", {"train", "sample", "evaluate"}, {"models", "tasks"}),
        ("tasks/generate.py", {"tasks"}, set()),
        ("rollouts/score.py", {"sample", "score", "train"}, {"models", "tasks"}),
        ("rollouts/cases.py", set(), {"sample", "resample", "score", "train", "evaluate", "results"}),
        ("tasks/kinds/slake.py", set(), {"tasks", "models", "sample", "train", "evaluate", "results"}),
    ],
)
def test_editing_a_module_reruns_what_depends_on_it_and_nothing_else(
    copy: Checkout, module: str, stale: set[str], fresh: set[str]
) -> None:
    path = copy.folder / "vista" / module
    path.write_text(path.read_text() + "\n# edited\n")
    jobs = planned(copy)
    assert stale <= set(jobs)
    assert not fresh & set(jobs)


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
