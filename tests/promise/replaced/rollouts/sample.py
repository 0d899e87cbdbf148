"""Stands in for the work of ``vista sample``; imports its engine late, by name, as the real one does."""

from __future__ import annotations

import importlib

from vista import standin
from vista.config import Suite
from vista.grid import Run
from vista.paths import Paths

CODE = 1


def sample_shard(suite: Suite, paths: Paths, policy: Run, name: str, shard: int) -> None:
    def codes() -> dict[str, int]:
        engine = importlib.import_module(f"vista.engines.{suite.engine.kind}")
        return {"standin": standin.CODE, "rollouts.sample": CODE, "engines.hf": engine.CODE}

    standin.do(standin.sample(suite, paths, policy, name, shard), codes)
