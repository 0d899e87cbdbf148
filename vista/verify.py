"""Finds outputs that are not what was made, and removes them (``vista verify``).

Every output has a manifest with the checksums of its files. What was made from an output stands in the
manifests of what was made, so both can be removed together, and Snakemake makes them again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rich.console import Console
from tqdm import tqdm

from vista.checksums import Damage, damages
from vista.config import Suite, load_resolved, load_suite
from vista.dag import Dag
from vista.errors import VistaError, writing
from vista.manifest import Manifest, read_manifest
from vista.paths import Paths, manifest_of

SUFFIX = ".manifest.json"
FOLDERS = {
    *("tasks", "models", "rollouts", "curation", "training", "evaluation", "tables", "figures"),
}


@dataclass
class Report:
    """What was found below a results folder.

    Attributes:
        outputs: How many have a manifest.
        files: How many files these have.
        damaged: What is wrong with each output that is damaged; outputs relative to the results folder.
        follow: What was made from these, and from that in turn.
    """

    outputs: int = 0
    files: int = 0
    damaged: dict[str, list[Damage]] = field(default_factory=dict)
    follow: list[str] = field(default_factory=list)


def verify(suite: Suite) -> Report:
    """Hold every output of ``suite`` that has a manifest against it.

    Raises:
        VistaError: there are no results.
    """
    results = suite.results
    if not results.is_dir():
        raise VistaError(f"{results}: no such folder; suite {suite.name!r} has no results yet")
    report = Report()
    manifests: dict[str, Manifest] = {}
    outputs = list(find_outputs(results))
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
    inputs = {name: list(manifest.inputs) for name, manifest in manifests.items()}
    together = jobs_of(suite)
    report.follow = sorted(made_from(report.damaged, inputs, together) - report.damaged.keys())
    return report


def find_outputs(results: Path) -> Iterator[Path]:
    """Every file and folder below ``results`` that has a manifest.

    What lies beside the stages' folders, such as the results of another suite, is none of it.
    """
    for entry in _entries(results):
        if entry.name in FOLDERS or not entry.is_dir():
            yield from _outputs(entry)


def _outputs(entry: os.DirEntry[str]) -> Iterator[Path]:
    path = Path(entry.path)
    if not entry.is_dir():
        if entry.name.endswith(SUFFIX):
            yield path.with_name(entry.name.removesuffix(SUFFIX))
    elif (path / "manifest.json").is_file():
        yield path
    else:
        for inner in _entries(path):
            yield from _outputs(inner)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What stands in a folder, but for what is half-written or kept to go on from."""
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise VistaError(f"{folder}: cannot be listed ({error.strerror})") from error
    return [entry for entry in found if not entry.name.startswith(".")]


def jobs_of(suite: Suite) -> Callable[[str], list[str]]:
    """Tell, of an output, which outputs the same job makes: Snakemake makes all of them or none."""
    dag, results = Dag(suite), suite.results
    jobs = [dag.results(), dag.ablation(), dag.gallery()]
    known: dict[str, list[str]] = {}
    for files in jobs:
        names = [str(Path(file).relative_to(results)) for file in files if not file.endswith(SUFFIX)]
        known.update(dict.fromkeys(names, names))

    def together(output: str) -> list[str]:
        path = PurePosixPath(output)
        if output in known:
            return known[output]
        if path.parts[0] == "tables":
            return [str(path.with_suffix(suffix)) for suffix in (".csv", ".md", ".tex")]
        if path.parts[0] == "figures":
            return [str(path.with_suffix(suffix)) for suffix in (".pdf", ".png")]
        if path.parts[0] == "rollouts" and path.parts[-3] in {"critical", "resamples"}:
            kinds = ("critical", "resamples")
            return [str(path.parents[2].joinpath(kind, *path.parts[-2:])) for kind in kinds]
        return [output]

    return together


def made_from(
    names: Iterable[str], inputs: Mapping[str, list[str]], together: Callable[[str], list[str]]
) -> set[str]:
    """``names``, what the same jobs made, and all that was made from them, directly or not.

    Args:
        names: Outputs, relative to the results folder.
        inputs: Of every output, the paths that its manifest names as inputs, wherever the results
            folder lay when it was made.
        together: As from ``jobs_of``.
    """
    users: dict[str, list[str]] = {}
    for output, read in inputs.items():
        for path in read:
            users.setdefault(_output_named(path, inputs), []).append(output)
    found: set[str] = set()
    queue = list(names)
    while queue:
        for name in together(queue.pop()):
            if name not in found:
                found.add(name)
                queue += users.get(name, [])
    return found & {*inputs, *names}


def _output_named(path: str, outputs: Mapping[str, object]) -> str:
    """Which output an input's path names: the one with the longest of the path's tails as its name."""
    parts = PurePosixPath(path).parts
    tails = (str(PurePosixPath(*parts[start:])) for start in range(len(parts)))
    return next((tail for tail in tails if tail in outputs), path)


def remove(suite: Suite, report: Report) -> list[Path]:
    """Remove what is damaged and what follows from it, manifests first; links, not what they lead to.

    Raises:
        VistaError: a file cannot be removed.
    """
    removed = []
    for name in [*report.damaged, *report.follow]:
        output = suite.results / name
        with writing(output):
            manifest_of(output).unlink(missing_ok=True)
            if output.is_dir() and not output.is_symlink():
                shutil.rmtree(output)
            else:
                output.unlink(missing_ok=True)
        removed.append(output)
    return removed


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


def tell(report: Report, suite: Suite, removed: list[Path], console: Console) -> None:
    """Say what was found, what was removed, and what to do."""
    for found in report.damaged.values():
        for damage in found:
            console.print(str(damage), markup=False, highlight=False, soft_wrap=True)
    count = sum(map(len, report.damaged.values()))
    said = f"{report.files} files of {report.outputs} outputs checked: "
    lines = [said + (f"{count} damaged" if count else "all are what was made")]
    lines += [f"removed {output}" for output in removed]
    if removed:
        lines.append("Run snakemake to make them again.")
    elif count:
        lines += [
            f"Put back copies; or remove the damaged outputs ({len(report.damaged)}) with what was made from "
            f"them ({len(report.follow)}), and run snakemake to make them again:",
            f"  vista verify {Paths(suite.results).suite} --remove",
        ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
