"""Stands in for the work of ``vista curate``."""

from __future__ import annotations

from vista import standin
from vista.config import Suite
from vista.grid import Run
from vista.paths import Paths

CODE = 1


def curate(suite: Suite, paths: Paths, run: Run) -> None:
    codes = {"standin": standin.CODE, "curation.curate": CODE}
    standin.do(standin.curate(suite, paths, run), lambda: codes)
