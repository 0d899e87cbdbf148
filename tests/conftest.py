"""Fixtures shared by all tests: the repository's root, and small suites to work on."""

from __future__ import annotations

import os

# One thread, no network, and no GPU unless that is what is tested: many tests compare to the last bit, which
# only a CPU gives whatever shares a batch. Before anything imports torch or the hub's client.
if "VISTA_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.update(
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="disabled",
    # As Snakemake starts, its plugin asks Slurm's client for settings, which takes ten seconds where one is
    # installed and no controller answers. tests/slurm starts one.
    SLURM_CONF=os.devnull,
)

import gc
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from vista import planned

if TYPE_CHECKING:
    from tests.checkout import Checkout

# Tests start hundreds of processes, from compiled code as everywhere else, whatever this machine says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# What a shell starts in the background ignores Ctrl-C, and with it all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Timing never decides a test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]
LONGEST = ("end_to_end", "slow")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run Snakemake come first, then others with slow tests: none is left to one worker."""
    last, cost = len(LONGEST), dict.fromkeys((item.path for item in items), len(LONGEST))
    for item in items:
        ranks = (rank for rank, mark in enumerate(LONGEST) if item.get_closest_marker(mark))
        cost[item.path] = min(cost[item.path], next(ranks, last))
    items.sort(key=lambda item: cost[item.path])


def pytest_collection_finish() -> None:
    """What was imported is no garbage: each trainer, and each batch that is halved, looks for some."""
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint folder. Tests must leave it as it is."""
    from tests.nano import checkpoint
    from vista.engines.checkpoints import save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "nano"
    made = checkpoint("internvl")
    save_checkpoint(made.model, made.processor, folder)
    return folder


@pytest.fixture(scope="session")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the smoke suite has run, once for all workers. Tests must leave it as it is."""
    # Not above: vLLM's environment has less.
    from tests.checkout import Checkout
    from tests.once import once

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


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Whatever a test starts in this process ends with it, as a command does."""
    yield
    planned.end()


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint folder that a test may spoil."""
    return shutil.copytree(saved, tmp_path / "nano")
