"""What a run shows in a terminal: one bar over all jobs, what runs now, and how long the rest may take.

Snakemake's own messages and what jobs print would scroll it away. They are in Snakemake's log and in each
job's, and what the shells around jobs say (that one was killed) in a log of its own; warnings and errors
appear above the bar.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
from pathlib import Path
from typing import TextIO

from rich.ansi import AnsiDecoder
from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vista.dag.told import Progress, duration
from vista.errors import writing

SHOWN = 6  # jobs at work
WIDTH = 40  # of the bar, characters


class Board:
    """A live display of ``progress``, for as long as it is started.

    Args:
        progress: Is told of the jobs by whoever runs them.
        log: Gets what jobs print meanwhile, and the shells around them.
        handler: Writes Snakemake's messages; its stream is a terminal.
    """

    def __init__(self, progress: Progress, log: Path, handler: logging.StreamHandler[TextIO]) -> None:
        self.progress = progress
        self.log = log
        self.handler = handler
        self.live: Live | None = None

    def start(self) -> None:
        """Show the board; what processes started from now on print goes to the log.

        Raises:
            VistaError: the log cannot be written.
        """
        if self.live is not None:
            return
        with writing(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            quiet = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        self.before = (sys.stdout, sys.stderr, self.handler.stream, os.dup(1), os.dup(2))
        terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)
        for number in (1, 2):
            os.dup2(quiet, number)
        os.close(quiet)
        console = Console(file=terminal, force_terminal=True)
        fit(console)
        sys.stdout = sys.stderr = Above(console)
        self.live = Live(
            get_renderable=self.drawn,
            console=console,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.live.start()
        self.handler.setStream(sys.stderr)
        self.handler.addFilter(is_serious)
        atexit.register(self.stop)

    def stop(self) -> None:
        """Take the board away, and let messages and jobs print again."""
        if self.live is None:
            return
        if isinstance(sys.stderr, Above):
            sys.stderr.end()
        self.live.stop()
        terminal = self.live.console.file
        self.live = None
        sys.stdout, sys.stderr, stream, *kept = self.before
        self.handler.setStream(stream)
        self.handler.removeFilter(is_serious)
        for number, handle in zip((1, 2), kept, strict=True):
            os.dup2(handle, number)
            os.close(handle)
        terminal.close()
        atexit.unregister(self.stop)

    def drawn(self) -> Group:
        """The bar and the jobs at work, the longest first."""
        if self.live is not None:
            fit(self.live.console)
        done, total = self.progress.done, self.progress.total
        seconds = self.progress.seconds_left()
        line = Table.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(max(total, 1), done, width=WIDTH),
            f"{done} of {total} jobs",
            "" if seconds is None else f"about {duration(seconds)} left",
        )
        jobs = Table.grid(padding=(0, 2))
        working = self.progress.at_work()
        for name, since in working[:SHOWN]:
            jobs.add_row(
                Text(duration(since), justify="right"), Text(name, overflow="ellipsis", no_wrap=True)
            )
        rest = len(working) - SHOWN
        return Group(line, jobs, *([Text(f"and {rest} more")] if rest > 0 else []))


class Above(io.StringIO):
    """What is written here appears above what a console shows live, in whole lines, which are not broken.

    rich's own stand-in for a stream breaks them, and with them paths and commands that are to be copied.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.decoder = AnsiDecoder()
        self.begun = ""

    def write(self, text: str) -> int:
        """Print the lines that have ended."""
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            self.console.print(self.decoder.decode_line(line), soft_wrap=True)
        return len(text)

    def end(self) -> None:
        """Print a line that has no end yet."""
        if self.begun:
            self.write("\n")

    def isatty(self) -> bool:
        """Whether colours are shown."""
        return True


def fit(console: Console) -> None:
    """Make a console as wide as the terminal that it writes to; rich asks the standard streams instead."""
    columns, lines = os.get_terminal_size(console.file.fileno())
    if columns:  # of a terminal that knows
        console.size = ConsoleDimensions(columns, lines or console.size.height)


# How Snakemake begins to say, in passing, that it ends before all is done.
ENDING = ("Terminating", "Will exit", "Shutting down")


def is_serious(record: logging.LogRecord) -> bool:
    """Whether a message is a warning or an error, or says that the run is ending early."""
    return record.levelno >= logging.WARNING or str(record.msg).startswith(ENDING)


def is_wanted(local: bool, shows_more: bool) -> bool:
    """Whether a run shows a board: on this machine, in a terminal, unless it is asked to say more or less.

    Args:
        local: Whether jobs run on this machine.
        shows_more: Whether the command line says what is to be printed.
    """
    in_terminal = sys.stdout.isatty() and sys.stderr.isatty()
    # Such as an editor's shell, in which no line can be drawn anew.
    return local and not shows_more and in_terminal and not Console(file=sys.stderr).is_dumb_terminal
