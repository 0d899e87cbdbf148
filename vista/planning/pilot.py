"""What a pilot found, job by job and added up (``pilot.csv``), and what it measured for ``vista plan``.

``vista pilot`` looks at what is in the results folder: an output with a manifest was made, a log without one
is of a job that failed. So the table can be written whatever has failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten

import pandas as pd

from vista import grid
from vista.analysis.cost import STAGES, cost_rows, read_benchmarks, read_outputs
from vista.analysis.page import Page, Table, number, write_table
from vista.config import Suite
from vista.dag import Dag
from vista.dag.jobs import last_lines
from vista.errors import VistaError
from vista.manifest import Manifest, Recorder, read_manifest
from vista.paths import Paths, manifest_of
from vista.planning.jobs import Job, JobTree
from vista.planning.measures import Measure, is_empty, measures
from vista.records import write_text

COLUMNS = [
    *("stage", "model", "job", "planned", "done", "failed", "not_run", "empty", "stand_ins", "seconds"),
    *("max_rss_mb", "tokens", "tokens_per_second", "responses", "unanswered", "unfinished", "said"),
]

SPENT = ("seconds", "max_rss_mb", "tokens", "tokens_per_second")  # as in the table of costs
SHARES = ("unanswered", "unfinished")
STAND_INS = "from_pilot"  # how curation counts what is trained on for want of anything right

NOTES = """\
One row for each stage and model, and in the CSV one for each job that failed, with the last line of its
log. `failed` jobs wrote a log and no output; those that were `not_run` waited for them. `empty` ones had
nothing to do, such as no wrong solution to resample. `stand_ins` are rows that were trained on although no
solution was right, as {queries} queries may give none; in a real run such a training is left out.
`seconds` adds up the wall time of jobs, `max_rss_mb` is the main memory of the largest. `unanswered` and
`unfinished` are shares of the `responses`, in per cent: without an answer, and cut at the length limit.
**The accuracies of a pilot mean nothing.**"""
ASSUMED = """\
`{file}` holds these for `vista plan --configfile … --assume {file}`. `start_minutes` is the shortest job of
a model that had something to do, so it includes a handful of answers. With so few requests at a time an
engine is slower than in the real run: take tokens per second for a lower bound."""


@dataclass(frozen=True)
class Planned:
    """A job of the pilot."""

    stage: str
    model: str  # empty where it serves all models
    name: str
    output: Path
    log: Path

    @cached_property
    def manifest(self) -> Manifest | None:
        """That of its output, if it was made."""
        return read_manifest(self.output) if manifest_of(self.output).is_file() else None

    @property
    def has_failed(self) -> bool:
        """Whether it started and made nothing."""
        return self.manifest is None and self.log.is_file()


def planned_jobs(suite: Suite, paths: Paths) -> list[Planned]:
    """Every job up to the tables and figures, in the order of the stages."""
    tree = JobTree(suite)
    jobs = {job: None for run in grid.runs(suite) for job in sorted(tree.of_run(run), key=str)}
    found = [_planned(job, suite, paths) for job in jobs] + list(_analyses(suite, paths))
    return sorted(found, key=lambda job: STAGES.index(job.stage))


def _planned(job: Job, suite: Suite, paths: Paths) -> Planned:
    model, _, rest = job.name.partition("/")

    def of(stage: str, output: Path, log: str | None = None) -> Planned:
        name = f"{job.rule} {job.name}"
        return Planned(
            stage, "" if stage == "tasks" else model, name, output, paths.log(stage, log or job.name)
        )

    if job.rule == "tasks":
        return of("tasks", paths.queries(model, rest))
    if job.rule == "models":
        return of("models", paths.base(model))
    if job.rule == "check":
        return of("models", paths.check(model), f"{model}.check")
    if job.rule == "adopt":
        return of("models", paths.adopted(job.name), f"external/{job.name}")
    if job.rule == "encodable":
        return of("rollouts", paths.encodable(model), f"{model}/encodable")
    if job.rule == "curate":
        return of("curation", paths.training_set(job.name))
    if job.rule == "train":
        return of("training", paths.trained(job.name))
    if job.rule == "requests":
        return Planned(
            "evaluation",
            "",
            f"requests {job.name}",
            paths.requests(job.name),
            paths.log("evaluation", f"requests/{job.name}"),
        )
    if job.rule == "respond":
        return of("evaluation", paths.responses(job.name), f"{job.name}/responses")
    if job.rule in ("evaluate", "ask", "grade"):
        return of("evaluation", paths.predictions(job.name))
    *policy, kind, name, shard = job.name.split("/")
    return of("rollouts", paths.rollouts("/".join(policy), kind, name, shard, suite.shards))


def _analyses(suite: Suite, paths: Paths) -> Iterator[Planned]:
    """The jobs that make tables, figures and what only these need."""
    dag = Dag(suite)
    for file in dag.cases():
        run = "/".join(Path(file).relative_to(paths.results).parts[1:-1])
        log = paths.log("rollouts", f"{run}/cases")
        yield Planned("rollouts", run.split("/")[0], f"cases {run}", Path(file), log)
    made = {"collect": str(paths.long), "cost": dag.table("cost")[0]}
    every = set(dag.every_table())
    for rule in dag.table_commands():
        if rule == "results" or str(paths.table(rule, "csv")) in every:
            made[rule] = dag.table_outputs(rule)[0]
    for rule, output in made.items():
        yield Planned("analysis", "", rule, Path(output), paths.log("analysis", rule))
    for file in [*dag.figures(), *dag.gallery()]:
        if file.endswith((".pdf", ".html")):
            rule = "gallery" if file.endswith(".html") else Path(file).stem
            yield Planned(
                "analysis", "", f"figure {rule}", Path(file), paths.log("analysis", f"figures/{rule}")
            )


def table_name(suite: Suite, paths: Paths) -> str:
    """``pilot``, the rule's, once all is there that it waits for: Snakemake would take that for done."""
    whole = all(Path(file).is_file() for file in Dag(suite).pilot_inputs())
    return "pilot" if whole else "pilot-so-far"


def pilot_table(suite: Suite, paths: Paths) -> list[Planned]:
    """Write ``pilot.csv``, ``.md``, ``.tex`` and ``assumptions.yaml`` from what the pilot has left.

    Returns:
        The jobs that failed.

    Raises:
        VistaError: the suite is no pilot, or a manifest or a benchmark file is malformed.
    """
    if suite.pilot is None:
        raise VistaError(f"suite {suite.name!r} is no pilot; run snakemake with --config pilot=8")
    recorder = Recorder("analysis", {"suite": suite.name, "queries": suite.pilot}, [])
    jobs = planned_jobs(suite, paths)
    rows = pilot_rows(suite, paths, jobs)
    found = measures(suite, paths, [job.output for job in jobs if job.manifest is not None])
    file = paths.table("assumptions", "yaml")
    write_text(file, as_yaml(suite, found))
    recorder.write(file, {"measured": len(found)})
    write_table(
        paths,
        recorder,
        rows,
        pilot_page(suite, rows, found, file, table_name(suite, paths)),
        {"rows": len(rows)},
    )
    return [job for job in jobs if job.has_failed]


def tell(suite: Suite, paths: Paths) -> str:
    """Write the table of a pilot some of whose jobs failed, and say where it is."""
    try:
        failed = pilot_table(suite, paths)
    except VistaError as error:
        return f"pilot: no table of what worked: {error}"
    return f"pilot: {len(failed)} jobs failed; {paths.table(table_name(suite, paths), 'md')} has them all"


def pilot_rows(suite: Suite, paths: Paths, jobs: list[Planned]) -> pd.DataFrame:
    """The table: a row for each stage and model, then one for each job that failed."""
    models = suite.every_model
    costs = cost_rows(read_benchmarks(paths, models), read_outputs(paths, models), models)
    spent = {(row["stage"], row["model"]): row for row in costs.to_dict("records")}
    rows = []
    for stage in STAGES:
        for model in ["", *models]:
            own = [job for job in jobs if (job.stage, job.model) == (stage, model)]
            if own:
                row = spent.get((stage, model), {})
                shown = {name: row.get(name, "") for name in SPENT}
                rows.append({"stage": stage, "model": model, **_counted(own), **shown})
    rows += [_failed(job) for job in jobs if job.has_failed]
    return pd.DataFrame(rows, columns=COLUMNS).fillna("").astype(str)


def _counted(jobs: list[Planned]) -> dict[str, str]:
    """What became of the jobs of one stage and model, and of the responses in their outputs."""
    made = [job.manifest for job in jobs if job.manifest is not None]
    failed = sum(job.has_failed for job in jobs)
    sums: Counter[str] = Counter()
    for manifest in made:
        counts = manifest.counts
        responses = counts.get("solutions" if manifest.stage == "rollouts" else "predictions", 0)
        if "unfinished" in counts and responses:
            sums["responses"] += int(responses)
            sums["unanswered"] += int(counts["unanswered"])
            sums["unfinished"] += int(counts["unfinished"])
        sums["stand_ins"] += int(counts.get(STAND_INS, 0))
    found = {"planned": len(jobs), "done": len(made), "failed": failed}
    found |= {"not_run": len(jobs) - len(made) - failed, "empty": sum(map(is_empty, made))}
    shares = {name: 100 * sums[name] / sums["responses"] if sums["responses"] else None for name in SHARES}
    return {
        **{name: str(value) for name, value in found.items()},
        **{name: str(sums[name]) if sums[name] else "" for name in ("stand_ins", "responses")},
        **{name: number(share) for name, share in shares.items()},
    }


def _failed(job: Planned) -> dict[str, str]:
    said = shorten(last_lines([job.log]).splitlines()[-1], 300)
    return {"stage": job.stage, "model": job.model, "job": job.name, "said": said}


def pilot_page(suite: Suite, rows: pd.DataFrame, found: list[Measure], file: Path, name: str) -> Page:
    """The table, the failures and what was measured."""
    sums = {name: pd.to_numeric(rows[name]).sum() for name in ("planned", "done", "not_run", "stand_ins")}
    failures = rows[rows["job"] != ""]
    planned, done = int(sums["planned"]), int(sums["done"])
    verdict = f"**All {planned} jobs are done.**"
    if done < planned:
        lacking = f"{len(failures)} failed**, {int(sums['not_run'])} did not run."
        verdict = f"**{done} of {planned} jobs are done, {lacking}"
    stands = f"{int(sums['stand_ins'])} rows of training sets stand in for right solutions that were lacking."
    title = f"What the pilot of {suite.pilot} queries found (suite `{suite.name}`)"
    parts: list[str | Table] = [verdict, *([stands] if sums["stand_ins"] else [])]
    parts.append(Table(title, rows[rows["job"] == ""].drop(columns=["job", "said"]), ""))
    if len(failures):
        parts.append(Table("Jobs that failed", failures[["stage", "model", "job", "said"]], "failed"))
    parts.append(NOTES.format(queries=suite.pilot).replace("\n", " "))
    measured = [(each.name, each.shown, f"{each.n:,} {each.of}") for each in found]
    cells = pd.DataFrame(measured, columns=["assumption", "value", "measured on"])
    parts += [
        Table("What it measured", cells, "measured"),
        ASSUMED.format(file=file).replace("\n", " "),
    ]
    return Page(name, title, parts)


def as_yaml(suite: Suite, found: list[Measure]) -> str:
    """What was measured as a file of assumptions, each with what it was measured on."""
    lines = [f"# Measured by suite {suite.name} (pilot: {suite.pilot}); for `vista plan --assume`."]
    lines += [f"{each.name}: {each.shown}  # {each.n:,} {each.of}" for each in found]
    return "\n".join(lines) + ("\n" if found else "\n{}\n")
