"""Solutions as rows of ``records.ROLLOUT``: made from sampled tokens with a verdict, and counted.

For stage ``rollouts`` and the resamplers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vista import answers
from vista.chat import decode
from vista.records import Row, Source

if TYPE_CHECKING:
    from vista.engines.base import Sample


def is_correct(query: Mapping[str, Any], found: str | None, finished: bool) -> bool:
    """The verdict on a solution: finished, and its answer is the query's (paper: Sec. 3, step 1)."""
    return finished and answers.solves(query, found)


def solution_row(
    processor: Any,
    query: Mapping[str, Any],
    sample: Sample,
    *,
    source: Source,
    index: int,
    seed: int,
    parent: int | None = None,
    prefix: Sequence[int] = (),
) -> Row:
    """One verified solution: ``prefix``, which was given, and what was sampled after it."""
    token_ids = [*prefix, *sample.token_ids]
    text = decode(processor, token_ids)
    found = answers.extract(text)
    return {
        "query_id": query["query_id"],
        "task": query["task"],
        "sample": index,
        "source": source,
        "parent": parent,
        "prefix_len": len(prefix),
        "token_ids": token_ids,
        "text": text,
        "answer": found,
        "finished": sample.finished,
        "correct": is_correct(query, found, sample.finished),
        "logprob": sample.logprob,
        "seed": seed,
    }


def drawn_tokens(row: Row) -> int:
    """Tokens sampled for a row of ``records.ROLLOUT``: its end token too, its prefix not."""
    drawn: int = len(row["token_ids"]) - row["prefix_len"] + row["finished"]
    return drawn


def tally(queries: int, rows: Sequence[Row]) -> dict[str, float]:
    """Counts for a manifest; ``tokens`` are those sampled, end tokens too, prefixes not."""
    return {
        "queries": queries,
        "solutions": len(rows),
        "tokens": sum(map(drawn_tokens, rows)),
        "correct": sum(row["correct"] for row in rows),
    }
