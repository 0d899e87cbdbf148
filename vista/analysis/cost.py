"""Where the time went: seconds, memory and tokens per stage and model (``cost.csv``, ``cost.md``).

``vista cost`` adds up what is in the results folder: Snakemake's benchmark files give time and memory, the
manifests give tokens. An output without a benchmark file is counted as unmeasured, never as free of cost.
Unlike the main table, this table differs from run to run.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from vista.analysis.page import Page, Table, integer, number, write_table
from vista.config import Suite
from vista.errors import VistaError
from vista.manifest import PACKAGES, Manifest, Recorder, read_manifest
from vista.paths import FILE_SUFFIXES, Paths

STAGES = ["tasks", "models", "rollouts", "curation", "training", "evaluation", "analysis"]
COLUMNS = [
    "stage",
    "model",
    "jobs",
    "seconds",
    "cpu_seconds",
    "max_rss_mb",
    "tokens",
    "tokens_per_second",
    "unmeasured",
]
# Of endpoints, in a results folder that has outputs with answers from one.
ASKED = ["requests", "sent", "from_cache", "prompt_tokens"]
UNKNOWN = ["NA", "-"]  # how Snakemake writes what it had no time to measure

NOTES = """\
`seconds` adds up the wall time of the jobs, so jobs side by side make it longer than the whole run
took. `cpu_seconds` is a lower bound: Snakemake samples a job every half second at first and every
30 seconds later, and what follows the last sample is not in it. `max_rss_mb` is the largest job's
memory. `unmeasured` counts outputs without a benchmark file: their time is not in this table."""

NOTE_ON_VERSIONS = """\
From the manifests of tasks, models, rollouts, training sets, checkpoints and predictions. Two versions of one
package mean that it changed between two outputs; `vista verify` names some of each."""

Name = tuple[str, ...]


def cost_table(suite: Suite, paths: Paths) -> None:
    """Write ``cost.csv`` and ``cost.md`` from the benchmark files and manifests in the results folder.

    Raises:
        VistaError: a benchmark file or a manifest is malformed.
    """
    recorder = Recorder("analysis", {"suite": suite.name}, [])
    models = suite.every_model
    outputs = read_outputs(paths, models)
    table = cost_rows(read_benchmarks(paths, models), outputs, models)
    write_table(paths, recorder, table, cost_page(suite, table, outputs), {"rows": len(table)})


def read_benchmarks(paths: Paths, models: list[str]) -> pd.DataFrame:
    """Every benchmark file: ``stage, model, name, seconds, cpu_seconds, max_rss_mb``.

    ``name`` is the file's path below its stage, as a tuple; ``model`` is the one of ``models``
    that is a part of it, or empty for a job that serves all models. Unknown values are NaN.
    """
    rows = []
    for stage in STAGES:
        folder = paths.benchmark(stage, "any").parent
        for file in sorted(folder.rglob("*.tsv")):
            name = _name(file.relative_to(folder).with_name(file.name.removesuffix(".tsv")))
            rows.append({"stage": stage, "model": _model(name, models), "name": name} | _measurement(file))
    return pd.DataFrame(rows, columns=["stage", "model", "name", "seconds", "cpu_seconds", "max_rss_mb"])


def _measurement(file: Path) -> dict[str, float]:
    """One job's seconds, CPU seconds and peak memory (MB); repeats of a job are added up."""
    try:
        table = pd.read_csv(file, sep="\t", na_values=UNKNOWN)
        values = table[["s", "cpu_time", "max_rss"]].astype(float)
    except (KeyError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise VistaError(
            f"{file}: not a benchmark file of Snakemake ({error}); delete it and rerun"
        ) from error
    if values.empty or values["s"].isna().any():
        raise VistaError(f"{file}: column s: no wall time in it; delete the file and rerun the job")
    return {
        "seconds": float(values["s"].sum()),
        "cpu_seconds": float(values["cpu_time"].sum(min_count=1)),
        "max_rss_mb": float(values["max_rss"].max()),
    }


def read_outputs(paths: Paths, models: list[str]) -> pd.DataFrame:
    """Every output that has a manifest: ``stage, model, name, tokens, peak_rss_mb, made_with`` and ``ASKED``.

    ``tokens`` is NaN where the manifest counts none, and so is what it has not counted of ``ASKED``.
    """
    rows = []
    counted = ["tokens", *ASKED]
    places = [*((stage, stage) for stage in STAGES), ("models", "external")]
    for stage, place in places:
        folder = paths.results / place
        for file in sorted(folder.rglob("*manifest.json")):
            output = file.parent if file.name == "manifest.json" else _described(file)
            name = output_name(paths, output)
            manifest = read_manifest(output)
            # Those of a pass for critical tokens are counted by the resamples of the same job, too.
            counts = {} if "critical" in name else manifest.counts
            rows.append(
                {"stage": stage, "model": _model(name, models), "name": name}
                | {count: counts.get(count) for count in counted}
                | {"peak_rss_mb": manifest.peak_rss_mb, "made_with": made_with(manifest)}
            )
    table = pd.DataFrame(rows, columns=["stage", "model", "name", *counted, "peak_rss_mb", "made_with"])
    return table.astype(dict.fromkeys([*counted, "peak_rss_mb"], float))


def made_with(manifest: Manifest) -> dict[str, str]:
    """The versions and the device that an output was made with."""
    commit = f"{manifest.commit}{' with changes' if manifest.dirty else ''}"
    return {"commit": commit, "device": manifest.device, "Python": manifest.python, **manifest.packages}


def output_name(paths: Paths, output: Path) -> Name:
    """What an output is called: as its job's benchmark file, or that and more."""
    path = output.relative_to(paths.results)
    place = path.with_suffix("") if path.suffix in FILE_SUFFIXES else path
    if place.parts[0] == "external":  # made by a job of another stage
        return _name(place)
    named = place.with_name(place.name.removesuffix(".history"))  # written by the training
    return _name(Path(*named.parts[1:]))


def _name(path: Path) -> Name:
    """The parts of a path, with a shard ``0-of-4`` as ``0``."""
    return tuple(part.split("-of-")[0] for part in path.parts)


def _described(manifest: Path) -> Path:
    return manifest.with_name(manifest.name.removesuffix(".manifest.json"))


def _model(name: Name, models: list[str]) -> str:
    own = (part.removesuffix(".check") for part in name)
    return next((part for part in own if part in models), "")


def measured_by(output: Name, benchmark: Name) -> bool:
    """Whether the job named ``benchmark`` made ``output``: all parts of its name are in it, in order.

    So ``a/seed0`` covers ``a/seed0/predictions``, and ``a/0`` covers every kind of rollouts of
    shard 0. A pass for critical tokens belongs to the job that resamples. Responses that were generated
    elsewhere do not belong to the job that scores them.
    """
    if output[-1] == "responses" and "responses" not in benchmark:
        return False
    parts = iter(output)
    if all(part in parts for part in benchmark):
        return True
    return "critical" in output and measured_by(_resampled(output), benchmark)


def _resampled(output: Name) -> Name:
    return tuple("resamples" if part == "critical" else part for part in output)


def cost_rows(benchmarks: pd.DataFrame, outputs: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """The cost table: one row per stage and model that left a trace, and a total.

    Args:
        benchmarks: As from ``read_benchmarks``.
        outputs: As from ``read_outputs``.
        models: The suite's models, for the order of the rows.

    Returns:
        Columns ``COLUMNS`` as text, empty where nothing is known; and ``ASKED`` if any of them is.
    """
    outputs = outputs.assign(measured=pd.Series(_measured(outputs, benchmarks), outputs.index, dtype=bool))
    rows = []
    for stage in STAGES:
        for model in ["", *models]:
            jobs = _of(benchmarks, stage, model)
            made = _of(outputs, stage, model)
            if len(jobs) or len(made):
                rows.append({"stage": stage, "model": model} | _sums(jobs, made))
    rows.append({"stage": "total", "model": ""} | _sums(benchmarks, outputs))
    has_asked = outputs[ASKED].notna().any(axis=None)
    return pd.DataFrame(rows, columns=[*COLUMNS, *(ASKED if has_asked else [])]).astype(str)


def _of(table: pd.DataFrame, stage: str, model: str) -> pd.DataFrame:
    return table[(table["stage"] == stage) & (table["model"] == model)]


def _sums(jobs: pd.DataFrame, outputs: pd.DataFrame) -> dict[str, str]:
    """One row's cells."""
    seconds = jobs["seconds"].sum(min_count=1)
    # Tokens of jobs that nobody timed would make the others look faster than they were.
    timed = outputs.loc[outputs["measured"], "tokens"]
    # Snakemake looks at a job's memory now and then, a process knows its own peak.
    memory = pd.concat([jobs["max_rss_mb"], outputs["peak_rss_mb"]]).astype(float)
    return {
        "jobs": str(len(jobs)),
        "seconds": number(seconds),
        "cpu_seconds": number(jobs["cpu_seconds"].sum(min_count=1)),
        "max_rss_mb": number(memory.max()),
        "tokens": integer(outputs["tokens"].sum(min_count=1)),
        "tokens_per_second": number(timed.sum(min_count=1) / seconds),
        "unmeasured": str(int((~outputs["measured"]).sum())),
        **{name: integer(_asked(outputs, name)) for name in ASKED},
    }


def _asked(outputs: pd.DataFrame, name: str) -> float:
    """The sum of one of ``ASKED`` over outputs with answers from endpoints.

    Of ``sent``, the last that was counted in each name: that of a model, or the teacher's for a task.
    """
    asked = outputs[outputs["requests"].notna()]
    if name == "sent":
        whose = asked["model"].where(asked["model"] != "", asked["name"].str[0])
        return float(asked[name].groupby(whose).max().sum(min_count=1))
    return float(asked[name].sum(min_count=1))


def _measured(outputs: pd.DataFrame, benchmarks: pd.DataFrame) -> list[bool]:
    """For every output, whether a benchmark file of the same stage covers it."""
    jobs = {stage: list(group["name"]) for stage, group in benchmarks.groupby("stage")}
    return [
        any(measured_by(name, job) for job in jobs.get(stage, []))
        for stage, name in zip(outputs["stage"], outputs["name"], strict=True)
    ]


def version_cells(outputs: pd.DataFrame) -> pd.DataFrame:
    """How many outputs were made with each version of what they were made with."""
    found = Counter(pair for made in outputs["made_with"] for pair in made.items())
    order = {name: place for place, name in enumerate(["commit", "device", "Python", *PACKAGES])}
    pairs = sorted(found, key=lambda pair: (order.get(pair[0], len(order)), pair))
    rows = [(*pair, str(found[pair])) for pair in pairs]
    return pd.DataFrame(rows, columns=["made with", "version", "outputs"])


def cost_page(suite: Suite, table: pd.DataFrame, outputs: pd.DataFrame) -> Page:
    """The table and how to read it, and what everything was made with."""
    unmeasured = int(table["unmeasured"].iloc[-1])
    complete = "Every output has a benchmark file."
    lacking = f"**{unmeasured} outputs have no benchmark file**: their time is unknown and not in the sums."
    title = f"Where the time of suite `{suite.name}` went"
    versions = Table("What the outputs were made with", version_cells(outputs), "versions")
    told = lacking if unmeasured else complete
    return Page("cost", title, [told, Table(title, table, ""), NOTES, versions, NOTE_ON_VERSIONS])
