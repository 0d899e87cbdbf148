"""The harness itself: the benchmark is sound before it is spoilt."""

from __future__ import annotations

import pytest

from tests.malformed.harness import COLLECT, CONFIG, CURATE, MODELS, PLAN, TABLES, TASKS, World, vista


@pytest.mark.parametrize("command", [CONFIG, PLAN, TASKS, MODELS, CURATE, COLLECT, TABLES])
def test_commands_succeed_on_the_benchmark_as_it_is(command: str, world: World) -> None:
    done = vista(command)
    assert done.status == 0, done.err
