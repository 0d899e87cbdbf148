"""Stands in for the work of ``vista models``."""

from __future__ import annotations

from vista import standin
from vista.config import Suite
from vista.paths import Paths

CODE = 1


def build_model(suite: Suite, paths: Paths, model: str) -> None:
    codes = {"standin": standin.CODE, "models.build": CODE}
    standin.do(standin.models(suite, paths, model), lambda: codes)
