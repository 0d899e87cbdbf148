"""Checking a checkpoint's files against its manifest: one file after another, and several at a time.

``python benchmarks/checksums.py`` prints GB/s of both, in one process, and their ratio. Every stage
checks what it reads in this way before it starts (``vista.damage``).
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from vista.damage import damages, sha256

FILES, MEGABYTES = 8, 64  # in the page cache, as a checkpoint that is about to be loaded


def main() -> None:
    """Write the files, and time both ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(FILES):
            (folder / f"{number}.safetensors").write_bytes(os.urandom(MEGABYTES * 10**6))
        start = time.perf_counter()
        checksums = {file.name: sha256(file) for file in folder.iterdir()}
        one = time.perf_counter() - start
        start = time.perf_counter()
        found = damages(folder, checksums, {})
        several = time.perf_counter() - start
    if found:
        raise RuntimeError(f"files changed while they were read: {found}")
    size = FILES * MEGABYTES / 1000
    print(f"one by one {size / one:.2f} GB/s, together {size / several:.2f} GB/s: {one / several:.1f} times")


if __name__ == "__main__":
    main()
