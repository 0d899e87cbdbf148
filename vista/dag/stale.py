"""Whether an output was made from what it would be made from now, by its manifest.

Snakemake remembers what it made outputs with in ``.snakemake``, which results that were copied or archived do
not have. The manifests lie beside the outputs, wherever these go.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from vista.manifest import SUFFIX, fingerprint, sha256
from vista.paths import manifest_of

ALONE = "manifest.json"  # a folder's manifest


class Stale:
    """Asks manifests of one results folder, each read once."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._read: dict[Path, dict[str, Any]] = {}
        self._now: dict[str, str | None] = {}
        self._located = cache(self._locate)

    def why(self, outputs: list[str], inputs: list[str], settings: str | None, code: str | None) -> str:
        """Why a job has to run again; nothing if its manifests do not say so.

        Args:
            outputs: The files that the job makes; those that are missing are not its business.
            inputs: The files that it reads.
            settings: The digest of what it would be made with, if it has settings.
            code: What the file with the checksums of its code says, if it has one.
        """
        read = {Path(file) for file in inputs}
        wanted = {"settings": settings, "code": None if code is None else fingerprint(code)}
        for file in map(Path, outputs):
            if (file.name == ALONE or file.name.endswith(SUFFIX)) and file.is_file():
                manifest = self._manifest(file)
                if spoilt := self._spoilt(file, manifest):
                    return f"{spoilt}: changed since it was made"
                recorded = manifest.get("digests") or {}
                for what, digest in wanted.items():
                    if digest is not None and recorded.get(what) != digest:
                        known = f"other {what}" if what in recorded else f"{what} that it does not tell"
                        return f"{file}: made with {known}"
                for name, made_from in dict(manifest.get("inputs") or {}).items():
                    if self.fingerprint(name) not in (made_from, None):
                        return f"{file}: made from another {name}"
                    if self._is_foreign(name, read):
                        return f"{file}: made from {name}, which belongs to another output"
        return ""

    def _spoilt(self, file: Path, manifest: dict[str, Any]) -> Path | None:
        """A table, a figure or the like that is not what was made: no job reads these, and refuses them.

        Other outputs may have cost days, and a copy may be at hand: the job that reads them says so.
        """
        if manifest.get("stage") != "analysis":
            return None
        listed = {file.with_name(name): sha for name, sha in dict(manifest.get("checksums") or {}).items()}
        there = [path for path in listed if path.is_file()]  # others are made again anyway
        return next((path for path in there if sha256(path) != listed[path]), None)

    def _is_foreign(self, name: str, read: set[Path]) -> bool:
        """Whether an input of the results is none that the job reads."""
        path = self._located(name)
        return path.is_relative_to(self.results) and not read & {path, manifest_of(path)}

    def _manifest(self, file: Path) -> dict[str, Any]:
        """A manifest as it is; an empty one, which fits nothing, where it cannot be read."""
        if file not in self._read:
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                found = None
            self._read[file] = found if isinstance(found, dict) else {}
        return self._read[file]

    def fingerprint(self, name: str) -> str | None:
        """What a manifest made now would record of an input; nothing if it is gone."""
        if name not in self._now:
            self._now[name] = self._fingerprint(self._located(name))
        return self._now[name]

    def _locate(self, name: str) -> Path:
        """An input of the results where they lie now, under the longest of its path's tails."""
        parts = Path(name).parts
        tails = (self.results.joinpath(*parts[start:]) for start in range(1, len(parts)))
        return next((path for path in tails if path.exists()), Path(name))

    def _fingerprint(self, path: Path) -> str | None:
        manifest = manifest_of(path)
        if path.is_dir():
            return sha256(manifest) if manifest.is_file() else None
        if not path.is_file():
            return None
        if manifest.is_file():
            return next(iter(dict(self._manifest(manifest).get("checksums") or {}).values()), None)
        return sha256(path)
