"""A model at an OpenAI-compatible endpoint as a model of lmms-eval.

Stage ``evaluation``. Sends the turns that a task makes of a query, with its images as data URLs, and takes
what comes back for the response; a response that the length limit cut is marked, as ``chat_model`` does. A
refusal, or a reply without text, is a response that says nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms

from vista.config import EndpointModel
from vista.engines.endpoint import Reply, Request, image_urls, png_url
from vista.engines.replies import Replies
from vista.errors import VistaError
from vista.evaluation.chat_model import OF_A_QUERY
from vista.lmms.asking import Decoding, split_images
from vista.lmms.running import network_to_answer
from vista.shown import in_one_line
from vista.verdicts import marked

LONGEST = 100  # characters of a name that the server gives itself


class EndpointChatModel(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """Answers of a model at an endpoint, from the cache where they are there."""

    is_simple = False
    batch_size = 1  # lmms-eval's; requests are sent side by side as the entry says

    def __init__(self, entry: EndpointModel, replies: Replies) -> None:
        """Ask as the entry of ``models.yaml`` says; ``replies`` has the cache and the budget."""
        super().__init__()
        self.entry = entry
        self.replies = replies
        self.received: list[Reply] = []  # by the last call
        self.cut: set[tuple[str, int]] = set()  # by task and place, as of ``chat_model``
        self._reading = threading.Lock()

    def clean(self) -> None:
        """There is nothing to free."""

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The response to every request, in order.

        Raises:
            BudgetSpent: nothing more may be sent.
            VistaError: a request cannot be made of a document, or the endpoint fails.
        """
        said = ", ".join(dict.fromkeys(request.args[4] for request in requests))
        with network_to_answer():
            self.received = list(self.replies.ask(requests, self._request, said))
        return [self._result(*each) for each in zip(requests, self.received, strict=True)]

    def _doc(self, request: Instance) -> Mapping[str, Any]:
        _, _, _, doc_id, task, split = request.args
        with self._reading:
            doc: Mapping[str, Any] = self.task_dict[task][split][doc_id]
        return doc

    def _request(self, request: Instance) -> Request:
        """What is sent for a request of lmms-eval."""
        _, to_messages, settings, doc_id, task, _ = request.args
        doc = self._doc(request)
        body: dict[str, Any] = {"model": self.entry.model, "messages": _messages(doc, to_messages(doc))}
        body[self.entry.limit] = Decoding.parse(task, settings).max_new_tokens
        if self.entry.greedy:
            body["temperature"] = 0
        return Request(doc.get("query_id", f"{task}/{doc_id}"), body)

    def _result(self, request: Instance, reply: Reply) -> GenerationResult:
        """The response in a reply, as lmms-eval's scorers are given it."""
        _, _, settings, place, task, _ = request.args
        text = "" if is_refused(reply) else reply.text or ""
        text, finished = Decoding.parse(task, settings).ended(text, reply.is_finished)
        if not finished:
            self.cut.add((task, place))
        counts = TokenCounts(
            input_tokens=reply.tokens("prompt") or 0, output_tokens=reply.tokens("completion") or 0
        )
        is_query = set(self._doc(request)) >= OF_A_QUERY
        return GenerationResult(marked(text, finished) if is_query else text, counts)

    def counts(self) -> dict[str, float]:
        """What a manifest counts of the replies of the last call: refusals, tokens, who answered.

        ``served/NAME`` are those of a model that calls itself so, ``served_other`` those of another name than
        was asked for.
        """
        found = Counter[str]()
        for reply in self.received:
            found["refused"] += is_refused(reply)
            found["prompt_tokens"] += reply.tokens("prompt") or 0
            found["without_usage"] += reply.tokens("completion") is None
            found["served_other"] += reply.model not in (None, self.entry.model)
            for what, name in (("served", reply.model), ("system_fingerprint", reply.system_fingerprint)):
                if name is not None:
                    found[f"{what}/{in_one_line(name[:LONGEST])}"] += 1
        return dict(found)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not offered: endpoints do not tell."""
        raise VistaError("a model at an endpoint only generates; choose a task of output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not offered: the suite's tasks have one round."""
        raise VistaError(
            "a model at an endpoint answers in one round; choose a task of output_type generate_until"
        )


def is_refused(reply: Reply) -> bool:
    """Whether the model, or a filter in front of it, would not answer."""
    return reply.finish_reason == "content_filter" or (reply.refusal is not None and not reply.text)


def _messages(doc: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A conversation as endpoints take it: a query's images as they were published."""
    plain, pictures = split_images(turns)
    urls = iter(image_urls(doc) if set(doc) >= OF_A_QUERY else map(png_url, pictures))
    messages: list[dict[str, Any]] = []
    for turn in plain:
        parts: list[dict[str, Any]] = [
            {"type": "text", "text": part["text"]}
            if part["type"] == "text"
            else {"type": "image_url", "image_url": {"url": next(urls)}}
            for part in turn["content"]
        ]
        # Servers take a system turn as a text more often than as a list of parts.
        is_system = turn["role"] == "system"
        content = "\n".join(part["text"] for part in parts) if is_system else parts
        messages.append({"role": turn["role"], "content": content})
    return messages
