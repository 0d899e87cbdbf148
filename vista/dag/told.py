"""What a run says of its jobs, kept short: how far it is, which jobs a dry run would start, what a job reads.

Snakemake names every input of every job and every reason to run it, which for a table is a line of hundreds
of thousands of characters.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

FILES = 4  # of a job's inputs or outputs that are named
SHOWN = 3  # jobs of each rule that a dry run names
REASON = 400  # characters of a reason


def shortened(files: Sequence[str]) -> list[str]:
    """The first files, and how many there are besides."""
    rest = len(files) - FILES
    return [*files[:FILES], f"… ({rest} more)"] if rest > 0 else list(files)


def short_job(said: Mapping[str, Any]) -> dict[str, Any]:
    """What Snakemake says of a job, without lists that nobody reads."""
    found = {**said}
    for name in ("input", "output"):
        if isinstance(said.get(name), list | tuple):
            found[name] = shortened(said[name])
    reason = said.get("reason")
    if isinstance(reason, str) and len(reason) > REASON:
        found["reason"] = f"{reason[:REASON]} …"
    return found


class Progress:
    """What has run, what is left, and how long that may take.

    The rest of each rule's jobs is taken to last as long, each, as those that have ended, and as many to run
    at a time as did so far. Where a scheduler has a queue, waiting there counts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.left: Counter[str] = Counter()  # jobs by rule
        self.rules: dict[int, str] = {}  # by job
        self.begun: dict[int | str, float] = {}  # when each job, or group, that runs was started
        self.lasted: dict[str, list[float]] = defaultdict(list)  # seconds of each job that has ended, by rule
        self.named: Counter[str] = Counter()  # jobs by rule, of which a dry run has said something
        self.start: float | None = None

    def planned(self, stats: Mapping[str, int]) -> None:
        """The jobs of each rule that are to run."""
        self.left = Counter({rule: count for rule, count in stats.items() if rule != "total"})

    def started(self, jobs: Iterable[int | str]) -> None:
        """Jobs, or groups of them, were started, or handed to a scheduler."""
        now = self.clock()
        self.start = now if self.start is None else self.start
        self.begun.update(dict.fromkeys(jobs, now))

    def grouped(self, names: Iterable[str], jobs: Iterable[int]) -> None:
        """A group that was started is these jobs; it goes by one of some names."""
        for name in names:
            if (begun := self.begun.pop(name, None)) is not None:
                self.begun.update(dict.fromkeys(jobs, begun))

    def finished(self, job: int) -> None:
        """A job has ended well."""
        rule = self.rules.get(job, "")
        self.left[rule] -= 1
        if (begun := self.begun.pop(job, None)) is not None:
            self.lasted[rule].append(self.clock() - begun)

    def failed(self, job: int) -> None:
        """A job has ended otherwise; it may be started again."""
        self.begun.pop(job, None)

    def seconds_left(self) -> float | None:
        """How long the rest may take; nothing before a job has ended."""
        ended = [seconds for rule in self.lasted.values() for seconds in rule]
        if not ended or self.start is None:
            return None
        now = self.clock()
        running = [
            (self.rules.get(job, "") if isinstance(job, int) else "", now - begun)
            for job, begun in self.begun.items()
        ]
        each = {rule: sum(lasted) / len(lasted) for rule, lasted in self.lasted.items()}
        other = sum(ended) / len(ended)
        work = sum(max(0, count) * each.get(rule, other) for rule, count in self.left.items())
        work -= sum(min(seconds, each.get(rule, other)) for rule, seconds in running)
        busy = sum(ended) + sum(seconds for _, seconds in running)
        return work * (now - self.start) / busy if busy else None

    def line(self, done: int, total: int) -> str:
        """How far the run is, in one line."""
        said = f"{done} of {total} jobs done ({100 * done // max(total, 1)} %), {len(self.begun)} at work"
        seconds = self.seconds_left() if done < total else None
        return said if seconds is None else f"{said}, about {duration(seconds)} left"

    def brief(self, rule: str, wildcards: Mapping[str, str]) -> str:
        """A job of a dry run in one line; nothing after the first ones of its rule."""
        self.named[rule] += 1
        if self.named[rule] > SHOWN:
            return ""
        said = f"{rule} {' '.join(map(str, wildcards.values()))}".rstrip()
        rest = self.left[rule] - SHOWN
        if self.named[rule] < SHOWN or rest <= 0:
            return said
        return f"{said}\n{rule} … ({rest} more; --printshellcmds shows all)"


def duration(seconds: float) -> str:
    """A length of time in two units."""
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    if whole.days:
        return f"{whole.days} d {hours} h"
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
