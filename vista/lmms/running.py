"""How lmms-eval is run: quietly, and without a network or second attempts, which would hide things."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock


class NetworkUse(BaseException):
    """Code that should work without a network wants to use it; no handler of ``Exception`` hides that."""


def quiet() -> None:
    """Send lmms-eval's log to stderr, warnings and errors only; it had claimed stdout."""
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level="WARNING", format="{level} {name}: {message}")


@contextlib.contextmanager
def single_attempts() -> Iterator[None]:
    """Have lmms-eval load and score once: of its five attempts, the first error is the telling one."""
    import datasets
    from lmms_eval.api.task import ConfigurableTask

    patched = [
        mock.patch.object(ConfigurableTask, name, getattr(method, "__wrapped__", method))
        for name in ("download", "process_results")
        if (method := getattr(ConfigurableTask, name))
    ]
    with contextlib.ExitStack() as stack:
        for each in patched:
            stack.enter_context(each)
        # Whatever it prints is not this program's output.
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if datasets.are_progress_bars_disabled():
            stack.callback(datasets.disable_progress_bars)
        else:
            stack.callback(datasets.enable_progress_bars)
        datasets.disable_progress_bars()
        yield


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Drop what is printed: aggregates of single responses print a whole table each."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def placeholder_keys() -> Iterator[None]:
    """Set the keys that some modules ask for when they are imported, whether or not a task asks a judge."""
    missing = {name: "none" for name in ("OPENAI_API_KEY", "JUDGE_API_KEY") if not os.environ.get(name)}
    with mock.patch.dict(os.environ, missing):
        yield


@contextlib.contextmanager
def from_cache_only() -> Iterator[None]:
    """Keep the hub's libraries, which are imported already, from looking for newer files."""
    from datasets import config
    from huggingface_hub import constants

    with (
        mock.patch.object(config, "HF_HUB_OFFLINE", True),
        mock.patch.object(constants, "HF_HUB_OFFLINE", True),
    ):
        yield


@contextlib.contextmanager
def no_network() -> Iterator[None]:
    """Raise ``NetworkUse`` where somebody looks for another machine, without waiting for it."""

    def refuse(*args: Any, **options: Any) -> Any:
        raise NetworkUse(str(args[0]) if args else "a network address")

    _REFUSED.append((socket.getaddrinfo, socket.create_connection))
    try:
        with _reaching_by(refuse, refuse):
            yield
    finally:
        _REFUSED.pop()


@contextlib.contextmanager
def network_to_answer() -> Iterator[None]:
    """Inside ``no_network``, let a model reach its endpoint: only the code of the task has to do without."""
    with _reaching_by(*_REFUSED[0]) if _REFUSED else contextlib.nullcontext():
        yield


_REFUSED: list[tuple[Any, Any]] = []  # what looks for machines, outside of each ``no_network``


@contextlib.contextmanager
def _reaching_by(resolve: Any, connect: Any) -> Iterator[None]:
    with (
        mock.patch.object(socket, "getaddrinfo", resolve),
        mock.patch.object(socket, "create_connection", connect),
    ):
        yield
