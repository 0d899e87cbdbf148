"""What a pilot trains on where there is nothing: a few queries may give no right solution.

For ``vista curate``. Not in a real run, whose training set stays empty. The manifest counts such rows as
``from_pilot``.
"""

from __future__ import annotations

from pathlib import Path

from vista.chat import messages, prompted, reply
from vista.config import SelfRationales, Suite
from vista.curation.rows import example, pair, read_solutions, read_split
from vista.curation.select import Choice
from vista.grid import Run
from vista.reads import CurationFiles, SeedFiles
from vista.records import QUERY, Row, Split, read_queries
from vista.solutions import Solution, in_order
from vista.wording import chosen

SOURCE = "pilot"


def of_solutions(suite: Suite, run: Run, files: CurationFiles, pairs: bool) -> list[Row]:
    """Of each query the first of the latest policy's solutions, right or not; in pairs, with the last one."""
    queries = read_split(files.queries, suite.models[run.model].prompts)
    rows: list[Row] = []
    for query_id, solutions in _said(files.policies[0].solutions, queries).items():
        made = pair if pairs else example
        rows.append(made(queries[query_id], Choice(solutions[0], solutions[-1])) | {"source": SOURCE})
    return rows


def of_seed(suite: Suite, run: Run, files: SeedFiles) -> list[Row]:
    """Of each seed query the base model's first solution; where it wrote none, the answer alone."""
    prompts = suite.models[run.model].prompts
    queries = read_split(files.queries, prompts)
    if isinstance(suite.seed_rationales, SelfRationales):
        said = _said(files.samples, queries, "seed")
        return [
            example(queries[query_id], Choice(solutions[0])) | {"source": SOURCE}
            for query_id, solutions in said.items()
        ]
    read = [prompted(row, prompts) for file in files.queries for row in read_queries(file, QUERY.names)]
    return [
        {
            "query_id": query["query_id"],
            "source": SOURCE,
            "images": query["images"],
            "prompt": messages(query),
            "completion": reply(chosen(query["answer"], suite.wording)),
            "completion_ids": None,
        }
        for query in read
    ]


def _said(files: list[Path], queries: dict[str, Row], split: Split = "train") -> dict[str, list[Solution]]:
    """By query, the solutions that say something, in order; without the queries that have none."""
    read = read_solutions(files, queries, split)
    found = {
        query_id: [each for each in in_order(list(read[query_id].values())) if each.token_ids]
        for query_id in queries
    }
    return {query_id: solutions for query_id, solutions in found.items() if solutions}
