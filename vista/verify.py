"""Finds outputs that are not what was made, and says how to make them again (``vista verify``).

Every output has a manifest with the checksums of its files and of what it was made from, and the versions of
the packages that made it. Nothing is removed: when Snakemake is told to remake an output, it also remakes
everything made from it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console
from tqdm import tqdm

from vista import grid
from vista.config import Suite
from vista.config.pilot import ENDING
from vista.dag import Dag
from vista.damage import Damage, is_regular_below, sha256
from vista.errors import VistaError
from vista.manifest import (
    BESIDE,
    DEPTHS,
    STAGES,
    SUFFIX,
    Manifest,
    damages_of,
    find_outputs,
    inputs_of,
    misplacement,
    read_manifest,
)
from vista.paths import Paths, manifest_of
from vista.planning.jobs import rollout_files
from vista.shown import printable
from vista.versions import examples, mixed_versions

FOLDERS = set(STAGES)


@dataclass
class Report:
    """What was found in a results folder.

    Attributes:
        outputs: How many have a manifest.
        files: How many files these have.
        damaged: What is wrong with each damaged output; outputs relative to the results folder.
        again: What to make again: damaged outputs, or what is gone of their inputs; relative to it, too.
        waiting: By output, inputs that were made again since; the next ``snakemake`` makes it again, too.
        edited: By file of the user's, the outputs that were made from it when it held something else.
        mixed: A line for each package of which the outputs record several versions.
    """

    outputs: int = 0
    files: int = 0
    damaged: dict[str, list[Damage]] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    waiting: dict[str, list[str]] = field(default_factory=dict)
    edited: dict[Path, list[str]] = field(default_factory=dict)
    mixed: list[str] = field(default_factory=list)


def verify(suite: Suite) -> Report:
    """Compare every output of ``suite`` with its manifest, and its inputs with what it was made from.

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
            output = results / name
            if found := misplacement(output, name, manifest) or damages_of(output, manifest, bar.update):
                report.damaged[name] = found
    report.again = {
        name for name, found in report.damaged.items() if not all(each.is_added for each in found)
    }
    follow(suite, manifests, report)
    report.mixed = mixed_versions({name: manifest.packages for name, manifest in manifests.items()})
    return report


@dataclass(frozen=True)
class Mismatch:
    """An input that is not what an output was made from; names relative to the results folder."""

    output: str
    read: str
    digest: str  # what was read
    found: str | None  # what is there now; None if it is gone


def follow(suite: Suite, manifests: Mapping[str, Manifest], report: Report) -> None:
    """Add to a report the inputs that are gone, or are others than those that outputs were made from.

    An input that is newer than the output is one that was made again: Snakemake will make the output again,
    too. It would not where the input is as old as the output or older.

    Args:
        suite: The suite.
        manifests: By name, those that can be read.
        report: What was found in each output by itself. A damaged output is made again, whatever it was made
            from; what was made from it before is sound.
    """
    results, own = suite.results, set(report.again)
    mismatches = []
    for name, manifest in manifests.items():
        for read in inputs_of(results, name, manifest) if name not in own else []:
            place = read.path.relative_to(results).parts if read.is_result else ()
            if place and place[0] in STAGES:
                made, digest = _recorded(results, str(PurePosixPath(*place)), manifests, own)
                if digest != read.digest and made not in own:
                    mismatches.append(Mismatch(name, made, read.digest, digest))
            elif is_regular_below(read.path, results, Path.cwd()) and sha256(read.path) != read.digest:
                report.edited.setdefault(read.path, []).append(name)
    names = {name for each in mismatches for name in (each.output, each.read)}
    files = files_to_make(suite, names) if names else {}
    for each in sorted(mismatches, key=lambda each: (each.output, each.read)):
        file = files[each.read]
        of_rule = manifest_of(results / each.read) if file is None else results / file
        if each.found is not None and _is_newer(of_rule, results / each.output):
            report.waiting.setdefault(each.output, []).append(each.read)
            continue
        # What is gone is not made again for being gone, where everything made from it is there.
        is_wanted = file is not None and files[each.output] is not None
        again = each.read if each.found is None and is_wanted else each.output
        report.again.add(again)
        remedy = f"; make {results / again} again" if files[again] is not None else ""
        damage = Damage(
            results / each.output, _told(results / each.read, each.found), f"sha256 {each.digest}{remedy}"
        )
        report.damaged.setdefault(each.output, []).append(damage)


def _told(read: Path, found: str | None) -> str:
    if found is not None:
        return f"made from another {read} than is there now: sha256 {found}"
    return f"made from {read}, which {'has no manifest' if os.path.lexists(read) else 'is gone'}"


def _recorded(
    results: Path, read: str, manifests: Mapping[str, Manifest], damaged: Collection[str]
) -> tuple[str, str | None]:
    """The output that an input is, or is in, and the input's SHA-256 by its manifest: none without one."""
    of_manifest = read.endswith((SUFFIX, "/manifest.json"))
    inside = read.removesuffix(SUFFIX).removesuffix("/manifest.json")
    names = (inside, *map(str, PurePosixPath(inside).parents))
    name = next((each for each in names if each in manifests or each in damaged), inside)
    if name not in manifests:
        return name, None
    if of_manifest or (name == inside and (results / name).is_dir()):
        return name, sha256(manifest_of(results / name))
    checksums = manifests[name].checksums
    own = inside.removeprefix(f"{name}/") if name != inside else next(iter(checksums), "")
    return name, checksums.get(own)


def _is_newer(file: Path, output: Path) -> bool:
    """Whether Snakemake would make ``output`` again for this input."""
    made = [manifest_of(output)] if output.is_dir() else [output, manifest_of(output)]
    try:
        return file.stat().st_mtime > min(each.stat().st_mtime for each in made)
    except OSError:
        return False


def outputs_of(suite: Suite) -> set[str]:
    """Every file that the suite's rules make, relative to the results folder."""
    dag, paths = Dag(suite), Paths(suite.results)
    files = [
        str(paths.queries(name, split))
        for name, task in suite.tasks.items()
        for split, size in task.sizes.model_dump().items()
        if size != 0
    ]
    for model in suite.models:
        files += [str(manifest_of(paths.base(model))), str(paths.check(model))]
    files += [*dag.predictions(), *dag.cases(), *dag.gallery(), *dag.figures(), str(paths.long)]
    files += [str(paths.results / name) for name in ("suite.yaml", "suite.html")]
    files += [path for table in dag.every_table() for path in dag.table(Path(table).stem)]
    files += dag.pilot_outputs() if suite.pilot else []
    files += dag.requests()
    for run in grid.evaluations(suite):
        if run.model in suite.models and not grid.is_graded(suite, run):
            files += dag.responses(run.id)
    for run in grid.runs(suite):
        files += [file.removesuffix(".manifest.json") for file in dag.encodable(run.id)]
        if grid.is_adopted(suite, run):
            files.append(dag.checkpoint(run.id))
        if grid.is_trained(suite, run):
            files += [str(paths.training_set(run.id)), str(manifest_of(paths.trained(run.id)))]
            files.append(str(paths.history(run.id)))
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
        file = output
        if len(path.parts) == DEPTHS.get(stage) and not output.endswith(BESIDE):
            file = f"{output}/manifest.json"
        if stage == "rollouts" and "critical" in parts[-3:-2]:
            file = str(path.parents[2].joinpath("resamples", *parts[-2:]))
        found[output] = file if file in known else None
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
        *(dag.pilot_outputs() if suite.pilot else []),
        *(file for file in dag.figures() if file.endswith(".pdf")),
        *dag.gallery()[:1],
    ]
    targets = [file for file in wanted if Path(file).is_file()]
    files = [str(suite.results / name) for name in dict.fromkeys(damaged)]
    # Targets come first: after an option, Snakemake would read them as its values.
    pilot = [] if suite.pilot is None else ["--config", f"pilot={suite.pilot}"]
    words = ["snakemake", "--cores", "all", *targets, "--configfile", str(configfile), *pilot]
    return shlex.join([*words, "--forcerun", *files])


def file_of(suite: Suite) -> Path:
    """Where a resolved suite was most likely written: ``config/<name>.yaml``."""
    name = suite.name if suite.pilot is None else suite.name.removesuffix(ENDING)
    return Path("config") / f"{name}.yaml"


def _to_delete(suite: Suite, output: str) -> Path:
    """What to delete of an output that the suite lacks: of a folder that holds others, its manifest."""
    path = suite.results / output
    holds_others = any(name.startswith(f"{output}/") for name in outputs_of(suite))
    return manifest_of(path) if holds_others else path


def as_dict(report: Report, suite: Suite, configfile: Path) -> dict[str, Any]:
    """What was found as plain values, for ``--json``: nothing in it depends on when it was asked."""
    files = files_to_make(suite, sorted(report.again)) if report.again else {}
    again = [file for file in files.values() if file is not None]
    return {
        "suite": suite.name,
        "results": str(suite.results),
        "outputs": report.outputs,
        "files": report.files,
        "damaged": [
            {"output": output, "file": str(each.file), "found": each.found, "expected": each.expected}
            | {"added": each.is_added}
            for output, found in report.damaged.items()
            for each in found
        ],
        "command": command(suite, again, configfile) if again else None,
        "delete": [str(_to_delete(suite, name)) for name, file in files.items() if file is None],
        "waiting": report.waiting,
        "edited": {str(path): outputs for path, outputs in report.edited.items()},
        "mixed_versions": report.mixed,
    }


def tell(report: Report, suite: Suite, configfile: Path, console: Console) -> None:
    """Print what was found, and what to do about it."""
    lines = [str(damage) for found in report.damaged.values() for damage in found]
    count = len(lines)
    said = f"{report.files} files of {report.outputs} outputs checked: "
    lines.append(said + (f"{count} damaged" if count else "all are what was made"))
    files = files_to_make(suite, sorted(report.again)) if report.again else {}
    if added := [str(each.file) for found in report.damaged.values() for each in found if each.is_added]:
        lines.append(f"Delete what was added: {', '.join(added)}")
    if again := [file for file in files.values() if file is not None]:
        lines += [
            "Restore copies of the damaged files, or make them and everything made from them again:",
            f"  {command(suite, again, configfile)}",
        ]
    if gone := [name for name, file in files.items() if file is None]:
        told = ", ".join(str(_to_delete(suite, name)) for name in gone)
        lines.append(f"Suite {suite.name} no longer has these; delete them: {told}")
    if report.waiting:
        lines.append(
            "Not yet made again, though what they are made from was; a snakemake that needs them makes them:"
        )
        lines += [f"  {suite.results / name}: {', '.join(read)}" for name, read in report.waiting.items()]
    for path, outputs in report.edited.items():
        lines.append(f"{path} was edited since this was made from it: {examples(outputs)}")
    if report.mixed:
        lines += ["The outputs were made with different versions of packages:"]
        lines += [f"  {line}" for line in report.mixed]
    for line in lines:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
