"""How long ``vista compare`` takes on two small files, beside what Python itself takes.

Run: ``python benchmarks/compare_start.py``. Prints the fastest of several starts of each command, in seconds,
and its ratio to ``python -c pass``. The fastest, since what else the machine does only makes a start slower.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

STARTS = 7


def seconds(words: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - started


def main() -> None:
    vista = [sys.executable, "-m", "vista.cli"]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("a.csv", "b.csv")]
        for shift, file in enumerate(files):
            rows = [f"q{i},{int((i + shift) % 3 == 0)}" for i in range(200)]
            file.write_text("\n".join(["id,score", *rows]) + "\n")
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "vista --help": [*vista, "--help"],
            "vista --version": [*vista, "--version"],
            "vista compare": [*vista, "compare", *map(str, files)],
        }
        least = {name: min(seconds(words) for _ in range(STARTS)) for name, words in commands.items()}
    for name, value in least.items():
        print(f"{name:16} {value:6.2f} s {value / least['python -c pass']:6.1f}")


if __name__ == "__main__":
    main()
