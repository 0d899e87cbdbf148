"""What is right, of whoever wrote it: an answer that is the query's, in a response that the model finished.

Stage ``evaluation`` scores responses with the same verdict; lmms-eval hands its scorers text alone, so a
response that was cut carries a mark there. Stage ``rollouts`` and the resamplers make solutions as rows of
``records.ROLLOUT`` here: from sampled tokens, with their verdict, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vista import answers
from vista.chat import decode
from vista.records import Row, Source

if TYPE_CHECKING:
    from vista.engines.base import Sample


def answer_of(query: Mapping[str, Any], text: str) -> str | None:
    """The answer in a response (``answers.extract``), after the asked model's own mark too, if it has one."""
    mark = query.get("answer_mark")
    return answers.extract(text, mark) if mark else answers.extract(text)


def is_correct(query: Mapping[str, Any], found: str | None, finished: bool) -> bool:
    """The verdict on a solution: finished, and its answer is the query's (paper: Sec. 3, step 1)."""
    return finished and answers.solves(query, found)


# What Unicode keeps for a program's own use and no text contains; files and logs keep it as it is.
CUT = "\ufdd0"


def marked(text: str, finished: bool) -> str:
    """A response as lmms-eval is given it: with ``CUT`` at its end if the length limit cut it.

    A response that contains ``CUT`` itself loses it, so that the mark never means anything else.
    """
    return text.replace(CUT, "") + ("" if finished else CUT)


def unmarked(response: str) -> tuple[str, bool]:
    """The text of a response that ``marked`` made, and whether the model finished it."""
    return response.replace(CUT, ""), CUT not in response


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
    found = answer_of(query, text)
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
    """Counts for a manifest; ``tokens`` are those sampled, end tokens too, prefixes not.

    Solutions without an answer are ``unanswered``, those cut at the length limit ``unfinished``; one may be
    both.
    """
    return {
        "queries": queries,
        "solutions": len(rows),
        "tokens": sum(map(drawn_tokens, rows)),
        "correct": sum(row["correct"] for row in rows),
        "unanswered": sum(row["answer"] is None for row in rows),
        "unfinished": sum(not row["finished"] for row in rows),
    }
