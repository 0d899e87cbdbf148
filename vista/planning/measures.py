"""What a pilot can really measure of the assumptions of ``vista plan``, each with what it was measured on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from vista.analysis.cost import measured_by, output_name, read_benchmarks
from vista.config import Suite
from vista.config.blind import asked_task
from vista.engines.folders import numbers_held
from vista.manifest import Manifest, read_manifest
from vista.paths import Paths
from vista.records import CRITICAL, QUERY, ROLLOUT, read_rows

SHORTEST = 5.0  # seconds of sampling that tell how fast an engine is


@dataclass(frozen=True)
class Measure:
    """A value of ``vista.planning.estimate.Assumptions``."""

    name: str
    value: float | int | dict[str, float]
    n: int
    of: str  # what ``n`` counts

    @property
    def shown(self) -> str:
        """The value in YAML."""
        return json.dumps(self.value if isinstance(self.value, dict | int) else float(f"{self.value:.4g}"))


def measures(suite: Suite, paths: Paths, outputs: Sequence[Path]) -> list[Measure]:
    """What is measured, in the order of a plan's assumptions.

    Args:
        suite: The pilot.
        paths: Where everything is.
        outputs: What has been made.
    """
    made = {output: read_manifest(output) for output in outputs}
    read = _Read({path: each for path, each in made.items() if each.status == "complete"}, paths)
    weights = {
        model: float(count)
        for model in suite.models
        if (count := numbers_held(paths.base(model)) if paths.base(model).is_dir() else 0)
    }
    return [*_speeds(suite, read, weights), *_lengths(read), *_shares(read), *_sizes(suite, read, weights)]


def is_empty(manifest: Manifest) -> bool:
    """Whether a job had nothing to do: no policy, or nothing to resample or measure."""
    return manifest.status != "complete" or (
        manifest.stage == "rollouts" and manifest.counts.get("solutions") == 0
    )


@dataclass(frozen=True)
class _Read:
    """Manifests by output."""

    made: dict[Path, Manifest]
    paths: Paths

    def below(self, folder: str, kind: str = "") -> dict[Path, Manifest]:
        """Those in a folder of the results, of one kind of rollouts if it is named."""
        found = {path: path.relative_to(self.paths.results).parts for path in self.made}
        return {
            path: self.made[path]
            for path, parts in found.items()
            if parts[0] == folder and (not kind or kind in parts)
        }

    @property
    def samples(self) -> dict[Path, Manifest]:
        """Of the samples."""
        return self.below("rollouts", "samples")

    @property
    def from_prefixes(self) -> dict[Path, Manifest]:
        """Of the resamples from prefixes."""
        found = self.below("rollouts", "resamples")
        return {path: each for path, each in found.items() if each.settings["resample"]["kind"] == "prefix"}


def _sum(manifests: dict[Path, Manifest], name: str) -> int:
    return int(sum(each.counts.get(name, 0) for each in manifests.values()))


def _speeds(suite: Suite, read: _Read, weights: dict[str, float]) -> Iterator[Measure]:
    """How long jobs take to start, and how fast the engine samples."""
    scored = suite.engine.kind == "vllm"  # apart from the responses, by jobs that load no model
    worked = {
        stage: [
            output_name(read.paths, path) for path, each in read.below(stage).items() if not is_empty(each)
        ]
        for stage in ("rollouts", "evaluation")
    }
    jobs = [
        (str(row["model"]), tuple(row["name"]), float(row["seconds"]))
        for row in read_benchmarks(read.paths, suite.every_model).to_dict("records")
        if row["stage"] in worked
        and row["model"] in weights
        and not {"encodable", "cases"} & set(row["name"])
        and not (scored and row["stage"] == "evaluation" and row["name"][-1] != "responses")
        and any(measured_by(output, tuple(row["name"])) for output in worked[row["stage"]])
    ]
    if not jobs:
        return
    starts = {model: min(took for of, _, took in jobs if of == model) for model, _, _ in jobs}
    yield Measure("start_minutes", median(starts.values()) / 60, len(jobs), "jobs that run a model")
    billions = spent = 0.0
    for path, manifest in read.samples.items():
        output = output_name(read.paths, path)
        for model, name, took in jobs:
            if "samples" in name and measured_by(output, name):
                billions += manifest.counts["tokens"] * weights[model] / 1e9
                spent += took - starts[model]
    if spent >= SHORTEST:
        name_of = f"{suite.engine.kind}_tokens_per_second"
        yield Measure(name_of, billions / spent, _sum(read.samples, "tokens"), "tokens")


def _lengths(read: _Read) -> Iterator[Measure]:
    """Tokens of prompts and responses."""
    asked = read.below("checks")
    if queries := _sum(asked, "queries"):
        tokens = round(_sum(asked, "prompt_tokens") / queries)
        yield Measure("prompt_tokens", max(tokens, 1), queries, "prompts")
    if solutions := _sum(read.samples, "solutions"):
        tokens = round(_sum(read.samples, "tokens") / solutions)
        yield Measure("response_tokens", max(tokens, 1), solutions, "samples")
    rows = [row for path in read.from_prefixes for row in read_rows(path, ROLLOUT)]
    if whole := sum(len(row["token_ids"]) + row["finished"] for row in rows):
        kept = sum(row["prefix_len"] for row in rows)
        yield Measure("resampled", 1 - kept / whole, len(rows), "resamples")


def _shares(read: _Read) -> Iterator[Measure]:
    """How many solutions are right, have a critical token, are recovered, and pass a filter."""
    if solutions := _sum(read.samples, "solutions"):
        yield Measure("correct", _sum(read.samples, "correct") / solutions, solutions, "samples")
    files = [file for path in read.from_prefixes if (file := _critical(path)).is_file()]
    rows = [row for file in files for row in read_rows(file, CRITICAL)]
    if rows:
        found = sum(row["critical_token"] is not None for row in rows)
        yield Measure("critical", found / len(rows), len(rows), "wrong samples")
    if resamples := _sum(read.from_prefixes, "solutions"):
        recovered = _sum(read.from_prefixes, "correct") / resamples
        yield Measure("recovered", recovered, resamples, "resamples")
    filtered = {
        path: each
        for path, each in read.below("curation").items()
        if each.settings.get("method", {}).get("filter", {}).get("kind", "none") != "none"
    }
    if positives := _sum(filtered, "positives"):
        kept = 1 - _sum(filtered, "dropped_by_filter") / positives
        yield Measure("kept", kept, positives, "right solutions that were filtered")


def _critical(resamples: Path) -> Path:
    """The critical tokens beside a file of resamples."""
    return resamples.parents[2] / "critical" / resamples.parent.name / resamples.name


def _sizes(suite: Suite, read: _Read, weights: dict[str, float]) -> Iterator[Measure]:
    """Parameters, and bytes of checkpoints and images."""
    if weights:
        yield Measure("parameters", weights, len(weights), "base checkpoints")
    per_parameter = [
        sum(size for name, size in each.sizes.items() if name.endswith(".safetensors")) / weights[model]
        for folder, each in read.below("training").items()
        if (model := folder.relative_to(read.paths.results / "training").parts[0]) in weights
    ]
    if per_parameter:
        mean = sum(per_parameter) / len(per_parameter)
        yield Measure("bytes_per_parameter", mean, len(per_parameter), "trained checkpoints")
    for name, generated in (("image_kilobytes", False), ("grid_image_kilobytes", True)):
        sizes = [
            sum(len(image["bytes"]) for image in row["images"])
            for task in suite.evaluated_tasks
            if asked_task(spec := suite.tasks[task]) is spec  # a blind one's images are not its own
            and spec.has_scene == generated
            and read.paths.queries(task, "test") in read.made
            for row in read_rows(read.paths.queries(task, "test"), QUERY, ["images"])
        ]
        if sum(sizes):
            yield Measure(name, sum(sizes) / len(sizes) / 1e3, len(sizes), "test queries")
