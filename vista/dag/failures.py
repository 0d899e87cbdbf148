"""What failed jobs said last, for the end of Snakemake's output."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

LINES = 12
BYTES = 20_000  # more than the last lines of any log take


def last_lines(logs: Iterable[str | Path]) -> str:
    """The last lines of each log, under its name; one that is empty or missing is named as such."""
    return "\n".join(_quoted(Path(log)) for log in dict.fromkeys(map(str, logs)))


def _quoted(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - BYTES))
            said = file.read().decode(errors="replace")
    except FileNotFoundError:
        return f"{log}: not written; the job did not start, or its machine failed"
    # A progress bar overwrites itself; its last state is enough.
    lines = [line.rstrip().rsplit("\r", 1)[-1] for line in said.rstrip().split("\n")][-LINES:]
    if not any(lines):
        return f"{log}: empty"
    return "\n".join([f"{log}:", *(f"    {line}" for line in lines)])
