"""A tiny benchmark on disk that every case may spoil in its own copy, and what a refusal must be like.

A case spoils one input and runs one command of the command line, in this process. ``refused`` then wants
exit status 2, one message that names what is wrong and says what to do, and not one file changed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.vouched import vouch
from vista import cli
from vista.records import Row

POLICY = "nano/grids/zero-shot/seed0/round0"
RUN = "nano/grids/vista/seed0/round1"
SUITE = "results/suite.json"
SAMPLES = "k2-t1-n40"
RESAMPLES = f"{SAMPLES}+prefix-j2-top1-swapped"
SCORES = f"{RESAMPLES}+positives"
ROLLOUTS = f"results/rollouts/{POLICY}"

CONFIG = "config suite.yaml"
TASKS = f"tasks {SUITE} cells train"
SEED = f"tasks {SUITE} cells seed"
MODELS = f"models {SUITE} nano"
SAMPLE = f"sample {SUITE} {POLICY} {SAMPLES} 0"
RESAMPLE = f"resample {SUITE} {POLICY} {RESAMPLES} 0"
SCORE = f"score {SUITE} {POLICY} {SCORES} 0"
GAINS = f"gains {SUITE} {POLICY} {SAMPLES}+positives 0"
CASES = f"cases {SUITE} {POLICY}"
CURATE = f"curate {SUITE} {RUN}"
TRAIN = f"train {SUITE} {RUN}"
EVALUATE = f"evaluate {SUITE} {POLICY}"
COLLECT = f"collect {SUITE}"
TABLES = f"tables {SUITE}"
PLAN = "plan --configfile suite.yaml --assume 'parameters={nano: 1.0e+6}'"

# What a remedy sounds like: something to do, what is known, or what is expected.
REMEDY = re.compile(
    r"\b(add|check|choose|collect|copy|correct|define|delete|download|evaluate|expected|export|fix|give|install|keep|known|leave|lower|"
    r"make|mend|must|name|point|put|quote|raise|remove|rename|replace|rerun|restore|run|save|say|see|set|"
    r"should|take|unpack|use|write|did you mean|it has)\b"
)


class World:
    """A copy of the tiny benchmark; its folder is the working directory."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.patch = patch

    def path(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, content: str | bytes) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.path(name).read_text()
        assert old in text, f"{name} has no {old!r}"
        self.write(name, text.replace(old, new))

    def yaml(self, name: str, edit: Callable[[Any], Any]) -> None:
        value = yaml.safe_load(self.path(name).read_text())
        edit(value)
        self.write(name, yaml.safe_dump(value, sort_keys=False))

    def json(self, name: str, edit: Callable[[Any], Any]) -> None:
        value = json.loads(self.path(name).read_text())
        edit(value)
        self.write(name, json.dumps(value))

    def table(self, name: str, edit: Callable[[pa.Table], pa.Table]) -> None:
        pq.write_table(edit(pq.read_table(self.path(name))), self.path(name))

    def rows(self, name: str, edit: Callable[[list[Row]], Any]) -> None:
        """Change the rows of a parquet file; its columns stay."""
        schema = pq.read_schema(self.path(name))
        rows = pq.read_table(self.path(name)).to_pylist()
        changed = edit(rows)
        pq.write_table(pa.Table.from_pylist(rows if changed is None else changed, schema), self.path(name))

    def cut(self, name: str, share: float = 0.5) -> None:
        data = self.path(name).read_bytes()
        self.write(name, data[: int(len(data) * share)])


Spoil = Callable[[World], Any]


@dataclass(frozen=True)
class Case:
    """One malformed input."""

    name: str
    command: str
    spoil: Spoil
    says: list[str]  # fragments of the message: file, field or row, and what is wrong


def case(name: str, command: str, says: list[str] | str, spoil: Spoil) -> Any:
    """A case, as a parameter of a test."""
    listed = [says] if isinstance(says, str) else says
    return pytest.param(Case(name, command, spoil, listed), id=name.replace(" ", "-"))


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str


@contextlib.contextmanager
def restored_environment() -> Iterator[None]:
    """Commands set threads and go offline; the next case starts as this one did."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def vista(command: str) -> Done:
    """Run one command of the command line in this process, as ``vista`` does."""
    out, err = io.StringIO(), io.StringIO()
    arguments = sys.argv
    with restored_environment(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = ["vista", *shlex.split(command)]
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            sys.argv = arguments
    return Done(status, out.getvalue(), err.getvalue())


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time, hidden ones as well."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or path.is_file():
            stat = path.lstat()
            found[str(path.relative_to(folder))] = (stat.st_size, stat.st_mtime_ns)
    return found


def _launched(*arguments: object) -> None:
    raise AssertionError(f"a launcher would have been started: {arguments}")


def refused(world: World, spoilt: Case) -> str:
    """Spoil, run, and make sure that the refusal is one; gives the message."""
    spoilt.spoil(world)
    vouch(world.folder)
    world.patch.setattr(os, "execv", _launched)
    before = files_below(world.folder)
    done = vista(spoilt.command)
    assert done.status == 2, f"status {done.status}\n{done.out[-2000:]}\n{done.err[-4000:]}"
    assert "Traceback" not in done.out + done.err
    messages = re.split(r"^error: ", done.err, flags=re.MULTILINE)
    assert len(messages) == 2, f"expected one message, found {len(messages) - 1}:\n{done.err[-4000:]}"
    message = messages[1]
    for fragment in spoilt.says:
        assert fragment in message, f"{fragment!r} is not in: {message}"
    assert REMEDY.search(message), f"no remedy in: {message}"
    assert len(message) < 4000, f"a message of {len(message)} characters: {message[:500]} …"
    assert files_below(world.folder) == before, "files were written or changed"
    return message
