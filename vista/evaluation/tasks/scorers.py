"""lmms-eval's own scorers of the benchmarks that it has, in addition to ours.

Named by the task files of stage ``evaluation``; imported by lmms-eval. Each function is
``queries.process_results`` with one more metric, ``lmms_score``: the verdict of lmms-eval's task
of that name. Three of its scorers expect a short answer and nothing else. They judge the response as it is,
which is all that lmms-eval's task would do, and besides it two readings of a response that ends in its
answer: the end of its last line, and the answer that we found. One that they accept is enough. So they
see an answer that ours missed (docs/benchmarks.md says where they and our verifiers differ). The four-way
Geometry3K task finds the letter in a response by itself. A response that was cut is wrong here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmms_eval.filters.transformation import StripThinkingFilter
from lmms_eval.tasks.chartqa.utils import relaxed_correctness
from lmms_eval.tasks.geometry3k.utils import geometry3k_process_results
from lmms_eval.tasks.scienceqa.utils import sqa_process_results
from lmms_eval.tasks.slake.utils import slake_process_results

from vista.evaluation.tasks.queries import process_results
from vista.verdicts import unmarked

Doc = Mapping[str, Any]


def process_slake(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """With the verdict of ``slake_en``: equal once case, punctuation and brackets are gone."""

    def accepts(answer: str) -> bool:
        return bool(slake_process_results(dict(doc), [answer])["slake_accuracy"]["is_correct"])

    return _with_verdict(doc, results, accepts)


def process_chartqa(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """With the verdict of ``chartqa``: relaxed correctness."""
    return _with_verdict(doc, results, lambda answer: relaxed_correctness(answer, doc["answer"]))


def process_scienceqa(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """With the verdict of ``scienceqa_img``: the letter alone, or "B. …"."""
    published = {"choices": doc["choices"], "answer": ord(doc["answer"]) - ord("A")}
    return _with_verdict(
        doc, results, lambda answer: bool(sqa_process_results(published, [answer])["exact_match"])
    )


def process_geometry3k_choice(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """With the verdict of ``geometry3k``: the last thing in the whole response that looks like a letter."""
    published = {"choices": doc["choices"], "ground_truth": doc["answer"]}

    def accepts(response: str) -> bool:
        return bool(geometry3k_process_results(published, [response])["exact_match"])

    return _with_verdict(doc, results, accepts, whole=True)


def _with_verdict(
    doc: Doc, results: Sequence[str], accepts: Callable[[str], bool], whole: bool = False
) -> dict[str, Any]:
    """Our scores of one response, with ``lmms_score``.

    Args:
        doc: The query.
        results: The response, as for ``process_results``.
        accepts: Whether lmms-eval's scorer takes a text for the right answer.
        whole: It finds the answer in a response by itself.
    """
    scored = process_results(doc, results)
    text, finished = unmarked(results[0])
    shown = readings(text, scored["extracted"])
    accepted = finished and any(accepts(reading) for reading in (shown[:1] if whole else shown))
    return {**scored, "lmms_score": float(accepted)}


def readings(response: str, found: str | None) -> list[str]:
    """What may be the answer in a response: all of it, the end of its last line, and what we ``found``.

    Without a chain of thought in tags, as lmms-eval's filter removes it. Of the last line counts what follows
    its first colon, if it has one, without Markdown around it.
    """
    ((bare,),) = StripThinkingFilter().apply([[response]], [None])
    last = bare.rpartition("\n")[2]
    end = last.partition(":")[2] or last
    return [bare, *filter(None, [end.strip(" \t*_`$").rstrip(" \t*_`$."), found])]


def mean(values: Sequence[float]) -> float:
    """Mean of the ``lmms_score`` of a task's queries."""
    return float(sum(values) / len(values))
