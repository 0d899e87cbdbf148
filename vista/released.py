"""Checkpoints whose weights were deleted once everything that reads them was made (``keep_checkpoints``).

The manifest stays: it says what was trained, and what was made from it is as sound as before. A copy of it in
``<results>/.released`` says that the weights are gone on purpose. A checkpoint that is trained again has
another manifest, and is not released.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from vista.errors import VistaError
from vista.paths import manifest_of
from vista.records import sync, write_text

WEIGHTS = ".safetensors"


def weights(names: Iterable[str]) -> list[str]:
    """Those of a checkpoint's files that hold weights."""
    return [name for name in names if name.endswith(WEIGHTS)]


def is_released(results: Path, checkpoint: Path) -> bool:
    """Whether a checkpoint's weights were deleted on purpose, or some of them if that was interrupted."""
    manifest = manifest_of(checkpoint)
    try:
        return _record(results, checkpoint).read_bytes() == manifest.read_bytes()
    except FileNotFoundError:
        return False


def without_released(output: Path, checksums: Mapping[str, str]) -> dict[str, str]:
    """What a manifest lists, without weights of a released checkpoint that are gone."""
    gone = [name for name in weights(checksums) if not os.path.lexists(output / name)]
    released = bool(gone) and (results := _results_of(output)) is not None and is_released(results, output)
    return {name: each for name, each in checksums.items() if not (released and name in gone)}


def refuse_released(inputs: Iterable[Path]) -> None:
    """Refuse to read the weights of released checkpoints.

    Raises:
        VistaError: names them, and how to train them again.
    """
    found = []
    for path in inputs:
        results = _results_of(path) if path.is_dir() else None
        if results is not None and is_released(results, path):
            found.append(path)
    if found:
        files = " ".join(str(manifest_of(path)) for path in found)
        raise VistaError(
            f"{', '.join(map(str, found))}: the weights were released (keep_checkpoints), since all that the "
            "suite makes from them was there; to train again, and make again what was made from them: "
            f"snakemake {files} --forcerun {files}"
        )


def _results_of(output: Path) -> Path | None:
    return next((parent for parent in output.parents if (parent / "suite.json").is_file()), None)


def release(results: Path, checkpoint: Path, names: Iterable[str]) -> int:
    """Delete a checkpoint's weights.

    Args:
        results: The results folder.
        checkpoint: The checkpoint's.
        names: The files that its manifest lists.

    Returns:
        Bytes that were freed.
    """
    # First, so that a release that is interrupted is known as one.
    write_text(_record(results, checkpoint), manifest_of(checkpoint).read_text(encoding="utf-8"))
    freed = 0
    for file in [checkpoint / name for name in weights(names)]:
        if file.is_file():
            freed += file.stat().st_size
            file.unlink()
    sync(checkpoint)
    return freed


def _record(results: Path, checkpoint: Path) -> Path:
    return results / ".released" / manifest_of(checkpoint).relative_to(results)
