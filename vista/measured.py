"""Which rollouts the testbed's direct measurements are made of: audit, prefixes, distributions and cases.

Pure functions of the suite. They choose among the files that their rules declare, so their code counts. The
measurements compare solutions with scenes, which only generated tasks have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vista import grid
from vista.config import Filter as FilterSettings
from vista.config import SeedMethod, SelfImprovement, Suite
from vista.errors import VistaError
from vista.grid import Run
from vista.paths import Paths
from vista.reads import Reads

if TYPE_CHECKING:  # tables do not depend on how resampling is done
    from vista.resamplers import ResampleSettings


@dataclass(frozen=True)
class ScoredPool:
    """Solutions of one policy that some method filters by a score, with all the scores they have."""

    policy: Run
    samples: str
    resamples: str | None
    scores: tuple[str, ...]  # names of attention score files
    gains: tuple[str, ...]  # names of information gain files
    filters: tuple[FilterSettings, ...]  # what the methods that read these solutions filter by

    @property
    def name(self) -> str:
        """The solutions' name, the same for every policy."""
        return self.resamples or self.samples

    def files(self) -> list[tuple[str, str]]:
        """Kind and name of every rollout file of the pool."""
        named = [("samples", self.samples), *([("resamples", self.resamples)] if self.resamples else [])]
        return [
            *named,
            *(("scores", name) for name in self.scores),
            *(("gains", name) for name in self.gains),
        ]


@dataclass(frozen=True)
class Resamples:
    """What one policy resampled in one way, and the samples that had failed."""

    policy: Run
    samples: str
    name: str
    settings: ResampleSettings

    def files(self) -> list[tuple[str, str]]:
        """Kind and name of both rollout files."""
        return [("samples", self.samples), ("resamples", self.name)]


def scored_pools(suite: Suite) -> list[ScoredPool]:
    """The pools of the grid, in its order, each once.

    Raises:
        VistaError: a task has no scenes, or no method filters by a score.
    """
    check_scenes(suite, "audit")
    found: dict[tuple[Run, str, str | None], ScoredPool] = {}
    for policy, method in _readers(suite):
        files = grid.rollout_files(method)
        if files.scores is None and files.gains is None:
            continue
        key = (policy, files.samples, files.resamples)
        old = found.get(key, ScoredPool(*key, (), (), ()))
        found[key] = ScoredPool(
            *key,
            _with(old.scores, files.scores),
            _with(old.gains, files.gains),
            _with(old.filters, method.filter),
        )
    if not found:
        raise VistaError(
            f"suite {suite.name!r}: no method filters by a score, so there is nothing to audit; "
            "add one, such as vista-sft"
        )
    return list(found.values())


def audited_filters(suite: Suite) -> list[FilterSettings]:
    """The filters whose cuts the audit repeats, each once."""
    filters: list[FilterSettings] = []
    for pool in scored_pools(suite):
        filters += [settings for settings in pool.filters if settings not in filters]
    return filters


def prefix_resamples(suite: Suite) -> list[Resamples]:
    """Every way in which the grid resamples, in its order, each once.

    Raises:
        VistaError: a task has no scenes, or no method resamples from prefixes.
    """
    check_scenes(suite, "prefix")
    found: dict[tuple[Run, str], Resamples] = {}
    for policy, method in _readers(suite):
        files = grid.rollout_files(method)
        if files.resamples is None:
            continue
        item = Resamples(policy, files.samples, files.resamples, method.resample)
        found.setdefault((policy, files.resamples), item)
    if not any(item.settings.kind == "prefix" for item in found.values()):
        raise VistaError(
            f"suite {suite.name!r}: no method resamples from prefixes, so there is nothing to measure; "
            "add one, such as vista-sft"
        )
    return list(found.values())


def input_files(suite: Suite, paths: Paths, items: Sequence[ScoredPool | Resamples]) -> list[Path]:
    """Train queries and rollout files that the measurements of ``items`` read, each once."""
    reads = Reads(suite, paths)
    files = {(item.policy, *file): None for item in items for file in item.files()}
    rollouts = [file for policy, kind, name in files for file in reads.shards(policy, kind, name)]
    return [*reads.trained_queries(), *rollouts]


def has_scenes(suite: Suite) -> bool:
    """Whether the tasks trained on say what their images show."""
    return not suite.tasks_without_scene


def audited_tasks(suite: Suite) -> list[str]:
    """The evaluated tasks whose queries say what their images show."""
    return [task for task in suite.evaluated_tasks if suite.tasks[task].has_scene]


def first_policies(suite: Suite) -> list[tuple[Run, SelfImprovement]]:
    """Every method that samples SFT-Seed in its first round, with each such policy."""
    return [
        (grid.policy(suite, run), method)
        for run in grid.runs(suite)
        if isinstance(method := suite.methods[run.method], SelfImprovement)
        and run.round == 1
        and isinstance(suite.methods[method.initial_policy], SeedMethod)
    ]


def first_pools(suite: Suite) -> list[ScoredPool]:
    """Of each SFT-Seed the solutions with attention scores that the most filters read."""
    methods = first_policies(suite)
    firsts = {policy for policy, _ in methods}
    widest: dict[Run, ScoredPool] = {}
    scored = any(grid.rollout_files(method).scores for _, method in methods)
    for pool in scored_pools(suite) if scored else []:
        known = widest.get(pool.policy)
        if pool.policy in firsts and pool.scores and (not known or len(pool.filters) > len(known.filters)):
            widest[pool.policy] = pool
    return list(widest.values())


def first_resamples(suite: Suite) -> list[Resamples]:
    """Of each SFT-Seed the first prefix resampling in the order of the suite."""
    methods = first_policies(suite)
    firsts = {policy for policy, _ in methods}
    found: dict[Run, Resamples] = {}
    prefixed = any(method.resample.kind == "prefix" for _, method in methods)
    for item in prefix_resamples(suite) if prefixed else []:
        if item.policy in firsts and item.settings.kind == "prefix":
            found.setdefault(item.policy, item)
    return list(found.values())


@dataclass(frozen=True)
class CasePool:
    """What the cases of one policy are chosen from: solutions with attention scores, and resamples."""

    policy: Run
    samples: str
    resamples: str
    scores: str

    def files(self) -> list[tuple[str, str]]:
        """Kind and name of every rollout file."""
        return [
            *(("samples", self.samples), ("resamples", self.resamples)),
            *(("critical", self.resamples), ("scores", self.scores)),
        ]


def case_pools(suite: Suite) -> list[CasePool]:
    """Of each model and train set the first SFT-Seed whose solutions are scored and resampled."""
    found: dict[tuple[str, str], CasePool] = {}
    for policy, method in first_policies(suite):
        files = grid.rollout_files(method)
        if method.resample.kind == "prefix" and files.resamples and files.scores:
            pool = CasePool(policy, files.samples, files.resamples, files.scores)
            found.setdefault((policy.model, policy.train_set), pool)
    return list(found.values())


def distribution_files(suite: Suite, paths: Paths) -> list[Path]:
    """Every file that the distributions are counted in, each once."""
    reads = Reads(suite, paths)
    found = dict.fromkeys(reads.trained_queries())
    for policy, method in first_policies(suite):
        read = reads.rollouts(policy, grid.rollout_files(method))
        found.update(dict.fromkeys([*read.samples, *read.scores]))
    if has_scenes(suite):
        for items in (first_pools(suite), first_resamples(suite)):
            found.update(dict.fromkeys(input_files(suite, paths, items)))
    return list(found)


def _readers(suite: Suite) -> list[tuple[Run, SelfImprovement]]:
    """Every method that reads rollouts, with each policy that it reads them of."""
    return [
        (grid.policy(suite, run), method)
        for run in grid.runs(suite)
        if isinstance(method := suite.methods[run.method], SelfImprovement)
    ]


def check_scenes(suite: Suite, table: str) -> None:
    """Refuse a table that compares rationales with the scene, where a task trained on has none.

    Raises:
        VistaError: names the tasks.
    """
    if without := suite.tasks_without_scene:
        raise VistaError(
            f"suite {suite.name!r}: tables/{table}.csv needs to know what the images show, and the tasks "
            f"{without} do not say; it is for suites that train on generated tasks (kind: grid) only"
        )


def _with(known: tuple, item: object) -> tuple:  # type: ignore[type-arg]
    """``known`` and, if it is something new, ``item``."""
    return known if item is None or item in known else (*known, item)
