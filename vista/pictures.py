"""Loose pictures that queries were made of: noted beside the queries, and compared with what is there now.

They are inputs of no rule, since there may be a hundred thousand: Snakemake would look at each of them
several times. The note has their sizes and digests. A plan asks for sizes and times alone, and reads only
pictures that are younger than the note; times by themselves, which copying changes, make nothing stale.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from vista.damage import sha256
from vista.records import write_text


class Pictures:
    """Reads pictures, and keeps in mind what they were."""

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
