"""Stands in for the work of ``vista train``; imports a part of it late, as the real one does."""

from __future__ import annotations

from vista import standin
from vista.config import Suite
from vista.grid import Run
from vista.paths import Paths

CODE = 1


def train(suite: Suite, paths: Paths, run: Run) -> None:
    def codes() -> dict[str, int]:
        from vista.training import fit

        return {"standin": standin.CODE, "training.train": CODE, "training.fit": fit.CODE}

    standin.do(standin.train(suite, paths, run), codes)
