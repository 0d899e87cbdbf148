"""Files compared with what was recorded of them: their names, sizes and SHA-256.

What is recorded may come from a stranger. So nothing but regular files is read, and none outside the output,
except where the links of a base checkpoint lead.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vista.records import write_text
from vista.shown import in_one_line

THREADS = 4  # hashing releases Python's lock; more threads do not make a disk faster
EMPTY = hashlib.sha256().hexdigest()  # of no bytes


@dataclass(frozen=True)
class Damage:
    """A file that is not what its manifest says."""

    file: Path
    found: str  # what is wrong with it, in words
    expected: str
    is_added: bool = False  # the manifest does not list it: it is to be deleted, not made again

    def __str__(self) -> str:
        return in_one_line(f"{self.file}: {self.found}; expected {self.expected}")


def sha256(path: Path) -> str:
    """Fingerprint of a file's bytes. One of no size is not read: some of /proc keep a reader waiting."""
    if path.stat().st_size == 0:
        return EMPTY
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_regular_below(file: Path, *folders: Path) -> bool:
    """Whether a path leads, after all links, to a regular file in one of ``folders``."""
    try:
        return stat.S_ISREG(file.stat().st_mode) and any(_is_below(file, folder) for folder in folders)
    except (OSError, ValueError):  # of a name that no file can have
        return False


def _is_below(file: Path, folder: Path) -> bool:
    # Path.resolve raises a RuntimeError for links that lead in a circle.
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))


def files_below(folder: Path) -> dict[str, Path]:
    """By name, what an output's folder holds besides its manifest, at any depth.

    Everything counts that is not a folder, links to folders too; not hidden files, such as those that network
    file systems keep of open ones.
    """
    found = {}
    for where, folders, files in os.walk(folder):
        here = Path(where)
        for name in sorted([*files, *(each for each in folders if (here / each).is_symlink())]):
            found[str((here / name).relative_to(folder))] = here / name
        folders[:] = sorted(each for each in folders if not each.startswith("."))
    hidden = {name for name in found if Path(name).name.startswith(".")}
    return {name: path for name, path in found.items() if name not in {*hidden, "manifest.json"}}


def files_of(output: Path, checksums: Mapping[str, str]) -> dict[str, Path]:
    """The paths of the files that a manifest has checksums of, by their names in it.

    Args:
        output: The file or folder that the manifest is of, under whatever name it has now.
        checksums: From the manifest; of a file, its own alone.
    """
    if output.is_file() and len(checksums) == 1:
        return dict.fromkeys(checksums, output)
    folder = output if output.is_dir() else output.parent
    return {name: folder / name for name in checksums}


def damages(
    output: Path,
    checksums: Mapping[str, str],
    sizes: Mapping[str, int],
    checked: Callable[[], object] = lambda: None,
    links: bool = False,
    passed: Collection[str] = (),
) -> list[Damage]:
    """Every file of ``output`` that is missing, of another size, of other bytes, or was added to its folder.

    Args:
        output: The file or folder.
        checksums: SHA-256 of each of its files.
        sizes: Bytes of each, where the manifest has them: then only files of the right size are read.
        checked: Called after each file.
        links: Whether its files may be links to files elsewhere, as in a base checkpoint's folder.
        passed: Names of files that are not looked at, whether they are there or not.
    """
    files = {name: file for name, file in files_of(output, checksums).items() if name not in passed}
    inside = output if output.is_dir() else output.parent

    def check(item: tuple[str, Path]) -> Damage | None:
        name, file = item
        found = _damage(file, None if links else inside, checksums[name], sizes.get(name))
        checked()
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        found = [each for each in pool.map(check, files.items()) if each is not None]
    if output.is_dir():
        added = [file for name, file in files_below(output).items() if name not in checksums]
        found += [
            Damage(file, "was not made here", "no such file: delete it", is_added=True) for file in added
        ]
    return found


def _damage(file: Path, inside: Path | None, digest: str, size: int | None) -> Damage | None:
    expected = f"sha256 {digest}"
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            return Damage(
                file, "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file", expected
            )
        if inside is not None and not _is_below(file, inside):
            return Damage(file, f"a link to {os.path.realpath(file)}, which is not read", expected)
        if size is not None and status.st_size != size:
            how = "cut short" if status.st_size < size else "too long"
            return Damage(file, f"{how}: {status.st_size:,} bytes", f"{size:,} bytes, {expected}")
        found = sha256(file)
    except FileNotFoundError:
        link = f"a link to {file.readlink()}, which is missing" if file.is_symlink() else "missing"
        return Damage(file, link, expected)
    except OSError as error:
        return Damage(file, f"cannot be read: {error.strerror}", expected)
    return None if found == digest else Damage(file, f"other bytes: sha256 {found}", expected)


# --- loose pictures, which no rule declares ---


class Pictures:
    """Reads loose pictures, and notes beside the queries that are made of them what they were.

    They are inputs of no rule, since there may be a hundred thousand: Snakemake would look at each of them
    several times. A plan asks for their sizes and times, and reads only those that are younger than the note;
    times by themselves, which copying changes, make nothing stale.
    """

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, str]] = {}  # by path, bytes and SHA-256

    def read(self, path: Path) -> bytes:
        """The bytes of a picture.

        Raises:
            OSError: it cannot be read.
        """
        content = path.read_bytes()
        if str(path) not in self.found:
            self.found[str(path)] = len(content), hashlib.sha256(content).hexdigest()
        return content

    def note(self, queries: Path) -> None:
        """Write down what was read, beside the queries that were made of it."""
        note = _note_of(queries)
        if self.found:
            write_text(note, json.dumps(self.found, ensure_ascii=False))
        else:
            note.unlink(missing_ok=True)


def changed_picture(queries: Path) -> str | None:
    """A picture that is another one now than when queries were made of it; one that is gone is none."""
    note = _note_of(queries)
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        written = note.stat().st_mtime_ns
    except (OSError, ValueError):  # made before there were notes, or not of loose pictures
        return None
    for name, (size, digest) in noted.items():
        try:
            now = Path(name).stat()
            is_same = now.st_size == size and (now.st_mtime_ns <= written or sha256(Path(name)) == digest)
        except OSError:
            continue
        if not is_same:
            return str(name)
    return None


def _note_of(queries: Path) -> Path:
    return queries.with_name(f".{queries.stem}.pictures.json")
