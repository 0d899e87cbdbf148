"""Which checkpoints may lose their weights (``keep_checkpoints``), and which have to be trained again.

Weights are read by jobs of the suite: those that sample, measure or evaluate, and the trainings that go on
from them. Once all that these make is there, and none of them is about to run, a checkpoint that the suite
does not keep is released.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from vista import grid
from vista.config import Suite
from vista.dag import Dag
from vista.manifest import read_manifest
from vista.paths import manifest_of
from vista.planning.jobs import answering_rule, rollout_files
from vista.released import is_released, release, weights

# The rules whose jobs read the weights of the checkpoints among their inputs, not just the manifests; so does
# the one that answers test queries.
READERS = frozenset({"sample", "resample", "score", "gains", "cases", "train"})


class Releases:
    """The checkpoints of a results folder.

    Args:
        suite: The suite with all its blocks: what a later one reads is still wanted.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.results = suite.results
        self.dag = Dag(suite)
        self.answers = answering_rule(suite)

    @cached_property
    def readers(self) -> dict[Path, list[Path]]:
        """By checkpoint that is trained here, everything that is made from its weights."""
        reads, found = self.dag.reads, defaultdict[Path, list[Path]](list)
        for file in rollout_files(self.suite):
            made = reads.shards(file.policy, file.kind, file.name)
            found[reads.checkpoint(file.policy)] += made
        for case in map(Path, self.dag.cases()):
            policy = grid.Run.parse("/".join(case.relative_to(self.results / "rollouts").parts[:-1]))
            found[reads.checkpoint(policy)].append(case)
        for run in grid.evaluations(self.suite):
            if grid.is_trained(self.suite, run):
                found[reads.start(run)].append(self.dag.paths.trained(run.id))
            if run.model in self.suite.models and not grid.is_graded(self.suite, run):
                found[reads.checkpoint(run)] += self._answers(run)
        trained = {self.dag.paths.trained(run.id) for run in grid.runs(self.suite)}
        return {checkpoint: made for checkpoint, made in found.items() if checkpoint in trained}

    def _answers(self, run: grid.Run) -> list[Path]:
        """What is made of a run's weights by asking it the test queries."""
        return self.dag.reads.responses(run) or [self.dag.paths.predictions(run.id)]

    def reads_weights(self, rule: str) -> bool:
        """Whether the jobs of a rule read the weights of the checkpoints among their inputs."""
        return rule in READERS or rule == self.answers

    @cached_property
    def kept(self) -> set[Path]:
        """The checkpoints that the suite keeps."""
        found = [run for run in grid.runs(self.suite) if grid.keeps_checkpoint(self.suite, run)]
        return {self.dag.paths.trained(run.id) for run in found}

    def is_wanted(self, checkpoint: Path) -> bool:
        """Whether the suite keeps a checkpoint, or something that is made from its weights is not there."""
        if checkpoint in self.kept or checkpoint not in self.readers:
            return True
        return not all(_is_there(made) for made in self.readers[checkpoint])

    def sweep(self, busy: Iterable[str], among: Iterable[str] | None = None) -> list[str]:
        """Release every checkpoint that is no longer wanted.

        Args:
            busy: Inputs of jobs that read weights and are running or about to run. They are gone through only
                for a checkpoint that nothing else keeps: they are as many as the suite has jobs.
            among: Inputs to look at; default: every checkpoint of the suite.

        Returns:
            A line about each.
        """
        listed = self.readers if among is None else [Path(file).parent for file in among]
        reading: set[str] | None = None
        said = []
        for checkpoint in listed:
            if self.is_wanted(checkpoint) or not manifest_of(checkpoint).is_file():
                continue
            reading = {os.path.dirname(file) for file in busy} if reading is None else reading
            if str(checkpoint) in reading:
                continue
            names = read_manifest(checkpoint).checksums
            if any(os.path.lexists(checkpoint / name) for name in weights(names)):
                freed = release(self.results, checkpoint, names)
                said.append(f"{checkpoint}: released, {freed / 1e9:.3g} GB (keep_checkpoints)")
        return said

    def needed(self) -> list[str]:
        """The runs whose released checkpoints the suite has come to need."""
        if not (self.results / ".released").is_dir():
            return []
        gone = {checkpoint for checkpoint in self.readers if is_released(self.results, checkpoint)}
        found = {each for each in gone if not all(_is_there(made) for made in self.readers[each])}
        runs = {self.dag.paths.trained(run.id): run for run in grid.runs(self.suite)}
        while more := {self.dag.reads.start(runs[each]) for each in found} & gone - found:
            found |= more  # training again goes on from them
        return [run.id for folder, run in runs.items() if folder in found]

    def again(self, read: Iterable[str]) -> list[str]:
        """The manifests, among inputs of jobs that read weights, of checkpoints that have lost theirs."""
        if not (self.results / ".released").is_dir():
            return []
        named = [Path(file) for file in read if manifest_of(Path(file).parent) == Path(file)]
        trained = self.results / "training"
        return [
            str(file)
            for file in dict.fromkeys(named)
            if file.is_relative_to(trained) and is_released(self.results, file.parent)
        ]


def _is_there(made: Path) -> bool:
    return manifest_of(made).is_file() and made.exists()
