"""What a run says of its jobs, kept short: how far it is, which jobs a dry run would start, what a job reads.

Snakemake names every input of every job and every reason to run it, which for a table is a line of hundreds
of thousands of characters.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from vista.manifest import SUFFIX
from vista.paths import TABLE_SUFFIXES

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
    """What has run, what is left, and how long that may take. Asked by one thread while another tells.

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
        self.names: dict[int, str] = {}  # of jobs, to be shown
        self.done = 0
        self.total = 0
        self.start: float | None = None

    def planned(self, stats: Mapping[str, int]) -> None:
        """The jobs of each rule that are to run."""
        self.left = Counter({rule: count for rule, count in stats.items() if rule != "total"})
        self.total = self.left.total()

    def described(self, job: int, rule: str, wildcards: Mapping[str, str]) -> None:
        """What a job is."""
        self.rules[job] = rule
        self.names[job] = named(rule, wildcards)

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
        self.done += 1
        if (begun := self.begun.pop(job, None)) is not None:
            self.lasted[rule].append(self.clock() - begun)

    def failed(self, job: int) -> None:
        """A job has ended otherwise; it may be started again."""
        self.begun.pop(job, None)

    def seconds_left(self) -> float | None:
        """How long the rest may take; nothing before a job has ended."""
        lasted = {rule: [*seconds] for rule, seconds in self.lasted.copy().items()}
        ended = [seconds for rule in lasted.values() for seconds in rule]
        if not ended or self.start is None:
            return None
        now = self.clock()
        running = [
            (self.rules.get(job, "") if isinstance(job, int) else "", now - begun)
            for job, begun in self.begun.copy().items()
        ]
        each = {rule: sum(seconds) / len(seconds) for rule, seconds in lasted.items()}
        other = sum(ended) / len(ended)
        work = sum(max(0, count) * each.get(rule, other) for rule, count in self.left.items())
        work -= sum(min(seconds, each.get(rule, other)) for rule, seconds in running)
        busy = sum(ended) + sum(seconds for _, seconds in running)
        return work * (now - self.start) / busy if busy else None

    def at_work(self) -> list[tuple[str, float]]:
        """The jobs that run, and for how many seconds each has; the longest first."""
        now = self.clock()
        running = [
            (self.names.get(job, "") if isinstance(job, int) else "a group of jobs", now - begun)
            for job, begun in self.begun.copy().items()
        ]
        return sorted(running, key=lambda each: -each[1])

    def line(self, done: int, total: int) -> str:
        """How far the run is, in one line."""
        said = f"{done} of {total} jobs done ({100 * done // max(total, 1)} %), {len(self.begun)} at work"
        seconds = self.seconds_left() if done < total else None
        return said if seconds is None else f"{said}, about {duration(seconds)} left"

    def summary(self, made: Sequence[str], config: str | None = "") -> str:
        """What a run that ended well says last: what is there now, and what to type next.

        Args:
            made: The files that were asked for and are there.
            config: The words of a command line that name the suite's config, none for the default; ``None``
                where more would have to be said.
        """
        seconds = 0.0 if self.start is None else self.clock() - self.start
        files = list(dict.fromkeys(_read_best(file) for file in made if not file.endswith(SUFFIX)))
        jobs = "1 job" if self.done == 1 else f"{self.done} jobs"
        said = [f"{jobs} in {duration(seconds)}{': ' if files else '.'}{', '.join(shortened(files))}"]
        folders = {PurePath(file).parent.name for file in files}
        main = [file for file in files if PurePath(file).parts[-2:] == ("tables", "main.md")]
        for file in main:
            said.append(
                f"where a number comes from:  vista show {PurePath(file).with_suffix('.csv')} ROW COLUMN"
            )
        if config is not None and main and "figures" not in folders:
            said.append(f"every table and figure:     snakemake --cores all tables figures{config}")
        if config is not None and "figures" in folders:
            said.append(f"all of it in one page:      snakemake --report report.html tables figures{config}")
        return "\n".join(said)

    def brief(self, rule: str, wildcards: Mapping[str, str]) -> str:
        """A job of a dry run in one line; nothing after the first ones of its rule."""
        self.named[rule] += 1
        if self.named[rule] > SHOWN:
            return ""
        said = named(rule, wildcards)
        rest = self.left[rule] - SHOWN
        if self.named[rule] < SHOWN or rest <= 0:
            return said
        return f"{said}\n{rule} … ({rest} more; --printshellcmds shows all)"


def _read_best(file: str) -> str:
    """Of the files of a table the Markdown, of those of a figure the PNG."""
    path = PurePath(file)
    if path.parent.name == "tables" and path.suffix[1:] in TABLE_SUFFIXES:
        return str(path.with_suffix(".md"))
    return str(path.with_suffix(".png")) if path.parent.name == "figures" and path.suffix == ".pdf" else file


def named(rule: str, wildcards: Mapping[str, str]) -> str:
    """A job by its rule and what it is for."""
    return f"{rule} {' '.join(map(str, wildcards.values()))}".rstrip()


def duration(seconds: float) -> str:
    """A length of time in two units."""
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    if whole.days:
        return f"{whole.days} d {hours} h"
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
