"""Scores of single responses: as the task has them, or as its aggregate gives them; nothing is made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vista.errors import VistaError
from vista.lmms.scoring import agree, answer_found, scores


def mean(values: Sequence[Any]) -> float:
    return sum(values) / len(values)


def right(items: Sequence[Any]) -> float:
    return sum(item["right"] for item in items) / len(items)


@pytest.mark.parametrize(
    "values", [[1, 0, 1, 1], [True, False], [0.25, 0.5], [np.float32(0.5), np.float64(1)], [np.array(1.0), 0]]
)
def test_numbers_are_scores(values: list[Any]) -> None:
    assert scores(values, mean, mean(values), "task") == [float(value) for value in values]


def test_what_is_no_number_is_aggregated_alone_and_stays_as_it_is() -> None:
    values = [{"right": True}, {"right": False}, {"right": True}]

    def spoiling(items: Sequence[Any]) -> float:
        found = right(items)
        for item in items:
            item.clear()
        return found

    assert scores(values, spoiling, 2 / 3, "task") == [1.0, 0.0, 1.0]
    assert values[0] == {"right": True}


@pytest.mark.parametrize(
    ("values", "aggregate", "reported", "said"),
    [
        (
            [1, 0],
            mean,
            0.75,
            "reports 0.75, but the mean of the responses' scores is 0.5: its aggregate is no",
        ),
        ([1, 1], sum, 2, "reports 2, but the mean .* is 1"),
        ([3, 0], mean, 1.5, "a response's score is 3, expected a number within 0 … 1"),
        ([float("nan"), 0], mean, 0.0, "a response's score is nan"),
        ([{"right": 1}], right, None, "lmms-eval reports None, expected a number"),
        ([{"wrong": 1}], right, 1.0, r"cannot score one response alone \(KeyError: 'right'\)"),
        ([{"right": 1}], lambda items: {"all": 1.0}, 1.0, "of one response alone is no number"),
    ],
)
def test_what_gives_no_scores_is_refused_with_the_reason(
    values: list[Any], aggregate: Any, reported: Any, said: str
) -> None:
    with pytest.raises(VistaError, match=said):
        scores(values, aggregate, reported, "task")


@pytest.mark.parametrize(
    ("mean", "reported", "is_one"),
    [
        (1 / 3, 0.33333, True),  # as MMMU rounds
        (1 / 3, 0.3333333, True),
        (1 / 3, 0.333, False),  # too few decimals to tell
        (1 / 3, 0.33334, False),
        (0.5, 0.5 + 5e-7, True),
        (0.5, 0.5 + 5e-6, False),
    ],
)
def test_an_aggregate_is_the_mean_or_that_rounded(mean: float, reported: float, is_one: bool) -> None:
    assert agree(mean, reported) is is_one


@pytest.mark.parametrize(
    ("sample", "has_filters", "found"),
    [
        ({"m": {"parsed_pred": "B"}}, False, (True, "B")),
        ({"m": {"parsed_pred": ["B", "C"]}}, False, (True, "B")),
        ({"m": {"pred_parsed": ""}}, False, (True, None)),
        ({"m": {"id": 3}}, False, (False, None)),
        ({"m": 1.0}, False, (False, None)),
        ({"m": 1.0, "filtered_resps": ["7"]}, True, (True, "7")),
        ({"m": 1.0, "filtered_resps": ["[invalid]"]}, True, (True, None)),
    ],
)
def test_an_answer_is_what_the_task_says_that_it_found(
    sample: dict[str, Any], has_filters: bool, found: tuple[bool, str | None]
) -> None:
    assert answer_found(sample, "m", has_filters) == found


def test_mmmu_is_scored_response_by_response() -> None:
    from lmms_eval.tasks.mmmu import utils

    subjects = ["Accounting", "Accounting", "Math", "Art", "Art", "Art", "Music"]
    documents = [
        {
            "id": f"validation_{subject}_{number}",
            "question_type": "multiple-choice" if number % 2 else "open",
            "options": "['one', 'two', 'three']",
            "answer": "B" if number % 2 else "7",
        }
        for number, subject in enumerate(subjects)
    ]
    said = ["7", "B", "8", "The answer is B.", "it is 7", "C", "no idea"]
    values = [
        utils.mmmu_process_results(doc, [text])["mmmu_acc"] for doc, text in zip(documents, said, strict=True)
    ]
    reported = utils.mmmu_aggregate_results(values)
    assert scores(values, utils.mmmu_aggregate_results, reported, "mmmu") == [1, 1, 0, 1, 1, 0, 0]
    assert answer_found({"mmmu_acc": values[1]}, "mmmu_acc", has_filters=False) == (True, "B")


def test_blink_is_scored_response_by_response() -> None:
    from lmms_eval.tasks.blink import utils

    documents = [
        {"idx": str(number), "answer": "(B)", "choices": ["a", "b"], "sub_task": "x"} for number in range(3)
    ]
    said = ["(B)", "A", "none"]
    values = [
        utils.blink_process_results(doc, [text])["blink_acc"]
        for doc, text in zip(documents, said, strict=True)
    ]
    reported = utils.blink_aggregate_results(values)
    assert scores(values, utils.blink_aggregate_results, reported, "blink") == [1, 0, 0]
    assert answer_found({"m": values[2]}, "m", has_filters=False) == (True, None)
