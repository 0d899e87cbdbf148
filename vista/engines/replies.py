"""Replies of an OpenAI-compatible endpoint: asked for within a budget, kept on disk, never paid for twice.

Shared by stage ``tasks``, where a teacher writes rationales, and stage ``evaluation``, where a model that is
only reached there answers. Does not import torch. Each reply is a file of the cache, written before it is
used; so a job that was killed, or ran out of its budget, continues where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

from tqdm import tqdm

from vista.engines.endpoint import Endpoint, Reply, Request, Service
from vista.errors import VistaError, writing
from vista.records import write_json

Asked = TypeVar("Asked")


class BudgetSpent(Exception):
    """As many requests were sent as ``max_requests`` allows."""


class Ledger:
    """The requests sent in one name, one per line, in a file that outlives the job.

    The job that asks holds a lock on it, so that another one with the same cache waits, and then finds the
    replies there.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.lock = threading.Lock()
        self.now = 0  # requests of this start
        self._file: IO[str] | None = None
        self._before = 0

    def open(self) -> None:
        """Take the file's lock and count what was sent before; once.

        Raises:
            VistaError: the folder cannot be written.
        """
        with self.lock, writing(self.path):
            if self._file is None:
                if self.path.parent.exists() and not self.path.parent.is_dir():
                    raise VistaError(f"{self.path.parent}: not a folder; name another as `cache`")
                self.path.parent.mkdir(parents=True, exist_ok=True)
                file = self.path.open("a+", encoding="utf-8")
                with suppress(OSError):  # a file system without locks
                    _wait_for(file, self.path)
                self._before = sent(self.path) - self.now
                self._file = file

    def close(self) -> None:
        """Let others ask."""
        with self.lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def spend(self, key: str) -> None:
        """Write down a request that is about to be sent.

        Raises:
            BudgetSpent: it would be one too many.
            VistaError: the file cannot be written.
        """
        self.open()
        with self.lock, writing(self.path):
            if self._file is None or self._before + self.now >= self.limit:
                raise BudgetSpent
            self._file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {key}\n")
            self._file.flush()
            self.now += 1


def _wait_for(file: IO[str], path: Path) -> None:
    """Take a file's lock; say so if another job has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{path}: another job asks with this cache; waiting for it", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)


def sent(ledger: Path) -> int:
    """Requests that were sent in a name."""
    return len(ledger.read_text(encoding="utf-8").splitlines()) if ledger.exists() else 0


def ledger_file(service: Service, name: str) -> Path:
    """Where the requests that are sent in a name are written down."""
    return service.cache / f"{name}.sent"


class Replies:
    """The replies of one endpoint in one name: from the cache, or asked for."""

    def __init__(self, service: Service, name: str, entry: str, pause: float = 1.0) -> None:
        """Continue with the cache as an earlier start left it.

        Args:
            service: The endpoint, its cache and its budget.
            name: In which the budget is spent.
            entry: The part of the config that says all this, for errors.
            pause: Seconds of the first pause before a failed request is sent again, at most.
        """
        self.service = service
        self.entry = entry
        self.pause = pause
        self.ledger = Ledger(ledger_file(service, name), service.max_requests)
        self.answered = 0  # since the last call of ``ask``
        self.from_cache = 0  # replies of this start that were not asked for
        self._lock = threading.Lock()

    def __enter__(self) -> Replies:
        """Until the block is left, no other job asks in this name."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let others ask."""
        self.ledger.close()

    @cached_property
    def endpoint(self) -> Endpoint:
        """The connection; made when the first request is sent, so that a full cache needs no key."""
        return Endpoint(self.service, self.entry, self.pause)

    @property
    def counts(self) -> dict[str, float]:
        """What a manifest counts: requests of this start and of all, and replies that none was sent for."""
        return {
            "requests": self.ledger.now,
            "sent": sent(self.ledger.path),
            "from_cache": self.from_cache,
        }

    def ask(self, asked: Iterable[Asked], request: Callable[[Asked], Request], said: str) -> Iterator[Reply]:
        """The replies, in order, some asked for at a time; after a failure, what was not sent stays unsent.

        Args:
            asked: What is asked.
            request: Makes the request of each.
            said: What the progress bar says.

        Raises:
            BudgetSpent: nothing more may be sent.
            VistaError: the endpoint fails; names the query.
        """
        listed = list(asked)
        self.answered = 0
        failed = threading.Event()

        def ask_one(each: Asked) -> Reply:
            if failed.is_set():  # never seen: the failure itself comes first
                raise CancelledError
            try:
                reply = self.reply(request(each))
            except BaseException:
                failed.set()
                raise
            with self._lock:
                self.answered += 1
            return reply

        pool = ThreadPoolExecutor(self.service.parallel)
        try:
            replies = pool.map(ask_one, listed)
            yield from tqdm(replies, desc=said, unit=" queries", mininterval=5, total=len(listed))
        finally:
            pool.shutdown(cancel_futures=True)

    def reply(self, request: Request) -> Reply:
        """One reply.

        Raises:
            BudgetSpent: it is not in the cache, and nothing more may be sent.
            VistaError: the endpoint fails, or the reply in the cache has been damaged.
        """
        if (known := self._kept(request)) is not None:
            return known
        with self._lock:
            endpoint = self.endpoint
        self.ledger.open()
        if (known := self._kept(request)) is not None:  # from the job that was waited for
            return known
        key = request_key(request, self.service)
        reply = endpoint.send(request, lambda: self.ledger.spend(key))
        about = {"asked": self.service.model, "query_id": request.query_id, "attempt": request.attempt}
        write_json(self._file(key), {**about, "endpoint": endpoint.url.rstrip("/"), **asdict(reply)})
        return reply

    def _kept(self, request: Request) -> Reply | None:
        """The reply in the cache, which is counted."""
        if (known := self.known(request)) is not None:
            with self._lock:
                self.from_cache += 1
        return known

    def known(self, request: Request) -> Reply | None:
        """The reply in the cache, if there is one."""
        if (own := self._file(request_key(request, self.service))).exists():
            return read_reply(own)[0]
        # Once a key did not say which endpoint: such a reply is that of the first that asks for it again.
        if not (old := self._file(request_key(request))).exists():
            return None
        reply, said = read_reply(old)
        if "endpoint" not in said:
            write_json(old, {**said, "endpoint": base_of(self.service)})
        elif said["endpoint"] != base_of(self.service):
            return None
        return reply

    def _file(self, key: str) -> Path:
        return self.service.cache / f"{key}.json"


def base_of(service: Service) -> str | None:
    """The address of an endpoint, written in one way; none of a server of one's own, wherever it runs."""
    return None if service.endpoint is None else service.endpoint.rstrip("/")


def request_key(request: Request, service: Service | None = None) -> str:
    """SHA-256 of all that a reply depends on: endpoint, model, messages, sampling and the attempt.

    Without a ``service``, as keys were when they did not say which endpoint.
    """
    where = {} if service is None else {"endpoint": base_of(service)}
    text = json.dumps(
        {**request.body, "attempt": request.attempt, **where}, sort_keys=True, ensure_ascii=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def read_reply(path: Path) -> tuple[Reply, dict[str, Any]]:
    """A reply of the cache, and all that its file says.

    Raises:
        VistaError: the file has been damaged.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        found = {name: said[name] for name in ("text", "finish_reason", "usage")}
        # The files of earlier versions name the model that was asked as ``model``.
        later = [each.name for each in fields(Reply)[len(found) :]] if "asked" in said else []
        return Reply(**found, **{name: said[name] for name in later}), said
    except (ValueError, KeyError, TypeError) as error:
        raise VistaError(f"{path}: not a cached reply ({error}); delete it to ask again") from error
