"""Verify responses that were generated elsewhere, as if a checkpoint had given them: ``vista grade``.

Stage ``evaluation``. The verdict is the one on our own responses, and so is the file that is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import get_args

from vista import grid
from vista.chat import prompted
from vista.config import ExternalMethod, Suite
from vista.errors import VistaError
from vista.evaluation.evaluate import total
from vista.evaluation.harness import lone_process
from vista.evaluation.responses import Asked, Given, Key, Logged, located, matched, read_given
from vista.manifest import Recorder, check_count
from vista.paths import Paths
from vista.reads import Reads
from vista.records import PREDICTION, Row, Split, read_queries, write_rows
from vista.verdicts import answer_of, is_correct


def grade(suite: Suite, paths: Paths, run: grid.Run) -> None:
    """Write the predictions of ``run`` from the responses that its method names.

    Raises:
        VistaError: the file is missing or cannot be read, or its rows are not one response to each test
            query of every evaluated task; lists all of them.
    """
    method, files = _given(suite, paths, run)
    settings = {
        "run": run.id,
        "tasks": suite.evaluated_tasks,
        "source": str(grid.given(suite, run)),
        "missing": method.missing,
        **suite.models[run.model].prompts.stated,
    }
    queries = Reads(suite, paths).test_queries()
    recorder = Recorder("evaluation", settings, [*files, *queries])
    read = read_given(files)
    asked = _asked(suite, paths, run.model, read)
    given = _of_pilot(read, asked) if suite.pilot else read
    found = matched(given, asked, method.missing == "unanswered")
    rows: list[Row] = []
    counted = []
    for task in suite.evaluated_tasks:
        answers = {key: given for key, given in found.items() if key[0] == task}
        if suite.tasks[task].evaluator is None:
            graded = [_prediction(run.id, key, asked.queries[key], given) for key, given in answers.items()]
            counted.append(counts(graded, task))
        else:
            graded, counts_of_task = _by_its_task(suite, paths, run, task, list(answers.values()))
            counted.append(counts_of_task)
        rows += graded
    output = paths.predictions(run.id)
    write_rows(output, rows, PREDICTION)
    lacking = sum(given is None for given in found.values())
    left_out = {"left_out": len(read) - len(given)} if suite.pilot else {}
    recorder.write(output, {"predictions": len(rows), **total(counted), "missing": lacking, **left_out})


def _by_its_task(
    suite: Suite, paths: Paths, run: grid.Run, task: str, answers: Sequence[Given | None]
) -> tuple[list[Row], dict[str, float]]:
    """The predictions on one of lmms-eval's own tasks, which it scores itself, and their counts.

    Where there is no response, the score is 0: some tasks guess when they find no answer.
    """
    from vista.evaluation.given_model import GivenModel  # only now: lmms-eval imports torch

    responses = [("", True) if given is None else (given.response, given.finished) for given in answers]
    with lone_process():
        evaluator = import_module(str(suite.tasks[task].evaluator))
        rows, counted = evaluator.answered(GivenModel(responses), suite, paths, run, task)
    del counted["tokens"]
    for row, given in zip(rows, answers, strict=True):
        if given is None:
            row |= {"answer": None, "score": 0.0}
    missing = [row for row, given in zip(rows, answers, strict=True) if given is None]
    found = counts(rows, task)
    if f"unanswered/{task}" not in counted:  # the task does not tell which answers it found
        found |= {"unanswered": len(missing), f"unanswered/{task}": len(missing)}
        if not missing:
            del found[f"unanswered/{task}"]
    return rows, counted | found


def check_responses(suite: Suite, paths: Paths, run: grid.Run) -> str:
    """What ``grade`` would make of a run's responses, as far as the test queries have been made.

    Raises:
        VistaError: the same.
    """
    method, files = _given(suite, paths, run)
    given = read_given(files)
    if not all(path.is_file() for path in Reads(suite, paths).test_queries()):
        return f"{len(given)} responses, not yet compared with the test queries, which are not made yet"
    asked = _asked(suite, paths, run.model, given)
    given = _of_pilot(given, asked) if suite.pilot else given
    found = matched(given, asked, method.missing == "unanswered")
    return f"{len(given)} responses to {len(found)} test queries"


def _given(suite: Suite, paths: Paths, run: grid.Run) -> tuple[ExternalMethod, list[Path]]:
    """A run's method, and the files with its responses.

    Raises:
        VistaError: it is of another kind, or they are missing.
    """
    method, source = suite.methods[run.method], grid.given(suite, run)
    if source is None or not isinstance(method, ExternalMethod) or not method.predictions:
        raise VistaError(f"{run.id}: method {run.method!r} names no predictions from elsewhere")
    files = Reads(suite, paths).given(run)
    if not files:
        what = "no samples of lmms-eval in this folder" if source.is_dir() else "no such file"
        raise VistaError(f"{source}: {what}; correct predictions.{run.model} of method {run.method}")
    return method, files


def _of_pilot(given: Sequence[Given], asked: Asked) -> list[Given]:
    """The responses to the few queries of a pilot: the file has those to all."""
    ids = {query_id for _, query_id in asked.queries}
    return [row for row in given if any(found.query_id in ids for found, _ in located([row], asked))]


def _asked(suite: Suite, paths: Paths, model: str, given: Sequence[Given]) -> Asked:
    """The test queries of every evaluated task, as a model is asked them, to compare ``given`` with."""
    asked: dict[Key, Row] = {}
    plain: dict[Key, str] = {}
    for path in Reads(suite, paths).test_queries():
        rows = read_queries(path, list(QUERIED))
        check_count(path, len(rows), "queries", required=False)
        for row in rows:
            key = row["task"], row["query_id"]
            asked[key], plain[key] = prompted(row, suite.models[model].prompts), row["instruction"]
    return Asked(asked, plain, lambda: _other_splits(suite, paths), _logged(suite, paths, given))


def _logged(suite: Suite, paths: Paths, given: Sequence[Given]) -> dict[str, dict[str, list[Logged]]]:
    """The documents of lmms-eval's own tasks that some of ``given`` are samples of, as ``Asked.logged``."""
    names = {row.task for row in given if row.place is not None}
    found: dict[str, dict[str, list[Logged]]] = {}
    for task in suite.evaluated_tasks if names else []:
        if suite.tasks[task].evaluator is not None:
            evaluator = import_module(str(suite.tasks[task].evaluator))
            if (name := evaluator.name_of(suite, task)) in names:
                with lone_process():
                    found.setdefault(name, {})[task] = evaluator.logged(suite, paths, task)
    return found


QUERIED = (
    *("query_id", "task", "split", "system", "instruction", "answer", "answer_type", "choices", "cluster_id"),
)


def _prediction(run: str, key: Key, query: Row, given: Given | None) -> Row:
    """One row of ``records.PREDICTION``; a query without a response has an empty one, without an answer."""
    response, finished = ("", True) if given is None else (given.response, given.finished)
    answer = None if given is None else answer_of(query, response)
    return {
        "run": run,
        "task": key[0],
        "query_id": key[1],
        "cluster_id": query["cluster_id"],
        "response": response,
        "answer": answer,
        "finished": finished,
        "score": float(is_correct(query, answer, finished)),
    }


def counts(rows: Sequence[Row], task: str) -> dict[str, float]:
    """What the manifest counts of a task, as of our own predictions; tokens are not known."""
    unanswered = sum(row["answer"] is None for row in rows)
    unfinished = sum(not row["finished"] for row in rows)
    return {
        "unanswered": unanswered,
        "unfinished": unfinished,
        f"unanswered/{task}": unanswered,
        f"unfinished/{task}": unfinished,
        f"accuracy/{task}": math.fsum(row["score"] for row in rows) / len(rows),
    }


def _other_splits(suite: Suite, paths: Paths) -> Mapping[str, tuple[str, str]]:
    """Task and split of every query that is trained on, as far as the splits have been made."""
    found: dict[str, tuple[str, str]] = {}
    for task in suite.evaluated_tasks:
        for split in get_args(Split):
            path = paths.queries(task, split)
            if split != "test" and path.is_file():
                found |= {row["query_id"]: (task, split) for row in read_queries(path, ["query_id"])}
    return found
