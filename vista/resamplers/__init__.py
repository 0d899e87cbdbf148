"""Resamplers: how failed solutions are tried again. A part of stage ``rollouts``, for ``vista resample``.

A resampler is one module here, or in your own package (docs/adding.md): its settings, a subclass of
``ResampleSettings`` with a ``kind``, and the class that does it, a ``Resampler`` of these settings. It makes
``Attempt``s: which queries are asked, with which prompts, from which prefixes, with which random streams.
Sampling, verdicts, files and manifests come with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from vista.errors import VistaError
from vista.records import Row, Source
from vista.seeding import derive_seed
from vista.settings import Strict

if TYPE_CHECKING:  # the config reads settings, and is free of torch
    from vista.chat import Prompt
    from vista.config import Sampling, Wording
    from vista.engines.base import Engine
    from vista.engines.checkpoints import Checkpoint
    from vista.grid import Run


class ResampleSettings(Strict):
    """What every resampler says about itself besides its settings."""

    templates: ClassVar[tuple[str, ...]] = ()  # of the suite's wording, that its prompts are made from
    needs_gold: ClassVar[bool] = False  # asks for gold rationales, which only generated tasks have
    reads_model: ClassVar[bool] = False  # needs the weights, besides the engine that samples
    cuts: ClassVar[bool] = False  # continues failed solutions from a prefix of their tokens
    finds_critical: ClassVar[bool] = False  # looks for critical tokens, and writes `critical` files
    kind: str

    @property
    def slug(self) -> str:
        """The name of these settings in paths. It must spell out every setting that changes the rows."""
        name = type(self).__name__
        raise VistaError(
            f"{type(self).__module__}.{name} has no property `slug`; add one that spells out every setting, "
            "since it names the files"
        )

    @property
    def matched(self) -> ResampleSettings | None:
        """The resampling of the same samples that this one is matched to, and whose rows it reads."""
        return None

    @property
    def tries(self) -> int:
        """Solutions for each failed one: the field ``j``, if there is one. ``vista plan`` counts with it."""
        return int(getattr(self, "j", 1))


@dataclass(frozen=True)
class Job:
    """What a resampler works on."""

    checkpoint: Checkpoint  # the policy
    engine: Engine  # samples from it
    policy: Run
    sampling: Sampling  # of the samples that failed
    batch_size: int  # responses per forward pass, where the policy reads
    wording: Wording  # the suite's
    matched: Sequence[Row] = ()  # rows of the resampling that this one is matched to, if it is


@dataclass(frozen=True)
class Attempt:
    """One more try at a query: a prompt with what is given of the response."""

    query: Row
    prompt: Prompt
    seeds: Sequence[int]  # one solution for each
    prefix: Sequence[int] = ()  # response tokens that are given, not sampled
    parent: int | None = None  # the failed sample that is tried again; None: the query as a whole
    first: int = 0  # number of the first solution


Settings = TypeVar("Settings", bound=ResampleSettings)


class Resampler(ABC, Generic[Settings]):
    """Tries a policy's failed solutions again.

    Args:
        job: Policy, engine and the settings of the samples.
        settings: Those of the method's ``resample``.
    """

    source: ClassVar[Source]  # what its rows are called, in their column ``source``

    def __init__(self, job: Job, settings: Settings) -> None:
        self.job = job
        self.settings = settings
        self.counts: dict[str, float] = {}  # for the manifest, beyond what is counted for all
        self.critical: list[Row] = []  # critical tokens (``records.CRITICAL``), if it finds them

    @abstractmethod
    def run(self, queries: Sequence[Row], samples: Sequence[Row]) -> list[Row]:
        """Solutions (``records.ROLLOUT``), correct or not, in the order of the samples' queries.

        Args:
            queries: The shard's queries.
            samples: The policy's samples of them, failed ones and others.
        """

    @property
    def temperature(self) -> float:
        """Sampling temperature: that of the samples."""
        return self.job.sampling.temperature

    def encode(self, queries: Sequence[Row]) -> list[Prompt]:
        """The prompt of each query, with room for a sampled response.

        Raises:
            VistaError: one does not fit the context; names the query.
        """
        return self.job.checkpoint.encode(queries, self.job.sampling.max_new_tokens)

    def seed(self, query_id: str, index: int, parent: int | None = None) -> int:
        """The random stream of one solution, only for this source.

        Keyed by the failed sample that is tried again, if there is one; not by settings, so that the
        first solutions of a larger J are those of a smaller one.
        """
        tried = [] if parent is None else [parent]
        return derive_seed(self.source, self.job.policy.id, query_id, *tried, index)

    def sample(self, attempts: Sequence[Attempt]) -> list[Row]:
        """The verified solutions of every attempt, in order."""
        from vista.engines.base import Request
        from vista.verdicts import solution_row

        requests = [Request(attempt.prompt, attempt.seeds, attempt.prefix) for attempt in attempts]
        limit = self.job.sampling.max_new_tokens
        results = self.job.engine.sample(requests, self.temperature, limit)
        return [
            solution_row(
                self.job.checkpoint.processor,
                attempt.query,
                sample,
                source=self.source,
                index=attempt.first + number,
                seed=attempt.seeds[number],
                parent=attempt.parent,
                prefix=attempt.prefix,
            )
            for attempt, made in zip(attempts, results, strict=True)
            for number, sample in enumerate(made)
        ]
