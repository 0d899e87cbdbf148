"""Whether an output was made from what it would be made from now, by its manifest.

Snakemake remembers what it made outputs with in ``.snakemake``, which results that were copied or archived do
not have. The manifests lie beside the outputs, wherever these go.
"""

from __future__ import annotations

import os
from pathlib import Path

from vista.damage import changed_picture, sha256
from vista.errors import VistaError
from vista.manifest import (
    SUFFIX,
    Input,
    Manifest,
    damages_of,
    fingerprint,
    inputs_of,
    kept_copy,
    misplaced,
    read_manifest,
)
from vista.paths import manifest_of

ALONE = "manifest.json"  # a folder's manifest


class Stale:
    """Asks the manifests of one results folder, each read once."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._read: dict[Path, Manifest | None] = {}
        self._now: dict[Path, str | None] = {}

    def why(self, outputs: list[str], inputs: list[str], settings: str | None, code: str | None) -> str:
        """Why a job has to run again; nothing if its manifests do not say so.

        Args:
            outputs: The files that the job makes. Those that are missing need not be made again for that.
            inputs: The files that it reads.
            settings: The digest of what it would be made with, if it has settings.
            code: What the file with the checksums of its code says, if it has one.
        """
        wanted = {"settings": settings, "code": None if code is None else fingerprint(code)}
        known = {name: digest for name, digest in wanted.items() if digest is not None}
        made, read = [Path(file) for file in outputs], set[Path]()
        for file in made:
            if (beside := manifest_of(file)) in made and file.is_file() and not beside.is_file():
                return f"{file}: has no manifest, so it is not known to be whole"
            if file.name == ALONE or file.name.endswith(SUFFIX):
                alone = file.name == ALONE
                output = file.parent if alone else file.with_name(file.name.removesuffix(SUFFIX))
                if not (file.is_file() or kept_copy(self.results, output).is_file()):
                    continue
                read = read or set(map(Path, inputs))  # once: tables have many of both
                if found := self._why(output, read, known):
                    return f"{output}: {found}"
        return ""

    def _why(self, output: Path, read: set[Path], wanted: dict[str, str]) -> str:
        manifest = self._manifest(output)
        if manifest is None:
            return "its manifest cannot be read"
        if other := misplaced(str(output.relative_to(self.results)), manifest):
            return f"its manifest is that of {other}"
        # A table, a figure or the like: no job reads these, and refuses them. Others may have cost days, and
        # a copy may be at hand: the job that reads them says so.
        if manifest.stage == "analysis" and output.exists() and damages_of(output, manifest):
            return "changed since it was made"
        if other := _other_source(output, manifest, read):
            return f"made from {other}, which is no file of its model now"
        if manifest.stage == "tasks" and (picture := changed_picture(output)):
            return f"made from another {picture}"
        for what, digest in wanted.items():
            if manifest.digests.get(what) != digest:
                return f"made with {'other ' if what in manifest.digests else 'untold '}{what}"
        for each in inputs_of(self.results, str(output.relative_to(self.results)), manifest):
            is_declared = bool(read & {each.path, manifest_of(each.path), _twin(each.path)})
            # A benchmark's published files are inputs of no rule: they lie in a cache, and may be huge.
            if not is_declared and (each.is_result or manifest.stage == "analysis"):
                return f"made from {each.path}, which it would not be made from now"
            if is_declared and self._fingerprint(each) not in (each.digest, None):
                return f"made from another {each.path}"
        return ""

    def _manifest(self, output: Path) -> Manifest | None:
        if output not in self._read:
            try:
                self._read[output] = read_manifest(output, kept_copy(self.results, output))
            except VistaError:
                self._read[output] = None
        return self._read[output]

    def _fingerprint(self, made_from: Input) -> str | None:
        """What a manifest made now would record of an input; if it is gone, of the last that was there."""
        path = made_from.path
        if path not in self._now:
            self._now[path] = self._recorded(path, made_from.is_result)
        return self._now[path]

    def _recorded(self, path: Path, is_result: bool) -> str | None:
        beside = manifest_of(path)
        kept = kept_copy(self.results, path) if is_result else beside
        if path.is_dir() or (not path.exists() and beside.name == ALONE):
            return next((sha256(file) for file in (beside, kept) if file.is_file()), None)
        if beside.is_file() or (kept.is_file() and not path.exists()):
            manifest = self._manifest(path)
            return None if manifest is None else next(iter(manifest.checksums.values()))
        return sha256(path) if path.is_file() else None


def _twin(path: Path) -> Path:
    """The resamples that the same job wrote critical tokens with, which no rule declares."""
    return Path(*("resamples" if part == "critical" else part for part in path.parts))


def _other_source(output: Path, manifest: Manifest, read: set[Path]) -> str | None:
    """Where a base checkpoint's links lead, if not to its model's files: a link to their folder may move."""
    if manifest.stage != "models" or not output.is_dir():
        return None
    named, sources = {file.name for file in read}, {os.path.realpath(file) for file in read}
    linked = [output / name for name in manifest.checksums if (output / name).is_symlink()]
    found = [os.path.realpath(file) for file in linked if file.name in named]
    return next((where for where in found if where not in sources), None)
