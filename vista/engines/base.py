"""What a sampling engine takes and gives: token ids in, token ids out.

An engine knows nothing of answers, verdicts or methods. ``hf.HfEngine`` is the one that
needs nothing but transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vista.chat import Prompt


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
