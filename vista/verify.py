"""Finds outputs that are not what was made, and says how to make them again (``vista verify``).

Every output has a manifest with the checksums of its files, and the versions of the packages that made it.
Nothing is removed: when Snakemake is told to remake an output, it also remakes everything made from it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rich.console import Console
from tqdm import tqdm

from vista import grid
from vista.config import Suite, load_resolved, load_suite
from vista.dag import Dag
from vista.errors import VistaError
from vista.manifest import Damage, Manifest, damages, find_outputs, mixed_versions, read_manifest
from vista.paths import Paths, manifest_of
from vista.planning.jobs import rollout_files
from vista.shown import printable

FOLDERS = {
    *("tasks", "models", "checks", "rollouts", "curation", "training", "evaluation", "tables", "figures"),
}


@dataclass
class Report:
    """What was found in a results folder.

    Attributes:
        outputs: How many have a manifest.
        files: How many files these have.
        damaged: What is wrong with each damaged output; outputs relative to the results folder.
        mixed: A line for each package of which the outputs record several versions.
    """

    outputs: int = 0
    files: int = 0
    damaged: dict[str, list[Damage]] = field(default_factory=dict)
    mixed: list[str] = field(default_factory=list)


def verify(suite: Suite) -> Report:
    """Compare every output of ``suite`` that has a manifest with it.

    Files outside the stages' folders, such as the results of another suite, are left out.

    Raises:
        VistaError: there are no results.
    """
    results = suite.results
    if not results.is_dir():
        raise VistaError(f"{results}: no such folder; suite {suite.name!r} has no results yet")
    report = Report()
    manifests: dict[str, Manifest] = {}
    outputs = list(find_outputs(results, FOLDERS))
    for output in outputs:
        name = str(output.relative_to(results))
        try:
            manifests[name] = read_manifest(output)
        except VistaError as error:
            report.damaged[name] = [Damage(manifest_of(output), str(error).partition(": ")[2], "a manifest")]
    report.outputs = len(outputs)
    report.files = sum(len(manifest.checksums) for manifest in manifests.values())
    with tqdm(total=report.files, desc="verify", unit=" files", mininterval=1, disable=None) as bar:
        for name, manifest in manifests.items():
            if found := damages(results / name, manifest.checksums, manifest.sizes, bar.update):
                report.damaged[name] = found
    report.mixed = mixed_versions({name: manifest.packages for name, manifest in manifests.items()})
    return report


def outputs_of(suite: Suite) -> set[str]:
    """Every file that the suite's rules make from runs, relative to the results folder."""
    dag, paths = Dag(suite), Paths(suite.results)
    files = [*dag.predictions(), *dag.cases(), *dag.gallery(), *dag.figures(), str(paths.long)]
    files += [path for table in dag.every_table() for path in dag.table(Path(table).stem)]
    for run in grid.runs(suite):
        files += [file.removesuffix(".manifest.json") for file in dag.encodable(run.id)]
        if grid.is_trained(suite, run):
            files += [str(paths.training_set(run.id)), str(manifest_of(paths.trained(run.id)))]
    for file in rollout_files(suite):
        files += map(str, dag.reads.shards(file.policy, file.kind, file.name))
    return {str(Path(file).relative_to(suite.results)) for file in files}


def files_to_make(suite: Suite, outputs: Iterable[str]) -> dict[str, str | None]:
    """By output, the file that a rule makes it under, both relative to the results folder.

    A checkpoint's is its manifest; critical tokens are written with the resamples, by the same job. There is
    none for an output that the suite no longer has.
    """
    known = outputs_of(suite)
    found: dict[str, str | None] = {}
    for output in outputs:
        path = PurePosixPath(output)
        stage, *parts = path.parts
        checks = stage == "models" and output.endswith(".check.json")
        file = f"{output}/manifest.json" if stage in {"models", "training"} and not checks else output
        if stage == "rollouts" and parts[-3] == "critical":
            file = str(path.parents[2].joinpath("resamples", *parts[-2:]))
        if stage in {"tasks", "models"}:
            name = parts[0].removesuffix(".check.json")
            made = name in (suite.tasks if stage == "tasks" else suite.models)
        else:
            made = file in known
        found[output] = file if made else None
    return found


def command(suite: Suite, damaged: list[str], configfile: Path) -> str:
    """The command that makes outputs again, and with them the existing tables and figures.

    Args:
        suite: The suite.
        damaged: Files that its rules make, relative to the results folder.
        configfile: The file that the suite was written in.
    """
    dag = Dag(suite)
    wanted = [
        *dag.every_table(),
        *(file for file in dag.figures() if file.endswith(".pdf")),
        *dag.gallery()[:1],
    ]
    targets = [file for file in wanted if Path(file).is_file()]
    files = [str(suite.results / name) for name in dict.fromkeys(damaged)]
    # Targets come first: after an option, Snakemake would read them as its values.
    words = ["snakemake", "--cores", "all", *targets, "--configfile", str(configfile), "--forcerun", *files]
    return shlex.join(words)


def file_of(suite: Suite) -> Path:
    """Where a resolved suite was most likely written: ``config/<name>.yaml``."""
    return Path("config") / f"{suite.name}.yaml"


def open_suite(suite_file: Path | None, configfile: Path | None) -> Suite:
    """The suite that the user names, resolved or as written.

    Raises:
        VistaError: neither or both are given.
    """
    if suite_file is not None and configfile is None:
        return load_resolved(suite_file)
    if configfile is not None and suite_file is None:
        return load_suite(configfile)
    raise VistaError("name one suite: RESULTS/suite.json, or --configfile config/….yaml")


def tell(report: Report, suite: Suite, configfile: Path, console: Console) -> None:
    """Print what was found, and what to do about it."""
    lines = [str(damage) for found in report.damaged.values() for damage in found]
    count = len(lines)
    said = f"{report.files} files of {report.outputs} outputs checked: "
    lines.append(said + (f"{count} damaged" if count else "all are what was made"))
    files = files_to_make(suite, report.damaged) if report.damaged else {}
    if again := [file for file in files.values() if file is not None]:
        lines += [
            "Restore copies of the damaged files, or make them and everything made from them again:",
            f"  {command(suite, again, configfile)}",
        ]
    if gone := [str(suite.results / output) for output, file in files.items() if file is None]:
        lines.append(f"Suite {suite.name} no longer has these; delete them: {', '.join(gone)}")
    if report.mixed:
        lines += ["The outputs were made with different versions of packages:"]
        lines += [f"  {line}" for line in report.mixed]
    for line in lines:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
