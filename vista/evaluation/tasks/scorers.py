"""lmms-eval's own scorers of the benchmarks that it has, in addition to ours.

Named by the task files of stage ``evaluation``; imported by lmms-eval. Each function is
``queries.process_results`` with one more metric, ``lmms_score``: the verdict of lmms-eval's task
of that name. Its scorers expect a short answer, not a rationale: they are given the answer that
was extracted from the response, in the form that they know (docs/benchmarks.md says where they
and our verifiers differ). The four-way Geometry3K task finds the letter in a response by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmms_eval.tasks.chartqa.utils import relaxed_correctness
from lmms_eval.tasks.geometry3k.utils import geometry3k_process_results
from lmms_eval.tasks.scienceqa.utils import sqa_process_results
from lmms_eval.tasks.slake.utils import slake_process_results

from vista.evaluation.tasks.queries import process_results

Doc = Mapping[str, Any]


def process_slake(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """With the verdict of ``slake_en``: equal once case, punctuation and brackets are gone."""
    scored = process_results(doc, results)
    record = slake_process_results(dict(doc), [scored["extracted"] or ""])["slake_accuracy"]
    return {**scored, "lmms_score": float(record["is_correct"])}


def process_chartqa(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """With the verdict of ``chartqa``: relaxed correctness."""
    scored = process_results(doc, results)
    return {**scored, "lmms_score": float(relaxed_correctness(scored["extracted"] or "", doc["answer"]))}


def process_scienceqa(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """With the verdict of ``scienceqa_img``: the letter alone, or "B. …"."""
    scored = process_results(doc, results)
    published = {"choices": doc["choices"], "answer": ord(doc["answer"]) - ord("A")}
    verdict = sqa_process_results(published, [scored["extracted"] or ""])
    return {**scored, "lmms_score": float(verdict["exact_match"])}


def process_geometry3k_choice(doc: Doc, results: Sequence[str]) -> dict[str, Any]:
    """With the verdict of ``geometry3k``: the last thing in the whole response that looks like a letter."""
    scored = process_results(doc, results)
    published = {"choices": doc["choices"], "ground_truth": doc["answer"]}
    verdict = geometry3k_process_results(published, list(results))
    return {**scored, "lmms_score": float(verdict["exact_match"])}


def mean(values: Sequence[float]) -> float:
    """Mean of the ``lmms_score`` of a task's queries."""
    return float(sum(values) / len(values))
