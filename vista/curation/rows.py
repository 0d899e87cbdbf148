"""Rows of a training set: a query with the responses to train on. They serve ``vista curate``.

The prompt is always the original-order one without a hint, whatever prompt a solution was
sampled from: that is the prompt of the evaluation.
"""

from __future__ import annotations

from vista.chat import messages, reply
from vista.curation.select import Choice
from vista.curation.solutions import Solution
from vista.errors import VistaError
from vista.records import Row


def gold_example(query: Row) -> Row:
    """An SFT example from an annotated query; its text has no tokens yet.

    Raises:
        VistaError: the query has no rationale.
    """
    if not query["rationale"]:
        raise VistaError(
            f"seed query {query['query_id']!r} (task {query['task']!r}): no rationale; "
            "every query of a seed split needs a gold one"
        )
    return {
        "query_id": query["query_id"],
        "source": "seed",
        "images": query["images"],
        "prompt": messages(query),
        "completion": reply(query["rationale"]),
        "completion_ids": None,
    }


def own_example(query: Row, solution: Solution) -> Row:
    """An SFT example of the seed split from the base model's own solution, with its tokens."""
    return {**example(query, Choice(solution)), "source": "seed"}


def example(query: Row, choice: Choice) -> Row:
    """An SFT example from a positive, with the tokens that were sampled."""
    return {
        "query_id": query["query_id"],
        "source": choice.positive.source,
        "images": query["images"],
        "prompt": messages(query),
        "completion": reply(choice.positive.text),
        "completion_ids": choice.positive.token_ids,
    }


def pair(query: Row, choice: Choice) -> Row:
    """A preference pair from a positive and its negative."""
    if choice.negative is None:
        raise ValueError(f"query {query['query_id']!r}: a pair needs a negative")
    return {
        "query_id": query["query_id"],
        "source": choice.positive.source,
        "images": query["images"],
        "prompt": messages(query),
        "chosen": reply(choice.positive.text),
        "rejected": reply(choice.negative.text),
        "chosen_ids": choice.positive.token_ids,
        "rejected_ids": choice.negative.token_ids,
    }
