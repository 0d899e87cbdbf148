"""Manifests of spoilt files, made to know them as they are.

A file that was changed since it was made is refused for that alone (``vista.manifest``). What a stage
says of a file that was malformed from the start is seen only if its manifest vouches for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from vista.damage import files_below, sha256


def vouch(folder: Path) -> None:
    """Write sizes and checksums anew into every readable manifest in ``folder``.

    What was added to a folder counts as made with it; of a file that is gone, the manifest goes too.
    """
    for manifest in [*folder.rglob("*.manifest.json"), *folder.rglob("manifest.json")]:
        try:
            value = json.loads(manifest.read_text())
            names = list(value["checksums"])
        except (ValueError, KeyError, TypeError):
            continue  # spoilt itself
        name = manifest.name.removesuffix(".manifest.json")
        files = {each: manifest.parent / each for each in names}
        if manifest.name == "manifest.json":
            files |= files_below(manifest.parent)
        else:
            files = dict.fromkeys(names, manifest.parent / name)
            if not (manifest.parent / name).is_file():
                manifest.unlink()
                continue
        present = {each: file for each, file in files.items() if file.is_file()}
        value["checksums"] = {each: sha256(file) for each, file in present.items()}
        value["sizes"] = {each: file.stat().st_size for each, file in present.items()}
        manifest.write_text(json.dumps(value))
