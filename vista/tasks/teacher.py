"""Rationales from a teacher: asked for, verified, kept on disk, never paid for twice.

Stage ``tasks``, for ``seed_rationales: teacher``. Each reply is a file of the cache, written
before it is used; so a job that was killed, or ran out of its budget, continues where it was.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import openai
import tenacity
from tqdm import tqdm

from vista.answers import extract, solves
from vista.config import TeacherRationales
from vista.errors import VistaError
from vista.images import open_images, plain_format
from vista.records import Row, write_json

# What the teacher is told beyond the query. The answer's form is what vista.answers looks for.
REQUEST = (
    "Solve this step by step. In each step, say what you see in the image or what you work out from "
    "it, and claim nothing that the image does not show. Then give the final answer, and nothing "
    "else, on a last line of this form:\nanswer: <the final answer>"
)
ACCEPTED = {"PNG", "JPEG", "WEBP", "GIF"}  # formats that such endpoints take; others are sent as PNG

Reply = dict[str, Any]


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
    return rows, {"without_rationale": len(rows) - len(found), "requests": teacher.requests}


class BudgetSpent(Exception):
    """As many requests were sent as ``max_requests`` allows."""


class Ledger:
    """The requests sent for one task, one per line, in a file that outlives the job."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.lock = threading.Lock()
        self.before = len(path.read_text().splitlines()) if path.exists() else 0
        self.now = 0  # requests of this start

    def spend(self, key: str) -> None:
        """Write down a request that is about to be sent.

        Raises:
            BudgetSpent: it would be one too many.
        """
        with self.lock:
            if self.before + self.now >= self.limit:
                raise BudgetSpent
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {key}\n")
            self.now += 1


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
        self.pause = pause
        self.ledger = Ledger(settings.cache / f"{task}.sent", settings.max_requests)
        self.connecting = threading.Lock()

    @property
    def requests(self) -> int:
        """Requests sent since the job started; replies from the cache do not count."""
        return self.ledger.now

    @cached_property
    def endpoint(self) -> Endpoint:
        """The connection; made when the first request is sent, so that a full cache needs no key."""
        return Endpoint(self.settings, self.pause)

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
        for attempt in range(self.settings.attempts):
            unsolved = [query for query in queries if query["query_id"] not in found]
            try:
                self._ask(unsolved, attempt, found)
            except BudgetSpent as error:
                raise VistaError(self._spent(len(found), len(queries))) from error
        return found

    def _ask(self, queries: Sequence[Row], attempt: int, found: dict[str, str]) -> None:
        """Ask each query once, some at a time, and add what is right to ``found``."""
        shown = partial(tqdm, desc=f"{self.task}: attempt {attempt + 1}", unit=" queries", mininterval=5)
        failed = threading.Event()

        def ask_one(query: Row) -> Reply:
            if failed.is_set():  # never seen: the failure itself comes first
                raise CancelledError
            try:
                return self.reply(query, attempt)
            except BaseException:
                failed.set()
                raise

        pool = ThreadPoolExecutor(self.settings.parallel)
        try:
            replies = pool.map(ask_one, queries)
            for query, reply in zip(queries, shown(replies, total=len(queries)), strict=True):
                finished = reply["finish_reason"] != "length"
                if finished and reply["text"] and solves(query, extract(reply["text"])):
                    found[query["query_id"]] = reply["text"].strip()
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure: what has not been sent stays unsent

    def _spent(self, solved: int, queries: int) -> str:
        return (
            f"task {self.task!r}: the budget of {self.settings.max_requests} requests is spent "
            f"({self.ledger.path} lists them); {solved} of {queries} queries have a right rationale so "
            f"far. Every reply is kept in {self.settings.cache} and will not be asked for again: raise "
            "seed_rationales.max_requests, or lower attempts or the task's sizes.seed, and run again"
        )

    def reply(self, query: Row, attempt: int) -> Reply:
        """One reply, from the cache or from the endpoint: ``text``, ``finish_reason``, ``usage``."""
        body = request_body(query, self.settings)
        key = request_key(body, attempt)
        path = self.settings.cache / f"{key}.json"
        if path.exists():
            return read_reply(path)
        with self.connecting:
            endpoint = self.endpoint
        reply = endpoint.send(body, lambda: self.ledger.spend(key))
        about = {"model": self.settings.model, "query_id": query["query_id"], "attempt": attempt}
        write_json(path, {**about, **reply})
        return reply


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


def request_key(body: Mapping[str, Any], attempt: int) -> str:
    """SHA-256 of all that a reply depends on: model, messages, sampling and the attempt."""
    text = json.dumps({**body, "attempt": attempt}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def image_urls(query: Mapping[str, Any]) -> list[str]:
    """The query's images as data URLs: the published bytes, or a PNG of what every stage shows a model.

    A PNG if the bytes are of another format than such endpoints take, or may be seen differently there: on
    their side, with black in the place of what is transparent, or as a film.
    """
    urls = []
    for image, picture in zip(query["images"], open_images(query), strict=True):
        data = image["bytes"]
        kind = plain_format(data)
        if kind not in ACCEPTED:
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            data, kind = buffer.getvalue(), "PNG"
        urls.append(f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}")
    return urls


def read_reply(path: Path) -> Reply:
    """A reply of the cache.

    Raises:
        VistaError: the file has been damaged.
    """
    try:
        reply: Reply = json.loads(path.read_text(encoding="utf-8"))
        return {name: reply[name] for name in ("text", "finish_reason", "usage")}
    except (ValueError, KeyError, TypeError) as error:
        raise VistaError(f"{path}: not a cached reply ({error}); delete it to ask again") from error


SENDS = 6  # how often one request is sent at most, while the server is out of reach or overloaded
TRANSIENT = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)


class Endpoint:
    """Sends chat completions; after a failure that may pass, sends them again after a pause."""

    def __init__(self, settings: TeacherRationales, pause: float) -> None:
        """Does not connect yet.

        Args:
            settings: Where the endpoint is, and the name of the variable with its key.
            pause: Seconds of the first pause, at most; later ones double, up to a minute.

        Raises:
            VistaError: the environment variable with the key is not set.
        """
        key = os.environ.get(settings.api_key_variable, "")
        if not key:
            raise VistaError(
                f"seed_rationales.api_key_variable: the environment variable {settings.api_key_variable} "
                f"is not set, so {settings.endpoint} cannot be asked; export the key in it (a server "
                "that needs none takes any value)"
            )
        self.key = key
        self.settings = settings
        self.client = openai.OpenAI(
            api_key=key, base_url=settings.endpoint, timeout=settings.timeout, max_retries=0
        )
        self.retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TRANSIENT),
            wait=tenacity.wait_random_exponential(multiplier=pause, max=60),
            stop=tenacity.stop_after_attempt(SENDS),
            reraise=True,
        )

    def send(self, body: dict[str, Any], before: Callable[[], None]) -> dict[str, Any]:
        """The reply to a request: ``text``, ``finish_reason`` and ``usage``.

        Args:
            body: The request.
            before: Called each time before it is sent; may raise.

        Raises:
            VistaError: the endpoint refuses the request, stays out of reach, or replies with
                something other than a chat completion.
        """
        try:
            completion = self.retrying.copy()(self._send_once, body, before)
        except openai.APIError as error:
            raise VistaError(self._explained(error)) from error
        if not getattr(completion, "choices", None):
            raise VistaError(
                f"{self.settings.endpoint} did not reply with a chat completion; check "
                "seed_rationales.endpoint (it usually ends in /v1)"
            )
        choice = completion.choices[0]
        usage = completion.usage.model_dump(mode="json") if completion.usage else None
        return {"text": choice.message.content, "finish_reason": choice.finish_reason, "usage": usage}

    def _send_once(self, body: dict[str, Any], before: Callable[[], None]) -> Any:
        before()
        return self.client.chat.completions.create(**body)

    def _explained(self, error: openai.APIError) -> str:
        """What went wrong and how to fix it, without the key, should a server repeat it."""
        said = str(error).replace(self.key, "…")
        where = f"{self.settings.endpoint} (model {self.settings.model!r})"
        if isinstance(error, TRANSIENT):
            return f"{where} failed {SENDS} times in a row ({said}); make sure it is up, then run again"
        return (
            f"{where} refuses the request ({said}); check endpoint, model and max_new_tokens of "
            f"seed_rationales, and the key in {self.settings.api_key_variable}"
        )
