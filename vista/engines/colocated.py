"""vLLM colocated with a training: a process of its own environment that samples as the weights change.

Training and vLLM need different versions of torch, and so cannot share a process. ``VllmProcess``, in the
training, starts the ``vista`` of vLLM's environment (``engine.command``) on the same GPU, with one end of a
pipe. Before each step the training writes its weights to a folder and hands over its name with the requests;
``serve``, at the other end, has vLLM read the weights anew and answers. It ends with the pipe, or with what
started it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vista import planned
from vista.chat import Prompt
from vista.config import VllmEngineSettings
from vista.devices import visible
from vista.engines.base import Request, Sample
from vista.engines.checkpoints import load_outline
from vista.engines.vllm import VllmEngine
from vista.errors import VistaError
from vista.versions import SAMPLERS
from vista.warm import end_with_parent

SECONDS = 60.0  # for a command to say its version, or for a process that has closed its pipe to end
# What a launcher tells its processes; vLLM would take itself for one of them.
LAUNCHED = re.compile(r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)")
LAUNCHED_PREFIXES = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_")
READY = "ready"
Shrink = Callable[[Sequence[Image.Image]], list[Image.Image]]


@dataclass(frozen=True)
class Start:
    """What vLLM is started with. Paths are text: another Python could not unpickle them.

    Attributes:
        folder: The checkpoint that the training starts from: its processor, its type, its tokens.
        settings: The suite's engine.
        trusted: Whether code that the checkpoint brings may run.
        longest: Tokens of the longest prompt that will come, with its response.
        images: Most images in a prompt that will come.
        plan: The plan of ``snakemake`` that says which code may run; ``None`` by hand.
    """

    folder: str
    settings: VllmEngineSettings
    trusted: bool
    longest: int
    images: int
    plan: str | None = None


@dataclass(frozen=True)
class Asked:
    """Requests to the policy whose weights are in a folder."""

    weights: str
    requests: Sequence[Request]
    temperature: float
    max_new_tokens: int


@dataclass(frozen=True)
class Refusal:
    """The text of a ``VistaError``, in place of samples."""

    text: str


def version(command: str) -> dict[str, str]:
    """The version of vLLM in the environment of a ``vista`` command, by the name of its package.

    Raises:
        VistaError: there is no such command, or no vLLM in its environment.
    """
    remedy = "make vLLM's environment (docs/engines.md), or take engine: {kind: hf}"
    try:
        said = subprocess.run(  # noqa: S603 - named by the user's own config
            [command, "--version"], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise VistaError(f"engine.command: {command} --version fails ({error}); {remedy}") from error
    if said.returncode:
        last = (said.stderr.strip().splitlines() or [f"status {said.returncode}"])[-1]
        raise VistaError(f"engine.command: {command} --version fails ({last}); {remedy}")
    lines = dict(line.split(" ", 1) for line in said.stdout.splitlines() if " " in line)
    found = {name: lines[name] for name in SAMPLERS if name in lines}
    if not found:
        raise VistaError(f"engine.command: {command} has no vLLM in its environment; {remedy}")
    return found


def plan_of_this() -> str | None:
    """The plan that this process is held to, for ``Start``."""
    plan = planned.held_to()
    return None if plan is None else str(plan.absolute())


class VllmProcess:
    """vLLM in a process of its own, for a training.

    Args:
        start: What it is started with.
        device: Of the training; vLLM gets the same GPU.
    """

    def __init__(self, start: Start, device: torch.device) -> None:
        self.command = start.settings.command
        own, other = Pipe()
        environment = {
            name: value
            for name, value in os.environ.items()
            if not LAUNCHED.fullmatch(name) and not name.startswith(LAUNCHED_PREFIXES)
        }
        if device.type == "cuda":
            environment["CUDA_VISIBLE_DEVICES"] = visible_name(device)
        with other:
            self._process = subprocess.Popen(  # noqa: S603 - named by the user's own config
                [self.command, "colocate", str(other.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )
        self._connection = own
        self._hear()  # that it will end with this process
        self._say(start)

    def sample(
        self,
        weights: Path,
        requests: Sequence[Request],
        temperature: float,
        max_new_tokens: int,
        shrink: Shrink,
    ) -> list[list[Sample]]:
        """Continue every request once per seed, as ``base.Engine`` does.

        Args:
            weights: Folder with the weights, as a checkpoint has them.
            requests: Prompts with prefixes and seeds.
            temperature: 0 is greedy: the seeds are ignored.
            max_new_tokens: Limit of the response, prefix included.
            shrink: What the processor does to pictures that are too large.

        Raises:
            VistaError: as ``vllm.VllmEngine.sample``; or the process has ended.
        """
        sent = [replace(request, prompt=portable(request.prompt, shrink)) for request in requests]
        self._say(Asked(str(weights), sent, temperature, max_new_tokens))
        answer = self._hear()
        if isinstance(answer, Refusal):
            raise VistaError(answer.text)
        found: list[list[Sample]] = answer
        return found

    def _say(self, message: Start | Asked) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._ended() from error

    def _hear(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def _ended(self) -> VistaError:
        self._connection.close()
        try:
            status = self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        return VistaError(
            f"engine: vllm: {self.command} colocate, which samples for this training, has ended ({how}); see "
            "its messages above. Killed by SIGKILL, it is likely to have lacked main memory: raise "
            "resources.training.memory_gb"
        )

    def close(self) -> None:
        """End the process, whatever it is doing; it keeps nothing."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


def portable(prompt: Prompt, shrink: Shrink) -> Prompt:
    """A prompt with what vLLM takes: tokens, text and pictures, but no features of another processor."""
    pictures = shrink(prompt.open_images())
    return replace(prompt, token_features={}, image_features={}, open_images=partial(list, pictures))


def visible_name(device: torch.device) -> str:
    """What ``CUDA_VISIBLE_DEVICES`` calls the GPU of this process."""
    number, names = device.index or 0, visible(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    return names[number] if names else str(number)


def serve(descriptor: int) -> None:
    """Answer at one end of a pipe until the other one is closed. For ``vista colocate``."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, which ends this process
    os.set_inheritable(descriptor, False)  # or what vLLM starts would keep the pipe open
    # Errors of the pipe: the training has ended.
    with Connection(descriptor) as connection, suppress(EOFError, ConnectionError):
        connection.send(READY)  # fails if it ended before this process was tied to it
        engine = _told(started, connection.recv())
        while True:
            asked: Asked = connection.recv()
            connection.send(engine if isinstance(engine, Refusal) else _told(answered, engine, asked))


def _told(work: Callable[..., Any], *arguments: Any) -> Any:
    """What ``work`` gives, or why it refuses."""
    try:
        return work(*arguments)
    except VistaError as error:
        return Refusal(str(error))


def started(start: Start) -> VllmEngine:
    """The engine, which starts vLLM at the first request."""
    if start.plan is not None:
        planned.hold_to(Path(start.plan))
    folder = Path(start.folder)
    checkpoint = load_outline(folder, trust_remote_code=start.trusted)
    engine = VllmEngine(folder, checkpoint, start.settings, trust_remote_code=start.trusted, colocated=True)
    engine.expect_at_most(start.longest, start.images)
    return engine


def answered(engine: VllmEngine, asked: Asked) -> list[list[Sample]]:
    """The samples of the weights that are handed over."""
    engine.renew(Path(asked.weights))
    return engine.sample(asked.requests, asked.temperature, asked.max_new_tokens)
