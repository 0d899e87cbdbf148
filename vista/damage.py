"""Files compared with what was recorded of them: their SHA-256, sizes and names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

THREADS = 4  # hashing releases Python's lock; more threads do not make a disk faster


@dataclass(frozen=True)
class Damage:
    """A file that is not what its manifest says."""

    file: Path
    found: str  # what is wrong with it, in words
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: {self.found}; expected {self.expected}"


def sha256(path: Path) -> str:
    """Fingerprint of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
) -> list[Damage]:
    """Every file of ``output`` that is missing, of another size or of other bytes.

    Args:
        output: The file or folder.
        checksums: SHA-256 of each of its files.
        sizes: Bytes of each, where the manifest has them: then only files of the right size are read.
        checked: Called after each file.
    """

    def check(item: tuple[str, Path]) -> Damage | None:
        name, file = item
        found = _damage(file, checksums[name], sizes.get(name))
        checked()
        return found

    files = files_of(output, checksums)
    with ThreadPoolExecutor(THREADS) as pool:
        return [found for found in pool.map(check, files.items()) if found is not None]


def _damage(file: Path, digest: str, size: int | None) -> Damage | None:
    expected = f"sha256 {digest}"
    try:
        found_size = file.stat().st_size
        if size is not None and found_size != size:
            how = "cut short" if found_size < size else "too long"
            return Damage(file, f"{how}: {found_size:,} bytes", f"{size:,} bytes, {expected}")
        found = sha256(file)
    except FileNotFoundError:
        link = f"a link to {file.readlink()}, which is missing" if file.is_symlink() else "missing"
        return Damage(file, link, expected)
    except OSError as error:
        return Damage(file, f"cannot be read: {error.strerror}", expected)
    return None if found == digest else Damage(file, f"other bytes: sha256 {found}", expected)
