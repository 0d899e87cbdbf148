"""Which suite a command of ``vista`` means, and which one the words typed for ``snakemake``."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from vista.config import Suite, load_resolved, load_suite, load_yaml
from vista.config.pilot import ENDING
from vista.errors import VistaError
from vista.manifest import SUFFIX

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


# --- what is typed for snakemake ---


def eaten_target(configfiles: Sequence[Path]) -> str | None:
    """What to tell if ``--configfile`` took a target that follows it for another config file.

    Only a target that is there, and that reads as YAML, gets as far as the Snakefile: any other ends
    Snakemake before.

    Args:
        configfiles: As Snakemake has them.
    """
    for file in configfiles:
        in_results = any((folder / RESOLVED).is_file() for folder in file.absolute().parents)
        if in_results or file.suffix not in (".yaml", ".yml", ".json"):
            name = os.path.relpath(file)
            others = [os.path.relpath(other) for other in configfiles if other != file]
            return (
                f"{name}: is no config file; --configfile takes every word up to the next option. Targets "
                f"come first: snakemake {name} --configfile {' '.join(others) or 'config/….yaml'}"
            )
    return None


def strange_target(targets: Iterable[str], suite: Suite, configfile: Path, root: Path) -> str | None:
    """What to tell if a target lies in the results folder of another suite than the one that was read.

    Args:
        targets: As they were typed.
        suite: The suite that was read.
        configfile: The file that it was read from.
        root: The folder of the Snakefile, whose ``config`` has the other suites.
    """
    folders: dict[Path, list[Path]] = {}
    for file in sorted({*root.glob("config/*.yaml"), *Path().glob("config/*.yaml")}):
        with suppress(VistaError):
            if isinstance(folder := load_yaml(file).get("results"), str):
                folders.setdefault(Path(folder).absolute(), []).append(file)
    own = suite.results.absolute()
    folders[own] = [configfile]
    pilots = {
        folder.with_name(f"{folder.name}{ENDING}"): folders[folder] for folder in folders if folder.name
    }
    for target in targets:
        above = [folder for folder in {*folders, *pilots} if folder in Path(target).absolute().parents]
        nearest = max(above, key=lambda folder: len(folder.parts), default=own)
        if nearest != own and nearest in pilots:
            right = os.path.relpath(pilots[nearest][0])
            return (
                f"{target}: is of a pilot. Without `pilot`, {os.path.relpath(configfile)} has its results in "
                f"{suite.results}; run: snakemake {target} --configfile {right} --config pilot=8"
            )
        if nearest != own:
            right = os.path.relpath(folders[nearest][0])
            return (
                f"{target}: is of another suite. {os.path.relpath(configfile)} was read, whose results are "
                f"in {suite.results}; run: snakemake {target} --configfile {right}"
            )
    return None


def unmade_target(
    targets: Iterable[str], suite: Suite, made: Collection[str], rules: Collection[str] | None
) -> str | None:
    """What to tell if no rule makes a target.

    Args:
        targets: As they were typed.
        suite: The suite that was read.
        made: Every file that its rules make, relative to its results folder.
        rules: The rules that can be named as a target; ``None``: somebody else's may make files elsewhere.
    """
    files = [file for file in made if not file.endswith(SUFFIX)]
    for target in targets:
        path = Path(os.path.abspath(target))  # as it reads, without what links make of it
        if path.exists() or (rules is not None and target in rules):
            continue
        if path.is_relative_to(suite.results.absolute()):
            name = path.relative_to(suite.results.absolute()).as_posix()
            if name not in made and name.removesuffix(SUFFIX) not in made:
                hint = _nearest(name.removesuffix(SUFFIX), files, suite.results)
                return f"{target}: suite {suite.name!r} makes no such file; {hint}"
        elif rules is not None:
            known = [*rules, *(str(suite.results / file) for file in files)]
            close = difflib.get_close_matches(target, known, n=1, cutoff=0.7)
            hint = f"did you mean {close[0]}?" if close else f"rules that can be named: {_listed(rules)}"
            return f"{target}: is no rule, and no file that one makes; {hint}"
    return None


def _nearest(name: str, made: Iterable[str], results: Path) -> str:
    """The file that may be meant: of the same folder, if there is one; else what there is."""
    files = [PurePosixPath(file) for file in sorted(made, reverse=True)]
    wanted = PurePosixPath(name)
    if below := [file for file in files if file.is_relative_to(wanted)]:
        return f"it is a folder of such files; name one, as {results / below[-1]}"
    files.sort(key=lambda file: file.suffix == wanted.suffix)
    beside = {file.stem: file for file in files if file.parent == wanted.parent}
    if close := difflib.get_close_matches(wanted.stem, beside, n=1):
        return f"did you mean {results / beside[close[0]]}?"
    if beside:
        return f"of that folder it makes {_listed(beside)}"
    if close := difflib.get_close_matches(name, map(str, files), n=1, cutoff=0.8):
        return f"did you mean {results / close[0]}?"
    return f"folders of its files: {_listed({file.parts[0] for file in files if len(file.parts) > 1})}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
