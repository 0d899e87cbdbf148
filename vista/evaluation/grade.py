"""Verify responses that were generated elsewhere, as if a checkpoint had given them: ``vista grade``.

Stage ``evaluation``. The verdict is the one on our own responses, and so is the file that is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from vista import grid
from vista.chat import prompted
from vista.config import ExternalMethod, Suite
from vista.errors import VistaError
from vista.evaluation.responses import Asked, Given, Key, matched, read_given
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
    asked = _asked(suite, paths, run.model)
    found = matched(read_given(files), asked, method.missing == "unanswered")
    predictions = [_prediction(run.id, key, asked.queries[key], given) for key, given in found.items()]
    output = paths.predictions(run.id)
    write_rows(output, predictions, PREDICTION)
    lacking = sum(given is None for given in found.values())
    recorder.write(output, {**counts(predictions, suite.evaluated_tasks), "missing": lacking})


def check_responses(suite: Suite, paths: Paths, run: grid.Run) -> str:
    """What ``grade`` would make of a run's responses, as far as the test queries have been made.

    Raises:
        VistaError: the same.
    """
    method, files = _given(suite, paths, run)
    given = read_given(files)
    if not all(path.is_file() for path in Reads(suite, paths).test_queries()):
        return f"{len(given)} responses, not yet compared with the test queries, which are not made yet"
    found = matched(given, _asked(suite, paths, run.model), method.missing == "unanswered")
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


def _asked(suite: Suite, paths: Paths, model: str) -> Asked:
    """The test queries of every evaluated task, as a model is asked them."""
    asked: dict[Key, Row] = {}
    plain: dict[Key, str] = {}
    for path in Reads(suite, paths).test_queries():
        rows = read_queries(path, list(QUERIED))
        check_count(path, len(rows), "queries", required=False)
        for row in rows:
            key = row["task"], row["query_id"]
            asked[key], plain[key] = prompted(row, suite.models[model].prompts), row["instruction"]
    return Asked(asked, plain, lambda: _other_splits(suite, paths))


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


def counts(rows: Sequence[Row], tasks: Sequence[str]) -> dict[str, float]:
    """What the manifest counts, as of our own predictions; how many tokens a response had is not known."""
    found: dict[str, float] = {"predictions": len(rows), "unanswered": 0, "unfinished": 0}
    for task in tasks:
        own = [row for row in rows if row["task"] == task]
        found[f"unanswered/{task}"] = sum(row["answer"] is None for row in own)
        found[f"unfinished/{task}"] = sum(not row["finished"] for row in own)
        for name in ("unanswered", "unfinished"):
            found[name] += found[f"{name}/{task}"]
        found[f"accuracy/{task}"] = math.fsum(row["score"] for row in own) / len(own)
    return found


def _other_splits(suite: Suite, paths: Paths) -> Mapping[str, tuple[str, str]]:
    """Task and split of every query that is trained on, as far as the splits have been made."""
    found: dict[str, tuple[str, str]] = {}
    for task in suite.evaluated_tasks:
        for split in get_args(Split):
            path = paths.queries(task, split)
            if split != "test" and path.is_file():
                found |= {row["query_id"]: (task, split) for row in read_queries(path, ["query_id"])}
    return found
