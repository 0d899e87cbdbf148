"""What a sampling engine takes and gives: token ids in, token ids out.

An engine does not know about answers, verdicts or methods. ``hf.HfEngine`` needs only transformers. An
engine's module is named after its kind and imported only if a suite asks for it, so that samples depend
only on the code of their own engine.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vista.chat import Prompt
from vista.config import EngineSettings

if TYPE_CHECKING:
    from vista.engines.checkpoints import Checkpoint


@dataclass(frozen=True)
class Request:
    """One prompt to continue once for each seed.

    Every seed names its own random stream, so what is sampled does not depend on which
    requests share a batch.
    """

    prompt: Prompt
    seeds: Sequence[int]
    prefix: Sequence[int] = field(default=())  # response tokens that are given, not sampled


@dataclass(frozen=True)
class Sample:
    """One continuation, without the prefix and without the end token."""

    token_ids: list[int]
    logprob: float  # sum over sampled tokens, the end token too, at temperature 1
    finished: bool  # the model ended it; False: cut at the length limit


class Engine(Protocol):
    """A sampler."""

    def sample(
        self, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        """Continue every request once per seed.

        Args:
            requests: Prompts with prefixes and seeds.
            temperature: 0 is greedy: the seeds are ignored.
            max_new_tokens: Limit of the response, prefix included.

        Returns:
            For each request, one sample per seed, in order.
        """
        ...


def choose_engine(
    settings: EngineSettings,
    checkpoint: Checkpoint,
    folder: Path,
    *,
    trust_remote_code: bool = False,
    progress: str | None = None,
) -> Engine:
    """The engine that a suite's ``engine`` asks for.

    Args:
        settings: The suite's ``engine``.
        checkpoint: The policy. The ``vllm`` engine frees its weights, if it has any, when it first
            samples: read everything that you need from the model before that.
        folder: Where the checkpoint is.
        trust_remote_code: Run code that the checkpoint brings.
        progress: What the progress bar counts; without it there is none.

    Raises:
        VistaError: vLLM is asked for but not installed.
    """
    module = importlib.import_module(f"vista.engines.{settings.kind}")
    engine: Engine = module.make_engine(settings, checkpoint, folder, trust_remote_code, progress)
    return engine
