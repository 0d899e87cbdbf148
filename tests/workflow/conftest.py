"""The smoke suite, run for real by Snakemake in a copy of the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.once import once


@pytest.fixture(scope="session")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the smoke suite has run, once for all workers. Tests must leave it as it is."""
    folder = once(tmp_path_factory, "finished", lambda folder: run_smoke(Checkout.make(root, folder), root))
    return Checkout(folder)


def run_smoke(checkout: Checkout, root: Path) -> None:
    """Run the smoke suite in a new checkout."""
    with pytest.MonkeyPatch.context() as patch:
        # Each process writes down which modules it had loaded.
        patch.setenv("VISTA_LOADED", str(checkout.folder / "loaded"))
        patch.setenv("PYTHONPATH", str(root / "tests/loaded"))
        done = checkout.snakemake()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]


@pytest.fixture
def copy(finished: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout, times kept, that a test may spoil."""
    return finished.copy(tmp_path)
