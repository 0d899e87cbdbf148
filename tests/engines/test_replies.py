"""Replies that several jobs ask for, and those that earlier versions kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.endpoint import FakeEndpoint, serving
from vista.config import EndpointModel
from vista.engines.endpoint import Reply, Request
from vista.engines.replies import BudgetSpent, Replies, request_key
from vista.errors import VistaError

VARIABLE = "ENDPOINT_KEY_OF_THIS_TEST"
Make = Callable[..., Replies]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.setenv(VARIABLE, "sk-the-key-of-this-test")
    with serving() as fake:
        fake.script = lambda text, before: (200, f"answer to {text}", "stop")
        yield fake


@pytest.fixture
def replies(endpoint: FakeEndpoint, tmp_path: Path) -> Make:
    """Make what different jobs with one cache have."""

    def make(name: str = "x", **changes: Any) -> Replies:
        values = {"endpoint": endpoint.url, "model": "m", "cache": tmp_path / "cache", "max_requests": 20}
        entry = EndpointModel(kind="endpoint", api_key_variable=VARIABLE, **{**values, **changes})
        return Replies(entry, name, "model x", pause=0.001)

    return make


def request(number: int, attempt: int = 0) -> Request:
    content = [{"type": "text", "text": f"question {number}"}]
    return Request(f"q{number}", {"model": "m", "messages": [{"role": "user", "content": content}]}, attempt)


def texts(replies: Replies, numbers: range) -> list[str | None]:
    with replies:
        return [reply.text for reply in replies.ask(numbers, request, "asked")]


def test_jobs_with_one_cache_take_turns_and_pay_once(
    endpoint: FakeEndpoint, replies: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def script(text: str, before: int) -> tuple[int, str, str]:
        begun.set()
        assert go_on.wait(60)
        return 200, f"answer to {text}", "stop"

    endpoint.script = script
    jobs = [replies(max_requests=10, parallel=3) for _ in range(3)]
    found: list[list[str | None]] = []
    threads = [threading.Thread(target=lambda job=job: found.append(texts(job, range(10)))) for job in jobs]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert found == [[f"answer to question {number}" for number in range(10)]] * 3
    assert len(endpoint.requests) == 10
    assert sorted(job.ledger.now for job in jobs) == [0, 0, 10]


def test_what_was_answered_before_the_budget_was_spent_is_counted(
    endpoint: FakeEndpoint, replies: Make
) -> None:
    job = replies(max_requests=7, parallel=3)
    with pytest.raises(BudgetSpent):
        texts(job, range(10))
    assert (job.answered, len(endpoint.requests)) == (7, 7)
    assert len(texts(replies(max_requests=10), range(10))) == len(endpoint.requests) == 10


def keep_as_before(folder: Path, asked: Request, **said: Any) -> Path:
    """A reply as earlier versions kept it: neither its name nor its file says which endpoint."""
    file = folder / f"{request_key(asked)}.json"
    about = {"model": "m", "query_id": asked.query_id, "attempt": asked.attempt}
    file.write_text(json.dumps({**about, "text": "paid for", "finish_reason": "stop", "usage": None, **said}))
    return file


def test_a_reply_of_an_earlier_version_is_not_paid_for_twice_and_is_one_endpoints(
    endpoint: FakeEndpoint, replies: Make, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    file = keep_as_before(tmp_path / "cache", request(0))
    for _ in range(2):
        assert replies().reply(request(0)) == Reply("paid for", "stop", None), "who served it is not known"
    assert endpoint.requests == []
    assert json.loads(file.read_text())["endpoint"] == endpoint.url
    with serving() as other:
        other.script = lambda text, before: (200, "from elsewhere", "stop")
        with replies(endpoint=other.url) as elsewhere:
            assert elsewhere.reply(request(0)).text == "from elsewhere"
    assert replies().reply(request(0)).text == "paid for"


def test_keys_of_earlier_versions_are_what_they_were() -> None:
    asked = Request("q", {"model": "m", "messages": [], "temperature": 0.7, "max_tokens": 5}, attempt=2)
    assert request_key(asked) == "04290087cdad623f74f84cd3fac59c759c6113708b05281752884c75e460df65"


def test_a_ledger_that_cannot_be_written_is_one_error_before_anything_is_sent(
    endpoint: FakeEndpoint, replies: Make, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(VistaError, match="cache: not a folder; name another as `cache`"):
        texts(replies(), range(1))
    assert endpoint.requests == []
