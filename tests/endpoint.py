"""An OpenAI-compatible endpoint on this machine that answers as a script says, and keeps every request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# From the request's text and how often it came before, to (status, text, finish_reason), or to a status and
# the bytes or the JSON of a whole answer.
Answer = tuple[int, str | None, str] | tuple[int, bytes | dict[str, Any]]
Script = Callable[[str, int], Answer]


def completion(
    text: Any, reason: str = "stop", message: dict[str, Any] | None = None, **said: Any
) -> dict[str, Any]:
    """A chat completion, as an endpoint sends it."""
    turn = {"role": "assistant", "content": text, **(message or {})}
    choice = {"index": 0, "message": turn, "finish_reason": reason}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], **said}


class FakeEndpoint:
    """Chat completions as a script says; keeps every request."""

    def __init__(self) -> None:
        self.script: Script = lambda text, before: (200, "no idea", "stop")
        self.models: Any = {"object": "list", "data": [{"id": "m", "object": "model"}]}
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not isinstance(fake.models, int):
                    self.answer(200, json.dumps(fake.models).encode())
                else:
                    self.answer(fake.models, b'{"error": {"message": "no"}}')

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake.lock:
                    text = body["messages"][-1]["content"][-1]["text"]
                    before = sum(text == asked for asked in fake.asked)
                    fake.requests.append(body)
                    fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, said, *reason = fake.script(text, before)
                if self.path != "/v1/chat/completions":
                    status = 404
                if reason and status == 200:
                    said = completion(said, reason[0])
                elif reason:
                    said = {"error": {"message": said}}
                self.answer(status, said if isinstance(said, bytes) else json.dumps(said).encode())

            def answer(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if 300 <= status < 400:
                    self.send_header("Location", "/v1/elsewhere")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket.listen(256)  # as many as are sent at a time
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def asked(self) -> list[str]:
        return [body["messages"][-1]["content"][-1]["text"] for body in self.requests]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"


@contextmanager
def serving() -> Iterator[FakeEndpoint]:
    """An endpoint that is up within the block."""
    fake = FakeEndpoint()
    fake.thread.start()
    try:
        yield fake
    finally:
        fake.server.shutdown()
        fake.thread.join()
        fake.server.server_close()
