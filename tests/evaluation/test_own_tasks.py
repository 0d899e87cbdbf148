"""lmms-eval's own tasks: asked and scored by lmms-eval, kept as predictions like those on every other task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.conftest import RUN, TASKS, Script, ScriptedEngine, SmallSuite
from tests.own_tasks import DIGITS, SCORED, write_task
from vista.errors import VistaError
from vista.evaluation.evaluate import evaluate
from vista.manifest import read_manifest
from vista.records import PREDICTION, Row, read_rows
from vista.task_kinds.lmms_eval import LmmsEvalSettings
from vista.tasks.generate import generate_split

PARSED = """
generation_kwargs: {max_new_tokens: 4}
process_results: !function utils.parsed
metric_list:
  - {metric: parsed_acc, aggregation: !function utils.parsed_acc, higher_is_better: true}
"""
Install = Callable[[Script], type[ScriptedEngine]]


def with_own_tasks(small: SmallSuite, folder: Path, *names: str, make: bool = True, **more: Any) -> SmallSuite:
    """The small suite with tasks of a folder, their queries written."""
    entries = {
        name: LmmsEvalSettings(kind="lmms-eval", task=name, include_path=folder, **more) for name in names
    }
    changes = {"tasks": {**small.suite.tasks, **entries}, "out_of_domain": [*TASKS[1:], *names]}
    small.suite = small.suite.model_copy(update=changes)
    for name in names if make else ():
        generate_split(small.suite, small.paths, name, "test")
    return small


def answers(small: SmallSuite, task: str) -> list[Row]:
    rows = read_rows(small.paths.predictions(RUN.id), PREDICTION)
    return [row for row in rows if row["task"] == task]


def counts(small: SmallSuite) -> dict[str, float]:
    return read_manifest(small.paths.predictions(RUN.id)).counts


def said_row(prompt: str) -> str:
    """The digit that is asked about, if it is below four."""
    digit = prompt.split("row")[-1].split()[0]
    return digit if int(digit) < 4 else "no"


def test_a_task_is_asked_with_its_own_prompt_and_scored_by_its_own_metric(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    engine = script(lambda prompt: said_row(prompt) if "grid" not in prompt else "answer : 1")
    with_own_tasks(small, write_task(tmp_path / "mine", "exact"), "exact")
    evaluate(small.suite, small.paths, RUN)
    rows = answers(small, "exact")
    assert [row["score"] for row in rows] == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert [row["response"] for row in rows] == ["0", "1", "2", "3", "no", "no"]
    assert {row["answer"] for row in rows} == {None}  # the metric does not tell
    assert [row["cluster_id"] for row in rows][::2] == [row["cluster_id"] for row in rows][1::2]
    found = counts(small)
    assert found["accuracy/exact"] == found["lmms_eval/exact"] == pytest.approx(4 / 6)
    assert "unanswered/exact" not in found
    assert len(engine.prompts) == 24 + DIGITS
