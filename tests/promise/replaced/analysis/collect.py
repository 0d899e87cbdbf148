"""Stands in for the work of ``vista collect``."""

from __future__ import annotations

from vista import standin
from vista.config import Suite
from vista.paths import Paths

CODE = 1


def collect(suite: Suite, paths: Paths) -> None:
    codes = {"standin": standin.CODE, "analysis.collect": CODE}
    standin.do(standin.collect(suite, paths), lambda: codes)
