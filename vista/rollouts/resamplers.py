"""What a resampler is: it decides what failed solutions are tried again from. Stage ``rollouts``.

Part of ``vista resample``. A resampler names its ``Attempt``s (which queries, behind which prompts,
from which prefixes, with which random streams); sampling, verdicts and files are the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

import pyarrow as pa

from vista.chat import Prompt
from vista.config import RationalizeResample, Sampling, Wording
from vista.engines.base import Engine, Request
from vista.engines.checkpoints import Checkpoint
from vista.grid import Run
from vista.records import Row, Source
from vista.rollouts.policy import encode_queries
from vista.rollouts.solutions import solution_row
from vista.seeding import derive_seed
from vista.wording import check_wording, hinted

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Job:
    """What a resampler works with."""

    checkpoint: Checkpoint  # the policy
    engine: Engine  # samples from it
    policy: Run
    sampling: Sampling  # of the samples that failed
    batch_size: int  # responses per forward pass, where the policy reads
    matched: Sequence[Row] = ()  # rows of the resampling that this one is matched to, if it is
    wording: Wording = field(default_factory=lambda: Wording())  # the suite's


@dataclass(frozen=True)
class Attempt:
    """One more try at a query: a prompt with what is given of the response."""

    query: Row
    prompt: Prompt
    seeds: Sequence[int]  # one solution for each
    prefix: Sequence[int] = ()  # response tokens that are given, not sampled
    parent: int | None = None  # the failed sample that is mended; None: the query as a whole
    first: int = 0  # number of the first solution


class Resampler(ABC, Generic[Settings]):
    """Tries a policy's failed solutions again.

    Args:
        job: Policy, engine and the settings of the samples.
        settings: Those of the method's ``resample``.
    """

    source: ClassVar[Source]  # what its rows are called, in their column ``source``
    reads_model: ClassVar[bool] = False  # whether it needs the weights beside the engine that samples
    templates: ClassVar[tuple[str, ...]] = ()  # of the suite's wording, that its prompts are made from
    asides: ClassVar[dict[str, pa.Schema]] = {}  # further kinds of rollout files that it writes

    def __init__(self, job: Job, settings: Settings) -> None:
        self.job = job
        self.settings = settings
        check_wording(job.checkpoint.processor.tokenizer, job.wording, self.templates, job.policy.model)
        self.counts: dict[str, float] = {}  # for the manifest, beyond what is counted for all
        self.aside_rows: dict[str, list[Row]] = {name: [] for name in self.asides}

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

    def seed(self, query_id: str, index: int, parent: int | None = None) -> int:
        """The random stream of one solution, of this source alone.

        Keyed by the failed sample that it mends, if there is one; not by settings, so that the first
        solutions of a larger J are those of a smaller one.
        """
        mended = [] if parent is None else [parent]
        return derive_seed(self.source, self.job.policy.id, query_id, *mended, index)

    def sample(self, attempts: Sequence[Attempt]) -> list[Row]:
        """The verified solutions of every attempt, in order."""
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


class RationalizeResampler(Resampler[RationalizeResample]):
    """STaR's rationalisation: queries without a correct sample again, with the answer as a hint.

    The rows hold the response alone, so what is trained on has no hint.
    """

    source = "rationalize"
    templates = ("hint",)

    @property
    def temperature(self) -> float:
        """Its own: rationalisations may be greedy where samples are not."""
        return self.settings.temperature

    def run(self, queries: Sequence[Row], samples: Sequence[Row]) -> list[Row]:
        """J rationales of every unsolved query."""
        solved = {row["query_id"] for row in samples if row["correct"]}
        failed = [query for query in queries if query["query_id"] not in solved]
        limit = self.job.sampling.max_new_tokens
        asked = [hinted(query, self.job.wording) for query in failed]
        prompts = encode_queries(self.job.checkpoint, asked, limit)
        return self.sample(
            [
                Attempt(query, prompt, [self.seed(query["query_id"], j) for j in range(self.settings.j)])
                for query, prompt in zip(failed, prompts, strict=True)
            ]
        )
