"""Where everything is under the results folder. The Snakefile and the stages share it.

Every output ``X`` of a stage has its manifest beside it: ``X.manifest.json``, or
``manifest.json`` inside a folder. The manifest is written last: if it exists, the output
is whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Paths below one results folder. Arguments may be Snakemake wildcards such as ``{task}``."""

    results: Path

    @property
    def suite(self) -> Path:
        """The resolved suite, which every job reads."""
        return self.results / "suite.json"

    @property
    def warm_log(self) -> Path:
        """What the process that forks for jobs prints (``vista.warm``)."""
        return self.results / "logs" / "warm.log"

    @property
    def terminal_log(self) -> Path:
        """What jobs and their shells print while a terminal shows a bar (``vista.dag.board``)."""
        return self.results / "logs" / "terminal.log"

    def code(self, part: str) -> Path:
        """Checksums of the source files that a stage, or a part of one, depends on."""
        return self.results / "code" / f"{part}.json"

    def queries(self, task: str, split: str) -> Path:
        """Queries of one split of one task (``records.QUERY``)."""
        return self.results / "tasks" / task / f"{split}.parquet"

    def base(self, model: str) -> Path:
        """Folder of a base checkpoint."""
        return self.results / "models" / model

    def check(self, model: str) -> Path:
        """What the check of a base checkpoint found, all well (``vista.fitness``)."""
        return self.results / "models" / f"{model}.check.json"

    def failed_check(self, model: str) -> Path:
        """The same of a check that failed, beside the logs."""
        return self.results / "logs" / "models" / f"{model}.check.json"

    def rollouts(self, policy: str, kind: str, name: str, shard: int | str, shards: int | str) -> Path:
        """One shard of a policy's rollouts; ``kind``: samples, resamples, critical, scores or gains."""
        return self.results / "rollouts" / policy / kind / name / f"{shard}-of-{shards}.parquet"

    def encodable(self, model: str) -> Path:
        """What was found when every query of a model's jobs was held against its processor."""
        return self.results / "checks" / f"{model}.json"

    def cases(self, policy: str) -> Path:
        """Solutions of a policy to look at (``records.CASE``)."""
        return self.results / "rollouts" / policy / "cases.parquet"

    def training_set(self, run: str) -> Path:
        """Examples or pairs that a run trains on."""
        return self.results / "curation" / run / "train.parquet"

    def trained(self, run: str) -> Path:
        """Folder of a trained checkpoint."""
        return self.results / "training" / run

    def history(self, run: str) -> Path:
        """What was logged at each step of a run's training."""
        return self.results / "training" / f"{run}.history.csv"

    def adopted(self, run: str) -> Path:
        """Folder of a checkpoint that was trained elsewhere."""
        return self.results / "external" / run

    def predictions(self, run: str) -> Path:
        """Predictions of one checkpoint on every test query (``records.PREDICTION``)."""
        return self.results / "evaluation" / run / "predictions.parquet"

    def responses(self, run: str) -> Path:
        """What an engine in another environment answered for a run (``evaluation.parts.SAMPLE``)."""
        return self.results / "evaluation" / run / "responses.parquet"

    def requests(self, task: str) -> Path:
        """What one of lmms-eval's own tasks asks (``evaluation.answering.REQUEST``)."""
        return self.results / "evaluation" / "requests" / f"{task}.parquet"

    @property
    def long(self) -> Path:
        """Per-sample scores of all runs, in one table."""
        return self.results / "long.csv"

    def table(self, name: str, suffix: str) -> Path:
        """A table, ``suffix`` without the dot."""
        return self.results / "tables" / f"{name}.{suffix}"

    def figure(self, name: str, suffix: str) -> Path:
        """A figure, ``suffix`` without the dot."""
        return self.results / "figures" / f"{name}.{suffix}"

    def benchmark(self, stage: str, name: str) -> Path:
        """Snakemake's measurement of one job."""
        return self.results / "benchmarks" / stage / f"{name}.tsv"

    def log(self, stage: str, name: str) -> Path:
        """What one job printed."""
        return self.results / "logs" / stage / f"{name}.log"


TABLE_SUFFIXES = ("csv", "md", "tex", "html")
FILE_SUFFIXES = {".parquet", ".csv", ".md", ".tex", ".json", ".pdf", ".png", ".html", ".yaml"}


def manifest_of(output: Path) -> Path:
    """Path of the manifest of an output: beside a file, inside a folder."""
    if output.suffix in FILE_SUFFIXES:  # a folder's name may hold a dot: nano-qwen2.5-vl
        return output.with_name(output.name + ".manifest.json")
    return output / "manifest.json"
