"""The connection to an OpenAI-compatible endpoint: chat completions, and images as they are sent.

Does not import torch. ``vista.engines.replies`` keeps what comes back, within a budget.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import openai
import tenacity
from PIL import Image

from vista.errors import VistaError
from vista.images import open_images, plain_format
from vista.settings import ADDRESS

ACCEPTED = {"PNG", "JPEG", "WEBP", "GIF"}  # formats that such endpoints take; others are sent as PNG
SENDS = 6  # how often one request is sent at most, while the server is out of reach or overloaded
TRANSIENT = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)
SECRET = 16  # characters from which on a key is long enough not to be a word of a reply
SAID = 300  # characters of a server's message that are told


class Service(Protocol):
    """What settings say about an endpoint."""

    @property
    def endpoint(self) -> str | None:
        """Base URL; if none, the one in the file ``address`` of the cache."""

    @property
    def model(self) -> str:
        """Name of the model there."""

    @property
    def cache(self) -> Path:
        """Folder of the replies."""

    @property
    def max_requests(self) -> int:
        """Requests that may be sent, over all starts."""

    @property
    def api_key_variable(self) -> str:
        """Environment variable with the key."""

    @property
    def timeout(self) -> float:
        """Seconds to wait for a reply."""

    @property
    def parallel(self) -> int:
        """Requests sent at the same time."""


@dataclass(frozen=True)
class Request:
    """A chat completion to be asked for."""

    query_id: str
    body: Mapping[str, Any]
    attempt: int = 0


@dataclass(frozen=True)
class Reply:
    """What came back; ``model`` and ``system_fingerprint`` are what the server says that it is."""

    text: str | None
    finish_reason: str | None
    usage: dict[str, Any] | None
    model: str | None = None
    system_fingerprint: str | None = None
    refusal: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the length limit left it whole."""
        return self.finish_reason != "length"

    def tokens(self, kind: str) -> int | None:
        """Tokens of the ``prompt`` or the ``completion``, if the server counts them."""
        counted = (self.usage or {}).get(f"{kind}_tokens")
        return counted if isinstance(counted, int) and not isinstance(counted, bool) else None


def address_file(cache: Path) -> Path:
    """Where a server that was started for a cache says what its address is."""
    return cache / "address"


def address(service: Service, entry: str) -> str:
    """The base URL of an endpoint.

    Raises:
        VistaError: the config names none, and no server has handed over its own.
    """
    if service.endpoint is not None:
        return service.endpoint
    file = address_file(service.cache)
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        found = ""
    if not re.match(ADDRESS, found):
        raise VistaError(
            f"{entry}.endpoint is left out, and {file} holds no address: no server is up; start one "
            "(docs/paper.md) and run again when it has written the file, or set the endpoint"
        )
    return found


def image_urls(query: Mapping[str, Any]) -> list[str]:
    """The query's images as data URLs: the published bytes, or a PNG of what every stage shows a model.

    A PNG if the bytes are of another format than such endpoints take, or may be seen differently there: on
    their side, with black in the place of what is transparent, or as a film.

    Raises:
        VistaError: an image is missing or cannot be decoded.
    """
    urls = []
    for image, picture in zip(query["images"], open_images(query), strict=True):
        kind = plain_format(image["bytes"])
        urls.append(data_url(image["bytes"], kind) if kind in ACCEPTED else png_url(picture))
    return urls


def png_url(picture: Image.Image) -> str:
    """An image as a PNG in a data URL."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return data_url(buffer.getvalue(), "PNG")


def data_url(data: bytes, kind: str | None) -> str:
    """An encoded image of a format as a data URL."""
    return f"data:image/{str(kind).lower()};base64,{base64.b64encode(data).decode()}"


class Endpoint:
    """Sends chat completions; after a failure that may pass, sends them again after a pause."""

    def __init__(self, service: Service, entry: str, pause: float) -> None:
        """Does not connect yet.

        Args:
            service: Where the endpoint is, and the name of the variable with its key.
            entry: The part of the config that says so, for errors.
            pause: Seconds of the first pause, at most; later ones double, up to a minute.

        Raises:
            VistaError: the environment variable with the key, or the file with the address, is missing.
        """
        self.url = address(service, entry)
        key = os.environ.get(service.api_key_variable, "")
        if not key:
            raise VistaError(
                f"{entry}.api_key_variable: the environment variable {service.api_key_variable} "
                f"is not set, so {self.url} cannot be asked; export the key in it (a server "
                "that needs none takes any value)"
            )
        self.key = key
        self.service = service
        self.entry = entry
        # What is asked is for this address: a redirection elsewhere is an error.
        self.client = openai.OpenAI(
            api_key=key,
            base_url=self.url,
            timeout=service.timeout,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
        self.retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TRANSIENT),
            wait=tenacity.wait_random_exponential(multiplier=pause, max=60),
            stop=tenacity.stop_after_attempt(SENDS),
            reraise=True,
        )

    def send(self, request: Request, before: Callable[[], None]) -> Reply:
        """The reply to a request.

        Args:
            request: The request.
            before: Called each time before it is sent; may raise.

        Raises:
            VistaError: the endpoint refuses the request, stays out of reach, or replies with
                something other than a chat completion.
        """
        try:
            received = self.retrying.copy()(self._send_once, dict(request.body), before)
        except openai.APIError as error:
            raise VistaError(f"query {request.query_id!r}: {self._explained(error)}") from error
        text = self._without_key(received) if len(self.key) >= SECRET else received
        reply = parsed(text)
        if reply is None:
            raise VistaError(
                f"query {request.query_id!r}: {self.url} did not reply with a chat completion "
                f"({_start(self._without_key(received))}); check {self.entry}.endpoint (it usually ends in "
                "/v1)"
            )
        return reply

    def _send_once(self, body: dict[str, Any], before: Callable[[], None]) -> str:
        before()
        # As text: what a server says may be of another shape than the library takes for granted.
        response = self.client.chat.completions.with_raw_response.create(**body)
        return str(response.http_response.text)

    def models(self) -> list[str]:
        """The names of the models there; asking for them costs nothing.

        Raises:
            openai.APIError: the endpoint does not say.
        """
        response = self.client.with_options(timeout=min(self.service.timeout, 20.0)).models.with_raw_response
        try:
            listed = json.loads(response.list().http_response.text)["data"]
            return [each["id"] for each in listed if isinstance(each["id"], str)]
        except (ValueError, KeyError, TypeError):
            return []

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "…")

    def _explained(self, error: openai.APIError) -> str:
        """What went wrong and how to fix it, without the key, should a server repeat it."""
        said = _start(self._without_key(str(error)))
        where = f"{self.url} (model {self.service.model!r})"
        if isinstance(error, TRANSIENT):
            return f"{where} failed {SENDS} times in a row ({said}); make sure it is up, then run again"
        return (
            f"{where} refuses the request ({said}); check endpoint, model and length limit of {self.entry}, "
            f"and the key in {self.service.api_key_variable}"
        )


def parsed(text: str) -> Reply | None:
    """A chat completion as JSON; ``None`` if it is none."""
    try:
        said = json.loads(text)
        choice = said["choices"][0]
        message = choice["message"]
        found = {
            "text": _text(message.get("content")),
            "finish_reason": _text(choice.get("finish_reason")),
            "model": _text(said.get("model")),
            "system_fingerprint": _text(said.get("system_fingerprint")),
            "refusal": _text(message.get("refusal")),
        }
        usage = said.get("usage")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return Reply(**found, usage=usage if isinstance(usage, dict) else None)


def _text(value: Any) -> str | None:
    """A text of a reply, with half characters replaced, which no file can hold; or nothing.

    Raises:
        TypeError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _start(text: str) -> str:
    """The beginning of what a server says, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= SAID else line[:SAID] + "…"
