"""The one place that may touch the network on its own: a teacher at an OpenAI-compatible endpoint.

Stage ``tasks``; imported by ``vista.tasks.teacher`` when the first request has to be sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import openai
import tenacity

from vista.config import TeacherRationales
from vista.errors import VistaError

SENDS = 6  # how often one request is sent at most, while the server is out of reach or overloaded
TRANSIENT = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)


class Endpoint:
    """Sends chat completions, again after a pause while the failure may pass."""

    def __init__(self, settings: TeacherRationales, pause: float) -> None:
        """Connect to nothing yet.

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
                something else than a chat completion.
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
            return f"{where} failed {SENDS} times in a row ({said}); see that it is up, then run again"
        return (
            f"{where} refuses the request ({said}); check endpoint, model and max_new_tokens of "
            f"seed_rationales, and the key in {self.settings.api_key_variable}"
        )
