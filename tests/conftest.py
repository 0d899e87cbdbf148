"""Fixtures shared by all tests: the repository's root, and small suites to work on."""

from __future__ import annotations

import os

# One thread and no network, before anything imports torch or the hub's client.
os.environ.update(
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="disabled",
)

from pathlib import Path

import pytest
from hypothesis import settings

# Timing never decides a test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT
