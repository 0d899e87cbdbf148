"""Where a benchmark's published files are: a local copy, or the hub at a pinned revision.

Part of stage ``tasks``. The network is touched only if a file is neither in the local copy nor in
the hub library's cache.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vista.errors import VistaError
from vista.settings import REPOSITORY, Strict, UserPath

Patterns = Sequence[Sequence[str]]


class HubFiles(Strict):
    """A data set's published files on the Hugging Face hub, at a pinned revision."""

    kind: Literal["hub"] = Field(description="A data set of the Hugging Face hub.")
    repo: str = Field(pattern=REPOSITORY, description="owner/name on the hub.")
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        description="The commit, 40 hex digits; null: not pinned yet, so it can be planned but not run."
    )


class LocalFiles(Strict):
    """A local copy of a data set's published files."""

    kind: Literal["path"] = Field(description="A folder on disk.")
    path: UserPath = Field(description="The folder, absolute or relative to the working directory.")


def root_of(name: str, source: HubFiles | LocalFiles, patterns: Patterns, fetch: bool = True) -> Path:
    """The folder with the published files of task ``name``, downloaded first if need be.

    Args:
        name: The task's name in the suite.
        source: Where its files are.
        patterns: Globs relative to the folder; of every inner list one has to match.
        fetch: Whether what the hub library's cache lacks may be downloaded.

    Raises:
        VistaError: the folder or a file is missing, or the hub cannot be reached.
    """
    if isinstance(source, HubFiles):
        return _hub_folder(name, source, patterns, fetch)
    folder = source.path
    if not folder.is_dir():
        raise VistaError(f"task {name!r}: source.path {folder}: no such folder; correct the path")
    missing = missing_files(folder, patterns)
    if missing:
        raise VistaError(f"task {name!r}: {folder}: {'; '.join(missing)}; copy the files as published there")
    return folder


def matches(root: Path, alternatives: Sequence[str]) -> list[Path]:
    """Files of the first glob that matches any, in order of their names."""
    for pattern in alternatives:
        found = sorted(root.glob(pattern))
        if found:
            return found
    return []


def missing_files(root: Path, patterns: Patterns) -> list[str]:
    """What ``root`` lacks: files that match nothing, and shards of sets that are not complete."""
    lines = []
    for alternatives in patterns:
        found = matches(root, alternatives)
        if not found:
            lines.append(f"no file {' or '.join(alternatives)}")
        for path in found[:1]:
            sharded = re.search(r"-of-(\d+)", path.name)
            if sharded and len(found) != int(sharded.group(1)):
                lines.append(f"{len(found)} of the {int(sharded.group(1))} files {alternatives[0]}")
            elif sharded:
                lines += _strange(found, alternatives[0])
    return lines


def inside(folder: Path, name: str) -> Path:
    """The file ``name`` of ``folder``, links followed.

    Raises:
        VistaError: it is outside the folder, or no file can have such a name.
    """
    try:
        found = (folder / name).resolve()
        lies_inside = found.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links; a NUL
        raise VistaError(
            f"{name!r} cannot be the name of a file in {folder} ({error}); correct the row"
        ) from error
    if not lies_inside:
        raise VistaError(
            f"{name!r} is outside {folder}, at {found}; put the file in the folder, and correct the row"
        )
    return found


def _strange(files: Sequence[Path], pattern: str) -> list[str]:
    """A line if the shards are not all there, each once."""
    numbers = [int(n) for path in files for n in re.findall(r"-(\d+)-of-\d+", path.name)]
    if sorted(numbers) == list(range(len(files))):
        return []
    return [f"not each of the {len(files)} files {pattern} once, but {', '.join(f.name for f in files)}"]


def _hub_folder(name: str, source: HubFiles, patterns: Patterns, fetch: bool) -> Path:
    """The cached snapshot if it has all files; else what can be downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if source.revision is None:
        raise VistaError(
            f"task {name!r}: source.revision: null, so {source.repo} is not pinned; write the commit that "
            f"`git ls-remote https://huggingface.co/datasets/{source.repo} HEAD` prints"
        )
    wanted = [pattern for alternatives in patterns for pattern in alternatives]
    download = partial(
        snapshot_download, source.repo, repo_type="dataset", revision=source.revision, allow_patterns=wanted
    )
    where = f"task {name!r}: data set {source.repo} at {source.revision[:10]}"
    remedy = (
        f"where there is a network, run `hf download --repo-type dataset {source.repo} "
        f"--revision {source.revision} --local-dir FOLDER`, copy the folder, "
        "and set source: {kind: path, path: FOLDER}"
    )
    try:
        cached = Path(download(local_files_only=True))
        if not missing_files(cached, patterns):
            return cached
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as error:
        raise VistaError(
            f"{where}: source.repo: not the name of a repository ({error}); correct it"
        ) from error
    if not fetch:
        raise VistaError(f"{where}: not in the cache, or not all of it; {remedy}")
    try:
        folder = Path(download())
    except HfHubHTTPError as error:
        raise VistaError(f"{where}: the hub refuses it ({error}); check repo and revision") from error
    except OSError as error:
        reason = " ".join(str(error).split())
        raise VistaError(
            f"{where}: not in the cache, and the hub cannot be reached ({reason}); {remedy}"
        ) from error
    missing = missing_files(folder, patterns)
    if missing:
        raise VistaError(f"{where}: {'; '.join(missing)}; if that revision should have them, {remedy}")
    return folder
