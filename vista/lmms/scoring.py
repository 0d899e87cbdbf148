"""A task's scores of single responses, as lmms-eval has them or as its aggregate gives them.

Some tasks score each response by a number. Others log what they found in it, and only the function that
aggregates knows what is right: it is asked about each response alone. Either way the mean over all responses
has to be the aggregate that lmms-eval reports; a task whose aggregate is no mean is refused.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any

from vista.errors import VistaError
from vista.lmms.running import silence

TOLERANCE = 1e-6
FEWEST_DECIMALS = 4  # of an aggregate that is taken for a rounded mean
# What tasks call the answer that they found in a response, in what they log of it.
FOUND = (
    *("parsed_pred", "pred_parsed", "parsed_answer", "parsed", "extracted_answer", "extracted"),
    *("extraction", "pred_answer", "predicted_answer"),
)
INVALID = "[invalid]"  # what lmms-eval's filters give where they find nothing
REHEARSED = 96  # documents that are scored before a task is asked


def scores(
    values: Sequence[Any], aggregate: Callable[[Sequence[Any]], Any], reported: Any, what: str
) -> list[float]:
    """The score of each response: a number within 0 … 1.

    Args:
        values: What the task's metric gives for each response.
        aggregate: The function that it aggregates them with.
        reported: What that gave for all.
        what: The task and metric, for errors.

    Raises:
        VistaError: a response has no score, or their mean is not the aggregate.
    """
    found = [_number(value) for value in values]
    if None in found:
        found = [_alone(value, aggregate, what) for value in values]
    listed = [value for value in found if value is not None]
    outside = [value for value in listed if not 0.0 <= value <= 1.0]
    if outside:
        raise VistaError(f"{what}: a response's score is {outside[0]:g}, expected a number within 0 … 1")
    total = _number(reported)
    if total is None:
        raise VistaError(f"{what}: lmms-eval reports {reported!r:.100}, expected a number")
    mean = math.fsum(listed) / len(listed)
    if not agree(mean, total):
        raise VistaError(
            f"{what}: lmms-eval reports {total:.7g}, but the mean of the responses' scores is {mean:.7g}: "
            "its aggregate is no mean over responses, so there are no scores to compare response by response"
        )
    return listed


def agree(mean: float, reported: float) -> bool:
    """Whether an aggregate is a mean: to within ``TOLERANCE``, or rounded to enough decimals."""
    if math.isclose(mean, reported, rel_tol=0.0, abs_tol=TOLERANCE):
        return True
    decimals = len(repr(reported).partition(".")[2])
    return decimals >= FEWEST_DECIMALS and math.isclose(mean, reported, abs_tol=0.5001 * 10.0**-decimals)


def _alone(value: Any, aggregate: Callable[[Sequence[Any]], Any], what: str) -> float:
    """The aggregate of one response."""
    try:
        with silence():
            found = _number(aggregate([copy.deepcopy(value)]))
    except Exception as error:  # somebody else's function, asked in a way that it may not expect
        raise VistaError(
            f"{what}: its aggregate cannot score one response alone ({type(error).__name__}: {error})"
        ) from error
    if found is None:
        raise VistaError(f"{what}: its aggregate of one response alone is no number")
    return found


def _number(value: Any) -> float | None:
    """A value as a number, if it is one."""
    if isinstance(value, Number) and not isinstance(value, complex):
        return float(value)  # type: ignore[arg-type]
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "size", 0) == 1:
        return float(item())
    return None


def answer_found(sample: Mapping[str, Any], metric: str, has_filters: bool) -> tuple[bool, str | None]:
    """Whether a task tells which answer it found in a response, and that answer.

    Args:
        sample: A response in lmms-eval's log.
        metric: The task's metric.
        has_filters: Whether the task has filters of its own that responses go through.
    """
    value = sample.get(metric)
    if isinstance(value, Mapping):
        for name in FOUND:
            if name in value:
                return True, _text(value[name])
    if has_filters:
        return True, _text(sample["filtered_resps"])
    return False, None


def _text(value: Any) -> str | None:
    while isinstance(value, list | tuple):
        value = value[0] if value else None
    text = "" if value is None else str(value).strip()
    return text if text and text != INVALID else None


def rehearse(task: Any, metric: str, targets: Sequence[str], what: str) -> None:
    """Score made-up responses, so that a task that cannot be scored is refused before it is asked.

    Args:
        task: lmms-eval's task.
        metric: Its metric.
        targets: The right answers of its documents.
        what: The task and metric, for errors.

    Raises:
        VistaError: its scores are not numbers whose mean is the aggregate, or its code fails.
    """
    step = max(1, len(targets) // REHEARSED)
    documents = task.eval_docs_no_media
    values = []
    for index in range(0, len(targets), step):
        draw = hashlib.sha256(f"{index}".encode()).digest()[0] % 3
        response = (targets[index], "A", "")[draw]
        try:
            with silence():
                scored = task.process_results(dict(documents[index]), [response])
        except Exception as error:  # somebody else's code
            raise VistaError(
                f"{what}: its code fails on the response {response!r:.80} to document {index} "
                f"({type(error).__name__}: {error})"
            ) from error
        if metric not in scored:
            raise VistaError(f"{what}: its code gives no such metric, but {', '.join(map(str, scored))}")
        values.append(scored[metric])
    aggregate = task.aggregation()[metric]
    try:
        with silence():
            reported = aggregate(copy.deepcopy(values))
    except Exception as error:  # somebody else's code
        raise VistaError(f"{what}: its aggregate fails ({type(error).__name__}: {error})") from error
    scores(values, aggregate, reported, f"{what}, on made-up responses")
