"""One call of lmms-eval, with its habits tamed: no cache, no network, no retries, few words.

Stage ``evaluation``; used by ``vista.evaluation.evaluate``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Set by launchers; lmms-eval would take itself for one process of several.
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


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


def quiet() -> None:
    """Send lmms-eval's log to stderr, warnings and errors only; it had claimed stdout."""
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level="WARNING", format="{level} {name}: {message}")


def run_lmms_eval(model: Any, task_folder: Path, tasks: Sequence[str]) -> dict[str, Any]:
    """Evaluate ``model`` on all ``tasks`` in one call of ``simple_evaluate``.

    Args:
        model: An instance of an lmms-eval model class.
        task_folder: Folder of the tasks' files.
        tasks: Their names.

    Returns:
        lmms-eval's report: ``results`` with the aggregates and ``samples`` with the per-sample
        log, both by task.
    """
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    quiet()
    # What only its own command line would set: score without decoding the images a second time.
    options = argparse.Namespace(process_with_media=False)
    # Whatever it prints is not this program's output.
    with contextlib.redirect_stdout(sys.stderr), no_request_cache():
        report: dict[str, Any] = simple_evaluate(
            model=model,
            tasks=list(tasks),
            task_manager=TaskManager(include_path=str(task_folder), include_defaults=False),
            batch_size=model.batch_size,
            log_samples=True,
            bootstrap_iters=0,
            process_docs_parallel=1,
            cli_args=options,
        )
    return report
