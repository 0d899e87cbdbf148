"""Every value of a checkpoint's JSON files in turn replaced by one of another type, size or meaning.

``python -m tests.malformed.hostile [FILE …]`` tries all of them, which takes long, and prints what ends in
anything but an answer or one error.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vista.config import Loading
from vista.engines.checkpoints import load_checkpoint
from vista.errors import VistaError
from vista.fitness import _guarded, check_one_pass, check_segments
from vista.models.build import check_checkpoint
from vista.probe import SIZES, Probe, query

SOURCE = Path(__file__).parents[1] / "frozen/nano-qwen2.5-vl"
FILES = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
)
VALUES: tuple[Any, ...] = (None, "no", 0, -1, 0.5, math.nan, 10**12, [1, 2], {"x": 1})
Keys = tuple[str | int, ...]


def places(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Where each value is, at any depth; of a list or map of many alike, the first two."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    many = len(members) > 30 if isinstance(members, type({}.items())) else True
    for number, (key, part) in enumerate(members):
        if number < 2 or not many:
            yield (*keys, key)
            yield from places(part, (*keys, key))


def spoilt(value: Any, keys: Keys, new: Any) -> Any:
    """A copy with one value replaced."""
    changed = json.loads(json.dumps(value))
    part = changed
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = new
    return changed


def use(folder: Path) -> None:
    """Make a base checkpoint of a folder, load it, ask it something, and read its first answer."""
    torch.set_num_threads(1)
    check_checkpoint(folder, Loading())
    checkpoint = load_checkpoint(folder)
    checkpoint.encode([query(0, SIZES[0], "look .")], 4)
    _guarded("segments", partial(check_segments, checkpoint, True))
    _guarded("one pass", lambda: check_one_pass(Probe(checkpoint)))


def outcome(folder: Path) -> str:
    """Nothing if a folder can be used or is refused; else what went wrong."""
    try:
        use(folder)
    except VistaError as error:
        return "" if len(str(error)) < 4000 and str(folder) in str(error) else f"refused badly: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def forked(folder: Path, seconds: int = 30) -> str:
    """``outcome`` in a process of its own, which may hang, eat memory or die."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
        signal.alarm(seconds)
        os.write(writer, outcome(folder).encode()[:4000] or b"fine")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    return "" if text == "fine" else text or f"died or hung: status {status}"


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        shutil.copytree(SOURCE, folder)
        print("as it is:", forked(folder) or "fine", flush=True)
        tried = bad = 0
        for name in names or FILES:
            text = (SOURCE / name).read_text()
            value = json.loads(text)
            for keys in places(value):
                for new in VALUES:
                    (folder / name).write_text(json.dumps(spoilt(value, keys, new)))
                    began = time.monotonic()
                    said = forked(folder)
                    if time.monotonic() - began > 10:
                        said += f" ({time.monotonic() - began:.0f} s)"
                    tried += 1
                    if said:
                        bad += 1
                        print(f"{name}: {'.'.join(map(str, keys))} = {new!r}: {said[:300]}", flush=True)
            (folder / name).write_text(text)
        print(f"{tried} tried, {bad} bad")


if __name__ == "__main__":
    main(sys.argv[1:])
