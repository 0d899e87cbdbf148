"""Which suite a command means: a suite file, a resolved suite, or a results folder that has one."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from vista.config import Suite, load_resolved, load_suite
from vista.errors import VistaError

RESOLVED = "suite.json"  # what the Snakefile writes into a results folder
WANTED = (
    "name one suite: a suite file (config/smoke.yaml, or --configfile config/smoke.yaml), "
    f"or a results folder with a {RESOLVED}"
)
MOST = 10  # suites that a message offers


def named_suite(named: Path | None, configfile: Path | None) -> tuple[Suite, Path | None]:
    """The suite that a user names.

    Args:
        named: A suite file; a resolved suite, whose name ends in ``.json``; or a results folder.
        configfile: A suite file, as Snakemake takes it.

    Returns:
        The suite, and the file it was written in if that was named.

    Raises:
        VistaError: neither or both are named, or there is no such suite.
    """
    if (named is None) == (configfile is None):
        raise VistaError(f"{WANTED}{_offered(Path('results'))}")
    if configfile is not None:
        return load_suite(configfile), configfile
    assert named is not None  # noqa: S101 - one of the two is
    if named.is_dir():
        if not (named / RESOLVED).is_file():
            raise VistaError(f"{named}: has no {RESOLVED}; {WANTED}{_offered(named)}")
        return load_resolved(named / RESOLVED), None
    if named.suffix == ".json":
        return load_resolved(named), None
    return load_suite(named), named


def found_suites(folder: Path) -> dict[Path, str]:
    """By file, the names of the resolved suites in ``folder`` and in the folders right below it."""
    found = {}
    for file in sorted([*folder.glob(RESOLVED), *folder.glob(f"*/{RESOLVED}")]):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found[file] = str(json.loads(file.read_text(encoding="utf-8"))["name"])
    return found


def _offered(folder: Path) -> str:
    """What there is to choose from, as the end of a message."""
    found = found_suites(folder)
    listed = [f"{file.parent} ({name})" for file, name in found.items()]
    more = [f"{len(listed) - MOST} more"] if len(listed) > MOST else []
    return f"; there are results of: {', '.join([*listed[:MOST], *more])}" if listed else ""
