"""Writes the task files that tell lmms-eval of a suite's tasks.

Stage ``evaluation``. They are ordinary lmms-eval task files, so its own command line reads them
as well: ``lmms-eval --model vista --tasks grid-open --include_path <folder> …``.
"""

from __future__ import annotations

import os
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vista.config import Suite
from vista.paths import Paths
from vista.records import write_text

# How responses are scored: by our verifiers alone, or by a scorer of lmms-eval as well.
ACCURACY = """process_results: !function {process}
metric_list:
  - metric: accuracy
    aggregation: !function vista.evaluation.tasks.queries.mean_score
    higher_is_better: true
"""
LMMS_SCORE = """  - metric: lmms_score
    aggregation: !function vista.evaluation.tasks.scorers.mean
    higher_is_better: true
"""


def scoring_yaml(scorer: str | None) -> str:
    """The part of a task file that says how responses are scored."""
    if scorer is None:
        return ACCURACY.format(process="vista.evaluation.tasks.queries.process_results")
    return ACCURACY.format(process=scorer) + LMMS_SCORE


def task_yaml(task: str, queries: Path, folder: Path, max_new_tokens: int, scorer: str | None = None) -> str:
    """The text of one task file.

    Args:
        task: Name of the task.
        queries: Parquet file of its test queries.
        folder: Where the task file will stand. It names ``queries`` relative to itself, so the
            results folder as a whole may be moved.
        max_new_tokens: Length limit of a response, in tokens.
        scorer: The function that scores as lmms-eval's own task does, too.
    """
    template = resources.files("vista.evaluation.tasks").joinpath("template.yaml").read_text(encoding="utf-8")
    own: dict[str, Any] = {
        "task": task,
        "dataset_kwargs": {"data_files": {"test": os.path.relpath(queries.resolve(), folder.resolve())}},
        # An empty `until` keeps lmms-eval from adding its default, which would cut a rationale.
        "generation_kwargs": {
            "max_new_tokens": max_new_tokens,
            "do_sample": False,
            "temperature": 0.0,
            "until": [],
        },
    }
    return template + scoring_yaml(scorer) + yaml.safe_dump(own, sort_keys=False)


def write_task_files(suite: Suite, paths: Paths, folder: Path) -> None:
    """Write a task file for every evaluated task of ``suite`` to ``folder``, which then holds nothing else.

    lmms-eval would run Python files that lie there under the names of our modules.
    """
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for task in suite.evaluated_tasks:
        scorer = suite.tasks[task].lmms_scorer
        text = task_yaml(task, paths.queries(task, "test"), folder, suite.eval_max_new_tokens, scorer)
        write_text(folder / f"{task}.yaml", text)
