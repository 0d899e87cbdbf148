"""What one of lmms-eval's own tasks asks, for an environment that lacks lmms-eval: ``vista requests``.

Stage ``evaluation``; ``vista respond`` reads it in the environment of vLLM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vista.config import Suite
from vista.errors import VistaError
from vista.evaluation.answering import REQUEST, named
from vista.lmms.asking import Decoding, split_images
from vista.lmms.files import TaskFile, find
from vista.lmms.loading import Loaded, load
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths
from vista.records import Row, read_queries, write_rows

COLUMNS = ["query_id", "cluster_id"]


def requests(suite: Suite, paths: Paths, task: str) -> None:
    """Write down what a task asks of each document, in the order of its queries.

    Raises:
        VistaError: the task's files or documents are not those that its queries were made of.
    """
    settings: Any = suite.tasks[task]
    stated = {"task": task, "lmms_eval": settings.task, "max_new_tokens": suite.eval_max_new_tokens}
    recorder = Recorder("evaluation", stated, [paths.queries(task, "test")])
    loaded, _ = load_asked(suite, paths, task)
    asks, name = loaded.task, loaded.file.name
    decoding = Decoding.parse(name, asks.config.generation_kwargs)
    rows = []
    for index in range(len(loaded)):
        turns, _ = split_images(asks.doc_to_messages(asks.eval_docs[index]))
        rows.append(
            {
                "name": named(asks.eval_docs_no_media[index], name, index),
                "turns": json.dumps(turns),
                "max_new_tokens": decoding.max_new_tokens,
                "until": list(decoding.until),
            }
        )
    output = paths.requests(task)
    write_rows(output, rows, REQUEST)
    # Not `requests`: those are what endpoints were sent, in the table of costs.
    recorder.write(output, {"documents": len(rows)})


def load_asked(suite: Suite, paths: Paths, task: str) -> tuple[Loaded, list[Row]]:
    """A task as lmms-eval loads it, and the queries that were made of its documents.

    Raises:
        VistaError: its files or documents are not those that the queries were made of.
    """
    path = paths.queries(task, "test")
    loaded = load_as_queried(suite, paths, task)
    queries = read_queries(path, COLUMNS)
    _check_documents(loaded, task, [query["query_id"] for query in queries], path)
    return loaded, queries


def load_as_queried(suite: Suite, paths: Paths, task: str) -> Loaded:
    """A task, to be asked as its queries say; its documents are not compared with them.

    Raises:
        VistaError: its files are not those that the queries were made of.
    """
    settings: Any = suite.tasks[task]
    file = find(settings.task, settings.include_path)
    _check_files(file, task, paths.queries(task, "test"))
    return load(file, settings.metric, settings.sizes.test, suite.eval_max_new_tokens)


def _check_files(file: TaskFile, task: str, path: Path) -> None:
    """Refuse a task whose files say something else now than when its queries were made.

    Raises:
        VistaError: they do.
    """
    if read_manifest(path).settings.get("definition") != file.digest():
        raise VistaError(
            f"task {task}: {file.path}, or code that it names, has changed since {path} was made of it; run "
            "the same snakemake command again, which makes it again"
        )


def _check_documents(loaded: Loaded, task: str, query_ids: Sequence[str], path: Path) -> None:
    """Refuse a data set that is not the one that the queries were made of.

    Raises:
        VistaError: it is not; names the first document that differs.
    """
    found = [document.query_id(task) for document in loaded.documents()]
    if found == list(query_ids):
        return
    differing = [
        index for index, pair in enumerate(zip(found, query_ids, strict=False)) if len(set(pair)) > 1
    ]
    first = f"document {differing[0]} differs" if differing else f"it has {len(found)} documents"
    raise VistaError(
        f"task {task}: the data set of {loaded.what} is not the one that {path} ({len(query_ids)} queries) "
        f"was made of: {first}; put that data set back, or delete {path} to make the queries again"
    )
