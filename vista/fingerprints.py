"""Which source files decide what a stage computes, as one small file that the rules of the stage read.

Serves ``vista.dag`` alone: an edited module makes exactly the outputs stale that depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import vista
from vista.checksums import sha256
from vista.errors import writing
from vista.paths import Paths
from vista.records import write_text

PACKAGE = Path(vista.__file__).parent

# Shared modules that decide what a stage computes. The others (config, grid, paths, manifest,
# cli) only carry values and names: what they change shows in a rule's params or file names.
PROMPTS = ["chat.py", "images.py", "wording.py"]
SHARED_CODE: dict[str, list[str]] = {
    "tasks": ["records.py", "seeding.py"],
    "models": ["records.py", "seeding.py", *PROMPTS, "engines"],
    "rollouts": [
        *("records.py", "seeding.py", *PROMPTS, "segments.py", "answers.py"),
        *("engines", "testbed"),
    ],
    "curation": ["records.py", "seeding.py", *PROMPTS, "testbed"],
    "training": ["records.py", "seeding.py", *PROMPTS, "engines"],
    "evaluation": ["records.py", "seeding.py", *PROMPTS, "answers.py", "engines"],
    "analysis": ["records.py"],
    "figures": ["figures/drawing.py", "figures/vista.mplstyle"],
}


def write_fingerprint(
    paths: Paths, stage: str, part: str = "**", also: Sequence[str] = (), without: str = ""
) -> Path:
    """A file that changes when code changes that the outputs of ``stage`` depend on.

    It holds the SHA-256 of every such source file, and is written anew only if that differs.
    One input in place of some twenty for each job: Snakemake's plan takes two thirds of the time.

    Args:
        paths: Where the file is to lie.
        stage: Name of the stage.
        part: Glob of the stage's own modules, when a rule depends on some of them only.
        also: Further shared modules that a rule depends on.
        without: A folder of the stage that a rule does not depend on.
    """
    own = PACKAGE / stage
    files = [*own.rglob("*.py"), *own.rglob("*.yaml")] if part == "**" else [*own.glob(part)]
    files = [file for file in files if without not in file.relative_to(own).parts]
    for shared in [*SHARED_CODE[stage], *also]:
        path = PACKAGE / shared
        files += path.rglob("*.py") if path.is_dir() else [path]
    # Named from the package, so that a moved checkout is not stale.
    sums = {str(file.relative_to(PACKAGE)): sha256(file) for file in sorted(files)}
    parts = [stage, *([] if part == "**" else [part]), *also, *(["without", without] if without else [])]
    fingerprint = paths.code("-".join(Path(name).stem for name in parts))
    update(fingerprint, json.dumps(sums, indent=2) + "\n")
    return fingerprint


def update(file: Path, text: str) -> None:
    """Write ``text`` to a file that the Snakefile keeps, if it holds anything else.

    Several ``snakemake`` may do so at once: only later does one of them lock the folder.

    Raises:
        VistaError: the disk is full, read-only or not to be written by this user.
    """
    with writing(file):
        if not file.exists() or file.read_bytes() != text.encode():
            write_text(file, text, shared=True)
