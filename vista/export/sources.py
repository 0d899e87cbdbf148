"""What is exported: a run's training set or checkpoint, found, checked against its manifest, and read.

For ``vista export``.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vista import grid
from vista.config import OnlineMethod, SelectMethod, Suite, training_section
from vista.damage import sha256
from vista.errors import VistaError
from vista.grid import Run, run_named
from vista.manifest import Manifest, check_count, check_inputs, inputs_of, read_manifest
from vista.paths import Paths, manifest_of
from vista.reads import Reads
from vista.records import EXAMPLE, PAIR, PREDICTION, QUERY, Row, read_rows
from vista.suites import RESOLVED, named_suite

RUN_PARTS = 5  # of a run's folder below its stage


def find_run(named: str, suite_file: Path | None, configfile: Path | None) -> tuple[Suite, Run]:
    """The suite and the run that a user names.

    Args:
        named: ``model/train_set/method/seedS/roundR``; or the run's folder in the results, which holds the
            suite's name as well.
        suite_file: A suite file, or the results folder or the resolved suite in it.
        configfile: A suite file, instead.

    Raises:
        VistaError: no suite is named, or two are; or it has no such run.
    """
    if suite_file is None and configfile is None:
        path = Path(os.path.normpath(named))
        inside = [each for each in path.parents if (each / RESOLVED).is_file()]
        if not inside:
            raise VistaError(
                f"{named}: of which suite? Add --suite RESULTS/suite.json or --configfile config/….yaml, or "
                "name the run's folder, such as results/training/MODEL/TRAIN_SET/METHOD/seed0/round1"
            )
        suite_file = inside[0]
        named = "/".join(path.relative_to(inside[0]).parts[1 : 1 + RUN_PARTS])
    suite, written = named_suite(suite_file, configfile)
    if suite_file is not None and written is None:  # the results may have been moved
        results = suite_file if suite_file.is_dir() else suite_file.parent
        suite = suite.model_copy(update={"results": results})
    return suite, run_named(suite, named)


def command_for(suite: Suite, output: Path) -> str:
    """What makes an output that is not there yet."""
    return f"`snakemake --cores all {output} --configfile …`, with the file of suite {suite.name!r}"


@dataclass(frozen=True)
class Source:
    """A run that has been trained.

    Attributes:
        suite: Its suite.
        run: The run.
    """

    suite: Suite
    run: Run

    @cached_property
    def paths(self) -> Paths:
        """Where its outputs are."""
        return Paths(self.suite.results)

    @property
    def section(self) -> str:
        """What it is trained on: ``seed``, ``sft``, ``dpo`` or ``grpo``."""
        return str(training_section(self.suite.methods[self.run.method]))

    @property
    def pairs(self) -> bool:
        """Whether it is trained on preference pairs."""
        return self.section == "dpo"

    def check_trained(self) -> None:
        """Refuse a run that trains nothing.

        Raises:
            VistaError: it is the base model, or decodes another run's checkpoint.
        """
        method = self.suite.methods[self.run.method]
        if isinstance(method, SelectMethod):
            other = grid.weights(self.suite, self.run).id
            raise VistaError(f"{self.run.id}: decodes the checkpoint of another run; export {other}")
        if not grid.is_trained(self.suite, self.run):
            raise VistaError(
                f"{self.run.id}: method {self.run.method!r} trains nothing, so there is nothing of it"
            )

    def made(self, output: Path) -> Manifest:
        """The manifest of an output that is whole, and what its job wrote.

        Raises:
            VistaError: it has not been made, was damaged since, or the run had nothing to train on.
        """
        file = manifest_of(output)
        if not file.exists():
            target = output if output.suffix else file
            raise VistaError(
                f"{self.run.id}: not made yet: {file} does not exist; make it with "
                f"{command_for(self.suite, target)}"
            )
        manifest = read_manifest(output)
        if manifest.status != "complete":
            raise VistaError(
                f"{self.run.id}: status {manifest.status}: its policy had no right solution to train on, so "
                "there is nothing to export"
            )
        check_inputs([output])
        return manifest


@dataclass(frozen=True)
class TrainingSet(Source):
    """The training set of a run."""

    @cached_property
    def file(self) -> Path:
        """The parquet file."""
        return self.paths.training_set(self.run.id)

    @cached_property
    def manifest(self) -> Manifest:
        """The file's manifest, once it has been checked."""
        self.check_trained()
        if isinstance(self.suite.methods[self.run.method], OnlineMethod):
            raise VistaError(
                f"{self.run.id}: its method trains on what the policy samples as it trains; "
                f"the training set is the queries alone, in {self.file}; export its checkpoint"
            )
        return self.made(self.file)

    @cached_property
    def rows(self) -> list[Row]:
        """``records.EXAMPLE`` or ``records.PAIR`` rows, with the bytes of their images.

        Raises:
            VistaError: the file is not what its job wrote, or an image is not in it.
        """
        counted = self.manifest.counts["examples"]
        rows = read_rows(self.file, PAIR if self.pairs else EXAMPLE)
        if len(rows) != counted:
            raise VistaError(
                f"{self.file}: {len(rows)} rows, but its manifest counts {counted:.0f}; curate again"
            )
        for index, row in enumerate(rows):
            if any(image is None or image["bytes"] is None for image in row["images"]):
                raise VistaError(f"{self.file}: row {index}: an image is not in the file; curate again")
        return rows

    @cached_property
    def task_of(self) -> dict[str, str]:
        """The task of each query.

        Raises:
            VistaError: the queries are missing or damaged, or do not hold those of every row.
        """
        read = Reads(self.suite, self.paths).curation(self.run)
        files = [*(read.seed.queries if read.seed else []), *read.queries]
        check_inputs(files)
        found = {
            row["query_id"]: row["task"]
            for file in files
            for row in read_rows(file, QUERY, ["query_id", "task"])
        }
        for index, row in enumerate(self.rows):
            if row["query_id"] not in found:
                raise VistaError(
                    f"{self.file}: row {index}: query {row['query_id']!r} is in none of the run's tasks; "
                    "make the training set again"
                )
        return found

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """Rows by task and source."""
        return Counter((self.task_of[row["query_id"]], row["source"]) for row in self.rows)


@dataclass(frozen=True)
class Weights(Source):
    """The checkpoint of a run, with its predictions if there are any."""

    @cached_property
    def folder(self) -> Path:
        """The checkpoint's folder."""
        return self.paths.trained(self.run.id)

    @cached_property
    def manifest(self) -> Manifest:
        """The folder's manifest, once it has been checked."""
        self.check_trained()
        return self.made(self.folder)

    def predictions(self) -> list[Row] | None:
        """Task, image and score of each test query; ``None`` if the run has not been evaluated.

        Raises:
            VistaError: they are damaged, or of other weights.
        """
        file = self.paths.predictions(self.run.id)
        if not manifest_of(file).exists():
            return None
        manifest = self.made(file)
        name = str(file.relative_to(self.paths.results))
        read = {each.path: each.digest for each in inputs_of(self.paths.results, name, manifest)}
        if read.get(self.folder) != sha256(manifest_of(self.folder)):
            raise VistaError(
                f"{file}: predictions of other weights than {self.folder}; evaluate again with "
                f"{command_for(self.suite, file)}"
            )
        rows = read_rows(file, PREDICTION, ["task", "cluster_id", "score"])
        check_count(file, len(rows), "predictions")
        return rows
