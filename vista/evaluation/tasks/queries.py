"""How lmms-eval reads queries, shows them to a model and scores the responses.

Named by the task files of stage ``evaluation`` (``template.yaml``); imported by lmms-eval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from lmms_eval.api.task import ConfigurableMessagesTask

from vista import chat
from vista.config import Prompts
from vista.errors import VistaError
from vista.images import open_images
from vista.records import QUERY, read_queries, read_table
from vista.verdicts import answer_of, is_correct, unmarked

Message = dict[str, Any]


def doc_to_messages(doc: Mapping[str, Any]) -> list[Message]:
    """The conversation that asks a query, in lmms-eval's form: with images in the turns.

    The turns are those of ``chat.messages``, which training and sampling also show a model.
    """
    pictures = iter(open_images(doc))
    turns = []
    for turn in chat.messages(doc):
        parts = [
            {"type": "image", "url": next(pictures)} if part["type"] == "image" else part
            for part in turn["content"]
        ]
        turns.append({"role": turn["role"], "content": parts})
    return turns


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score one response: right if it was finished and its answer is the query's, as in sampling.

    Args:
        doc: The query.
        results: The response, as ``verdicts.marked`` made it: lmms-eval passes on nothing but text.

    Returns:
        ``accuracy``, the metric: a score of 0 or 1 with the cluster that standard errors need.
        The other entries are not metrics; they end up in lmms-eval's per-sample log.

    Raises:
        VistaError: the query's ground truth is malformed; names the query.
    """
    (response,) = results
    text, finished = unmarked(response)
    found = answer_of(doc, text)
    score = float(is_correct(doc, found, finished))
    return {
        "accuracy": {"score": score, "cluster_id": doc["cluster_id"]},
        "score": score,
        "query_id": doc["query_id"],
        "cluster_id": doc["cluster_id"],
        "extracted": found,
        "finished": finished,
    }


def mean_score(items: Sequence[Mapping[str, Any]]) -> float:
    """Mean of the scores of a task's ``accuracy`` entries."""
    return float(sum(item["score"] for item in items) / len(items))


def _asked(queries: pa.Table, prompts: Mapping[str, str] | None) -> pa.Table:
    """A table of queries, as a model with these ``prompts`` is asked; ``answer_mark`` is a column more."""
    if not prompts:
        return queries
    changed = [chat.prompted(row, Prompts(**prompts)) for row in queries.to_pylist()]
    mark = pa.field("answer_mark", pa.string())
    schema = queries.schema.append(mark) if "answer_mark" in prompts else queries.schema
    return pa.Table.from_pylist(changed, schema=schema)


class QueryTask(ConfigurableMessagesTask):  # type: ignore[misc]  # lmms-eval is untyped
    """A task whose documents are read from one parquet file into memory.

    Not by way of the hub library's cache: that is shared by all jobs of a user and keyed by
    neither the content nor the code that wrote it.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None) -> None:
        """Read the queries; the base class calls this once.

        Raises:
            VistaError: the file is missing, not parquet, without rows, or has duplicate query ids.
        """
        split = self.config.test_split
        try:
            path = Path((dataset_kwargs or {})["data_files"][split])
        except (KeyError, TypeError) as error:
            raise VistaError(
                f"task {self.config.task}: dataset_kwargs.data_files.{split} is missing; "
                "name the parquet file of the queries"
            ) from error
        if not read_queries(path, ["query_id"]):
            raise VistaError(f"{path}: no queries; raise the task's sizes.{split}")
        asked = _asked(
            read_table(path, QUERY).replace_schema_metadata(), (dataset_kwargs or {}).get("prompts")
        )
        queries = datasets.Dataset(
            datasets.table.InMemoryTable(asked), fingerprint=f"{self.config.task}-{split}"
        )
        self.dataset = datasets.DatasetDict({split: queries})
        # What lmms-eval iterates over where it needs no image.
        self.dataset_no_image = datasets.DatasetDict({split: queries.remove_columns("images")})

    # Without lmms-eval's five attempts, two seconds apart: scoring is deterministic, and its
    # first error is more telling than the RetryError at the end.
    process_results = ConfigurableMessagesTask.process_results.__wrapped__
