"""A benchmark without a pinned revision may be planned, and is not read."""

from __future__ import annotations

import pytest

from vista.errors import VistaError
from vista.task_kinds.benchmarks.files import HubFiles, root_of


def test_an_unpinned_benchmark_is_refused_with_the_command_that_pins_it() -> None:
    source = HubFiles(kind="hub", repo="org/data", revision=None)
    with pytest.raises(VistaError, match=r"git ls-remote https://huggingface\.co/datasets/org/data HEAD"):
        root_of("slake", source, [["train.json"]])
