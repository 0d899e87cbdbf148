"""Files that a benchmark names must lie in its own folder. Part of stage ``tasks``."""

from __future__ import annotations

from pathlib import Path

from vista.errors import VistaError


def inside(folder: Path, name: str) -> Path:
    """The file ``name`` of ``folder``, links followed.

    Raises:
        VistaError: it lies elsewhere, or no file can have such a name.
    """
    try:
        found = (folder / name).resolve()
        lies_inside = found.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links; a NUL
        raise VistaError(f"{name!r} is no name of a file in {folder} ({error}); mend the row") from error
    if not lies_inside:
        raise VistaError(f"{name!r} lies outside {folder}, at {found}; put the file there, and mend the row")
    return found
