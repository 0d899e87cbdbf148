"""A tiny random model and hand-made training rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.once import once
from vista.chat import Message, messages, reply
from vista.config import Hyperparameters, Suite, load_suite
from vista.engines.checkpoints import Checkpoint, wrap
from vista.models.nano import build_nano
from vista.paths import Paths
from vista.records import Row

WORDS = [a + b for a in "abcdefg" for b in "uvwxyz"]


def prompt(query: int, text: str = "au bv") -> tuple[list[Row], list[Message]]:
    """Images and turns of one of some different questions."""
    buffer = io.BytesIO()
    Image.new("RGB", (24, 24), (17 * query % 256, 40, 90)).save(buffer, "PNG")
    images: list[Row] = [{"bytes": buffer.getvalue(), "path": None}]
    return images, messages({"system": "cw", "instruction": text, "images": images})


def example(query: int, ids: Sequence[int] | None, text: str = "cu", **changes: Any) -> Row:
    images, turns = prompt(query)
    return {
        "query_id": f"q{query}",
        "source": "sample",
        "images": images,
        "prompt": turns,
        "completion": reply(text),
        "completion_ids": None if ids is None else list(ids),
        **changes,
    }


def pair(query: int, chosen: Sequence[int], rejected: Sequence[int], **changes: Any) -> Row:
    images, turns = prompt(query)
    return {
        "query_id": f"q{query}",
        "source": "sample",
        "images": images,
        "prompt": turns,
        "chosen": reply("cu"),
        "rejected": reply("cv"),
        "chosen_ids": list(chosen),
        "rejected_ids": list(rejected),
        "chosen_finished": True,
        "rejected_finished": True,
        **changes,
    }


def responses(count: int) -> list[list[int]]:
    """Responses of unequal lengths, of ordinary words."""
    return [[30 + (7 * n + 3 * m) % 20 for m in range(2 + 3 * n % 11)] for n in range(count)]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def launched(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of every training, with each config of accelerate."""
    from tests.training.launched import launch

    return once(tmp_path_factory, "launched", lambda folder: launch(root, folder))


def outcomes(launched: Path, arithmetic: str) -> dict[tuple[str, str], Any]:
    """What ``tests.training.launched`` saved, by the way in which a model was shared, and by training."""
    files = sorted(launched.glob("*.pt"))
    return {key: made for file in files for key, made in torch.load(file)[arithmetic].items()}


@pytest.fixture
def fresh() -> Callable[..., Checkpoint]:
    """Makes the same random checkpoint again and again."""

    def make(architecture: Any = "internvl") -> Checkpoint:
        model, processor = build_nano(architecture, WORDS, 0)
        return wrap(model.eval(), processor)

    return make


@pytest.fixture
def hyper() -> Callable[..., Hyperparameters]:
    """Settings for a few plain steps, without warm-up."""

    def make(**changes: Any) -> Hyperparameters:
        plain: dict[str, Any] = {
            "epochs": 1,
            "learning_rate": 1e-3,
            "batch_size": 4,
            "warmup": 0.0,
            "schedule": "constant",
        }
        return Hyperparameters(**{**plain, **changes})

    return make


@pytest.fixture(scope="session")
def suite(root: Path) -> Suite:
    return load_suite(root / "config/testbed.yaml", root=root)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "results")
