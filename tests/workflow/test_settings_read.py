"""What the jobs of the finished run read of the suite is what their digests, inputs and code depend on.

``tests/loaded/sitecustomize.py`` had each job write down the fields that it read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.test_digests import HELD, another, jobs, owner, parts
from vista import closure
from vista.config import Suite, load_resolved
from vista.settings import Strict

JOBS = {"tasks", "models", "sample", "resample", "score", "curate", "train", "evaluate", "collect", "cost"}
JOBS |= {"tables"}

# What jobs read that does not decide what they make, with the reason.
EXEMPT: dict[str, str] = {}


@dataclass(frozen=True)
class Traced:
    """A job of the run: its key in ``jobs``, the fields that it read, and the objects that it read whole."""

    key: tuple[str, str]
    read: frozenset[str]
    whole: frozenset[str]


def traced(folder: Path, suite: Suite) -> Iterator[Traced]:
    for file in sorted(folder.glob("*.json")):
        found = json.loads(file.read_text())
        command, _, *rest = found["arguments"]
        if command in JOBS:
            yield Traced(key_of(command, rest, suite), frozenset(found["read"]), frozenset(found["dumped"]))


def key_of(command: str, rest: list[str], suite: Suite) -> tuple[str, str]:
    if command == "tables":
        return "results", ""
    if len(rest) == 3:
        rest = [*rest[:2], f"{rest[2]}-of-{suite.shards}"]
    return command, "/".join(rest)


if __name__ == "__main__":
    import sys
    closure.write_checksums = lambda file, entries: None
    base = Path(sys.argv[1])
    suite = load_resolved(base / "results/smoke/suite.json")
    all_traced = list(traced(base / "loaded", suite))
    before = jobs(suite)
    less, more = {}, {}
    for path, settings, put in parts(suite, lambda new: new):
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if name == "kind" or isinstance(value, Strict) or (settings is suite and name in HELD): continue
            new = another(settings, name)
            if new == value: continue
            where = f"{path}.{name}".lstrip(".")
            try:
                after = jobs(put(settings.model_copy(update={name: new})))
            except Exception as e:
                print("!!", where, repr(e)[:100]); continue
            for job in all_traced:
                differs = after.get(job.key) != before[job.key]
                if where in job.read and not differs:
                    less.setdefault((owner(type(settings), name), job.key[0]), []).append(where)
                if differs and where not in job.read and path.lstrip(".") not in job.whole:
                    more.setdefault((owner(type(settings), name), job.key[0]), []).append(where)
    print("READ, NOT IN DIGEST"); [print("  ", k, sorted(set(v))[:3]) for k, v in less.items()]
    print("IN DIGEST, NOT READ"); [print("  ", k, sorted(set(v))[:3]) for k, v in more.items()]
