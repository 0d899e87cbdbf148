"""Serve a suite's teacher with vLLM on this machine, and hand its address to the suite's jobs.

    python workflow/scripts/serve_teacher.py config/paper.yaml [words for vllm serve]

As soon as the server answers, its address is in the file ``address`` of the teacher's ``cache``, where the
jobs look for it; when it ends, the file is gone. Ctrl-C and SIGTERM (``scancel``) end both.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from vista import devices
from vista.config import TeacherRationales, load_suite
from vista.engines.endpoint import address_file
from vista.errors import VistaError, told
from vista.records import write_text

PAUSE = 2.0  # seconds between two looks whether the server answers


def teacher_of(suite_file: Path) -> tuple[TeacherRationales, str]:
    """The teacher of a suite, and the ``vllm`` command that serves it.

    Raises:
        VistaError: the suite has none, or says where it is.
    """
    suite = load_suite(suite_file)
    settings = suite.seed_rationales
    if not isinstance(settings, TeacherRationales):
        raise VistaError(f"{suite_file}: seed_rationales is of kind {settings.kind}: no teacher to serve")
    if settings.endpoint is not None:
        raise VistaError(
            f"{suite_file}: seed_rationales.endpoint is {settings.endpoint}, so jobs would not look for the "
            "address of this server; leave it out"
        )
    beside = suite.engine.command if suite.engine.kind == "vllm" else "vista"
    return settings, str(Path(beside).with_name("vllm")) if "/" in beside else "vllm"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def answers(port: int, key: str) -> bool:
    """Whether the server is up and takes the key."""
    url, header = f"http://127.0.0.1:{port}/v1/models", {"Authorization": f"Bearer {key}"}
    try:
        reply = httpx.get(url, headers=header, timeout=10, trust_env=False)  # through no proxy
    except httpx.HTTPError:
        return False
    return reply.status_code == httpx.codes.OK


def serve(settings: TeacherRationales, vllm: str, words: list[str]) -> int:
    """Serve until the server ends, or this process is told to; the server's status.

    Raises:
        VistaError: the key is not set, or the command cannot be started.
    """
    key = os.environ.get(settings.api_key_variable, "")
    if not key:
        raise VistaError(
            f"the environment variable {settings.api_key_variable} is not set; export any text in it: "
            "whoever reaches this machine and knows it may use the server"
        )
    port, gpus = free_port(), len(devices.of_machine())
    command = [
        *(vllm, "serve", settings.model, "--port", str(port), "--tensor-parallel-size", str(max(1, gpus))),
        # Else the checkpoint's own defaults count: a repetition penalty, and for some sizes top_k 1.
        *("--generation-config", "vllm", *words),
    ]
    print(" ".join(command), file=sys.stderr, flush=True)
    try:
        # The key in the environment: every user of the machine may read a command line.
        server = subprocess.Popen(command, env={**os.environ, "VLLM_API_KEY": key})  # noqa: S603
    except OSError as error:
        raise VistaError(
            f"{vllm}: cannot be started ({error}); make vllm, or correct engine.command"
        ) from error
    file, address = address_file(settings.cache), f"http://{socket.gethostname()}:{port}/v1"
    try:
        while server.poll() is None and not answers(port, key):
            time.sleep(PAUSE)
        if server.poll() is None:
            write_text(file, f"{address}\n")
            print(f"{file}: {address}", file=sys.stderr, flush=True)
        return server.wait()
    finally:
        if file.is_file() and file.read_text(encoding="utf-8").strip() == address:
            file.unlink()
        server.terminate()
        server.wait()


def end(number: int, _: object) -> None:
    """End as after an error, so that the server is ended and the address withdrawn."""
    sys.exit(128 + number)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with told():
        status = serve(*teacher_of(Path(sys.argv[1])), sys.argv[2:])
    sys.exit(status)
