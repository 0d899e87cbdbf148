"""Rationales from a teacher: asked for, verified, kept on disk, never paid for twice.

Stage ``tasks``, for ``seed_rationales: teacher``. ``vista.engines.replies`` asks, and keeps what comes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vista.answers import extract, solves
from vista.config import TeacherRationales
from vista.engines.endpoint import Request, image_urls
from vista.engines.replies import BudgetSpent, Replies
from vista.errors import VistaError
from vista.records import Row

# What the teacher is told beyond the query. The answer's form is what vista.answers looks for.
REQUEST = (
    "Solve this step by step. In each step, say what you see in the image or what you work out from "
    "it, and claim nothing that the image does not show. Then give the final answer, and nothing "
    "else, on a last line of this form:\nanswer: <the final answer>"
)


def with_rationales(
    settings: TeacherRationales, task: str, queries: Sequence[Row]
) -> tuple[list[Row], dict[str, float]]:
    """The queries of a seed split with the teacher's rationales, and counts for the manifest.

    Raises:
        VistaError: the teacher cannot be asked any more.
    """
    teacher = Teacher(settings, task)
    found = teacher.rationales(queries)
    rows = [{**row, "rationale": found.get(row["query_id"])} for row in queries]
    return rows, {"without_rationale": len(rows) - len(found), **teacher.tokens, **teacher.replies.counts}


class Teacher:
    """Asks for the rationales of one task's seed split."""

    def __init__(self, settings: TeacherRationales, task: str, pause: float = 1.0) -> None:
        """Continue with the cache as an earlier start left it.

        Args:
            settings: The suite's ``seed_rationales``.
            task: Name of the task, whose budget is spent.
            pause: Seconds of the first pause before a failed request is sent again, at most.
        """
        self.settings = settings
        self.task = task
        self.replies = Replies(settings, task, "seed_rationales", pause)
        # As the server counted them, of replies from the cache too; ``without_usage`` replies came without.
        self.tokens: dict[str, float] = {"tokens": 0, "prompt_tokens": 0, "without_usage": 0}

    def rationales(self, queries: Sequence[Row]) -> dict[str, str]:
        """The first right reply to each query, by query id; nothing for a query without one.

        All queries are asked once, then those without a right reply again, up to ``attempts``
        times.

        Raises:
            VistaError: the budget is spent, the endpoint fails, a query's image is unreadable,
                or its ground truth is not an answer.
        """
        for query in queries:
            solves(query, None)  # a faulty ground truth shows before anything is paid for
        found: dict[str, str] = {}
        with self.replies:
            for attempt in range(self.settings.attempts):
                unsolved = [query for query in queries if query["query_id"] not in found]
                try:
                    self._ask(unsolved, attempt, found)
                except BudgetSpent as error:
                    raise VistaError(self._spent(len(found), len(queries))) from error
        return found

    def _ask(self, queries: Sequence[Row], attempt: int, found: dict[str, str]) -> None:
        """Ask each query once, some at a time, and add what is right to ``found``."""

        def request(query: Row) -> Request:
            return Request(query["query_id"], request_body(query, self.settings), attempt)

        replies = self.replies.ask(queries, request, f"{self.task}: attempt {attempt + 1}")
        for query, reply in zip(queries, replies, strict=True):
            self.tokens["tokens"] += reply.tokens("completion") or 0
            self.tokens["prompt_tokens"] += reply.tokens("prompt") or 0
            self.tokens["without_usage"] += reply.tokens("completion") is None
            if reply.is_finished and reply.text and solves(query, extract(reply.text)):
                found[query["query_id"]] = reply.text.strip()

    def _spent(self, solved: int, queries: int) -> str:
        return (
            f"task {self.task!r}: the budget of {self.settings.max_requests} requests is spent "
            f"({self.replies.ledger.path} lists them); {solved} of {queries} queries have a right rationale "
            f"so far. Every reply is kept in {self.settings.cache} and will not be asked for again: raise "
            "seed_rationales.max_requests, or lower attempts or the task's sizes.seed, and run again"
        )


def request_body(query: Mapping[str, Any], settings: TeacherRationales) -> dict[str, Any]:
    """The chat completion that asks a query, as the endpoint takes it.

    Raises:
        VistaError: an image is missing or cannot be decoded.
    """
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": url}} for url in image_urls(query)
    ]
    content.append({"type": "text", "text": f"{query['instruction']}\n\n{REQUEST}"})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if query["system"]:
        messages.insert(0, {"role": "system", "content": query["system"]})
    return {
        "model": settings.model,
        "messages": messages,
        "temperature": settings.temperature,
        "max_tokens": settings.max_new_tokens,
    }
