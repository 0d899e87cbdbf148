"""One call of lmms-eval on a suite's tasks: without its cache, the network, retries and most of its log.

Stage ``evaluation``; used by ``vista.evaluation.evaluate``. The task files that it is given are ordinary
ones, so its own command line reads them as well:
``lmms-eval --model vista --tasks grid-open --include_path <folder> …``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vista.config import Prompts, Suite
from vista.lmms.running import quiet
from vista.paths import Paths
from vista.records import write_text

# Set by launchers; with them lmms-eval would assume that it is one process of several.
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")

# How responses are scored: only by our verifiers, or by a scorer of lmms-eval as well.
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


def task_yaml(
    task: str,
    queries: Path,
    folder: Path,
    max_new_tokens: int,
    scorer: str | None = None,
    prompts: Prompts | None = None,
) -> str:
    """The text of one task file.

    Args:
        task: Name of the task.
        queries: Parquet file of its test queries.
        folder: Where the task file will be written. It names ``queries`` relative to itself, so the
            results folder as a whole may be moved.
        max_new_tokens: Length limit of a response, in tokens.
        scorer: The function that scores as lmms-eval's own task does, too.
        prompts: How the model is asked, if not as the queries say.
    """
    template = resources.files("vista.evaluation.tasks").joinpath("template.yaml").read_text(encoding="utf-8")
    own: dict[str, Any] = {
        "task": task,
        "dataset_kwargs": {
            "data_files": {"test": os.path.relpath(queries.resolve(), folder.resolve())},
            **(prompts.stated if prompts else {}),
        },
        # An empty `until` keeps lmms-eval from adding its default, which would cut a rationale.
        "generation_kwargs": {
            "max_new_tokens": max_new_tokens,
            "do_sample": False,
            "temperature": 0.0,
            "until": [],
        },
    }
    return template + scoring_yaml(scorer) + yaml.safe_dump(own, sort_keys=False)


def write_task_files(suite: Suite, paths: Paths, folder: Path, model: str | None = None) -> None:
    """Write a task file for every evaluated task of ``suite`` to ``folder``, and nothing else.

    Of tasks that lmms-eval knows by its own files, none is written.

    They ask as ``model`` of the suite is asked; without one, as the queries say.

    lmms-eval would run Python files there that have the names of our modules.
    """
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    prompts = None if model is None else suite.prompts(model)
    for task in suite.evaluated_tasks:
        if suite.tasks[task].evaluator is not None:
            continue
        scorer = suite.tasks[task].lmms_scorer
        text = task_yaml(
            task, paths.queries(task, "test"), folder, suite.eval_max_new_tokens, scorer, prompts
        )
        write_text(folder / f"{task}.yaml", text)


@contextlib.contextmanager
def lone_process() -> Iterator[None]:
    """An environment without a launcher's variables and without a network."""
    before = {name: os.environ.pop(name, None) for name in (*LAUNCHER_VARIABLES, *OFFLINE_VARIABLES)}
    os.environ.update(dict.fromkeys(OFFLINE_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def no_request_cache() -> Iterator[None]:
    """Keep lmms-eval from its cache of requests, which it unpickles even where it is told to use none."""
    from lmms_eval.api import task

    before = task.load_from_cache
    task.load_from_cache = lambda file_name: None
    try:
        yield
    finally:
        task.load_from_cache = before


def run_lmms_eval(model: Any, task_folder: Path, tasks: Sequence[str]) -> dict[str, Any]:
    """Evaluate ``model`` on all ``tasks`` in one call of ``simple_evaluate``.

    Args:
        model: An instance of an lmms-eval model class.
        task_folder: Folder of the tasks' files.
        tasks: Their names.

    Returns:
        As ``simple_evaluate``.
    """
    # lmms-eval imports it by the name in the task files; what it decides is in the job's code like the rest.
    import vista.evaluation.tasks.queries  # noqa: F401

    return simple_evaluate(model, list(tasks), str(task_folder))


def simple_evaluate(
    model: Any, tasks: list[Any], include_path: str | None = None, limit: int | None = None
) -> dict[str, Any]:
    """One call of lmms-eval's function of this name.

    Args:
        model: An instance of an lmms-eval model class.
        tasks: Names of tasks, or tasks that are loaded already.
        include_path: Folder of the task files of those named.
        limit: How many documents, from the first; default: all.

    Returns:
        lmms-eval's report: ``results`` with the aggregates and ``samples`` with the per-sample
        log, both by task.
    """
    from lmms_eval import evaluator
    from lmms_eval.tasks import TaskManager

    quiet()
    # What only its own command line would set: score without decoding the images a second time.
    options = argparse.Namespace(process_with_media=False)
    # Whatever it prints is not this program's output.
    with contextlib.redirect_stdout(sys.stderr), no_request_cache():
        report: dict[str, Any] = evaluator.simple_evaluate(
            model=model,
            tasks=tasks,
            task_manager=TaskManager(include_path=include_path, include_defaults=False),
            batch_size=model.batch_size,
            limit=limit,
            log_samples=True,
            bootstrap_iters=0,
            process_docs_parallel=1,
            cli_args=options,
        )
    return report
