"""Responses that were generated elsewhere as a model of lmms-eval, for its own tasks to score.

Stage ``evaluation``, for ``vista grade``: our verifiers do not know what is right in such a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms


class GivenModel(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """Answers each document of a task with the response that is given to it."""

    is_simple = False
    batch_size = 1

    def __init__(self, responses: Sequence[tuple[str, bool]]) -> None:
        """The response to each document, in their order, and whether it is finished."""
        super().__init__()
        self.responses = responses
        self.cut: set[tuple[str, int]] = set()  # by task and place, as of ``chat_model``

    def clean(self) -> None:
        """There is nothing to free."""

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The given responses, as they are: what was cut at a stop string was cut elsewhere."""
        found = []
        for request in requests:
            *_, place, task, _ = request.args
            text, finished = self.responses[place]
            if not finished:
                self.cut.add((task, place))
            found.append(GenerationResult(text, TokenCounts(input_tokens=0, output_tokens=0)))
        return found

    def loglikelihood(self, requests: Sequence[Instance]) -> Any:
        """Not asked for: tasks of another output_type are refused."""
        raise NotImplementedError

    generate_until_multi_round = loglikelihood
