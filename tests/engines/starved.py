r"""Samples in one large batch, in a process that has not the memory for it; prints what came out.

    python -m tests.engines.starved MEGABYTES

So much may be allocated beyond what the process has when it starts to sample.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import astuple
from pathlib import Path

import torch

from tests.nano import checkpoint, query
from vista.chat import encode_query
from vista.engines.base import Request, Sample
from vista.engines.hf import HfEngine

ROWS, LIMIT = 1024, 64


def allow(megabytes: int) -> None:
    """Let the process have so much more memory than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def sampled(rows: int = ROWS, limit: int = LIMIT) -> tuple[HfEngine, list[Sample]]:
    """The engine, and what it made of one prompt."""
    made = checkpoint("internvl")
    prompt = encode_query(made.processor, query(0))
    engine = HfEngine(made, rows)
    (samples,) = engine.sample([Request(prompt, range(rows))], 1.0, limit)
    return engine, samples


def main(megabytes: int) -> None:
    """Sample and print tokens and log-probabilities."""
    torch.set_num_threads(1)
    sampled(8, 4)  # everything is loaded now
    allow(megabytes)
    engine, samples = sampled()
    print(json.dumps({"batch_size": engine.batch.size, "samples": [astuple(sample) for sample in samples]}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
