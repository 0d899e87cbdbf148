"""Stands in for the work of ``vista evaluate``."""

from __future__ import annotations

from vista import standin
from vista.config import Suite
from vista.engines import hf
from vista.grid import Run
from vista.paths import Paths

CODE = 1


def evaluate(suite: Suite, paths: Paths, run: Run) -> None:
    codes = {"standin": standin.CODE, "evaluation.evaluate": CODE, "engines.hf": hf.CODE}
    standin.do(standin.evaluate(suite, paths, run), lambda: codes)
