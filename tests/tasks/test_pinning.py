"""A benchmark without a pinned revision may be planned, and is not read."""

from __future__ import annotations

import pytest
from vista.tasks.benchmarks.sources import root_of

from vista.config import BenchmarkTask
from vista.errors import VistaError


def test_an_unpinned_benchmark_is_refused_with_the_command_that_pins_it() -> None:
    source = {"kind": "hub", "repo": "org/data", "revision": None}
    task = BenchmarkTask.model_validate({"kind": "slake", "source": source})
    with pytest.raises(VistaError, match=r"git ls-remote https://huggingface\.co/datasets/org/data HEAD"):
        root_of("slake", task, [["train.json"]])
