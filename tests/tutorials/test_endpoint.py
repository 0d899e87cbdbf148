"""The tutorial on a model at an endpoint does what it says."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.tutorials import Tutorial

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]


def test_the_tutorial_on_endpoints(root: Path, tmp_path: Path) -> None:
    tutorial = Tutorial.named(root, "endpoint", tmp_path)
    try:
        tutorial.follow()
    finally:  # where it failed before it stopped its server
        with suppress(OSError, ValueError):
            os.kill(int((tutorial.folder / "server.pid").read_text()), signal.SIGTERM)
