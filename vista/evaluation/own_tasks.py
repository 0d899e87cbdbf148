"""One of lmms-eval's own tasks, asked and scored by lmms-eval as the task says. Stage ``evaluation``.

Prompts, stop strings and scores are the task's; its length limit is bounded by the suite's, and responses are
greedy. That a response was cut is counted, but does not change its score: the task does not know of it. The
documents have to be those of which the queries were made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vista.config import Suite
from vista.evaluation.harness import simple_evaluate
from vista.evaluation.requests import load_as_queried, load_asked
from vista.evaluation.responses import Logged
from vista.grid import Run
from vista.lmms.loading import Loaded, without_judge
from vista.lmms.running import single_attempts
from vista.lmms.scoring import answer_found, scores
from vista.paths import Paths
from vista.records import Row, read_queries


def answered(
    model: Any, suite: Suite, paths: Paths, run: Run, task: str
) -> tuple[list[Row], dict[str, float]]:
    """A model's predictions on a task in the order of its queries, and what the manifest counts.

    Args:
        model: An instance of our lmms-eval model class.
        suite: The resolved suite.
        paths: Where everything is.
        run: The run.
        task: The task's name in the suite.

    Raises:
        VistaError: the task's files or documents are not those that its queries were made of; or what
            lmms-eval reports is not the mean of the responses' scores.
    """
    loaded, queries = load_asked(suite, paths, task)
    with single_attempts(), without_judge(loaded.what):
        report = simple_evaluate(model, [loaded.task], limit=loaded.limit)
    return _predictions(loaded, run.id, task, queries, report, model.cut)


def name_of(suite: Suite, task: str) -> str:
    """lmms-eval's name of a task of the suite."""
    settings: Any = suite.tasks[task]
    return str(settings.task)


def logged(suite: Suite, paths: Paths, task: str) -> list[Logged]:
    """The documents of a task's queries by place, as lmms-eval's log of samples shows them.

    Raises:
        VistaError: the task's files are not those that its queries were made of, or its code fails.
    """
    path = paths.queries(task, "test")
    loaded = load_as_queried(suite, paths, task)
    ids = [query["query_id"] for query in read_queries(path, ["query_id"])]
    return [
        Logged(query_id, loaded.inputs(place), str(loaded.target(place)), loaded.filters, loaded.has_filters)
        for place, query_id in enumerate(ids[: len(loaded)])
    ]


def _predictions(
    loaded: Loaded,
    run: str,
    task: str,
    queries: Sequence[Row],
    report: Mapping[str, Any],
    cut: set[tuple[str, int]],
) -> tuple[list[Row], dict[str, float]]:
    """Rows of ``records.PREDICTION``, and their counts, from lmms-eval's report."""
    name, metric = loaded.file.name, loaded.metric
    logged: dict[int, Mapping[str, Any]] = {}
    for sample in report["samples"][name]:
        logged.setdefault(sample["doc_id"], sample)  # of several filters, the first
    if sorted(logged) != list(range(len(queries))):
        raise RuntimeError(f"task {task}: lmms-eval reports {len(logged)} of {len(queries)} documents")
    samples = [logged[index] for index in range(len(queries))]
    reported = report["results"][name][f"{metric},{loaded.filter_name}"]
    values = [sample[metric] for sample in samples]
    found = scores(values, loaded.task.aggregation()[metric], reported, loaded.what)
    rows, tells = [], False
    for index, (query, sample, score) in enumerate(zip(queries, samples, found, strict=True)):
        told, answer = answer_found(sample, metric, loaded.has_filters)
        tells = tells or told
        rows.append(
            {
                "run": run,
                "task": task,
                "query_id": query["query_id"],
                "cluster_id": query["cluster_id"],
                "response": _first(sample["resps"]),
                "answer": answer,
                "finished": (name, index) not in cut,
                "score": score,
            }
        )
    mean = math.fsum(found) / len(found)
    unfinished = sum(not row["finished"] for row in rows)
    unanswered = sum(row["answer"] is None for row in rows) if tells else 0
    counts = {
        "tokens": sum(sample["token_counts"][0]["output_tokens"] for sample in samples),
        "unanswered": unanswered,
        "unfinished": unfinished,
        **({f"unanswered/{task}": unanswered} if tells else {}),
        f"unfinished/{task}": unfinished,
        f"accuracy/{task}": mean,
        f"lmms_eval/{task}": float(reported),
    }
    return rows, counts


def _first(responses: Any) -> str:
    """The one response to a document; lmms-eval wraps it less where a task states ``reasoning_tags``."""
    while not isinstance(responses, str):
        responses = responses[0]
    return responses
