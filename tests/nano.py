"""Tiny untrained checkpoints of all three architectures, and queries to ask them.

Their weights are scaled up, so that attention and predictions are far from uniform, as in a
trained model.
"""

from __future__ import annotations

import copy
import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from vista.engines.checkpoints import Checkpoint, wrap
from vista.models.nano import build_nano

ARCHITECTURES = ("qwen2.5-vl", "qwen3-vl", "internvl")
VOCABULARY = """
    you answer questions about a grid of digits what is the digit in row column sum all cells yes no
    there hint : read step so total plus equals , . ?
"""
WORDS = list(dict.fromkeys(VOCABULARY.split()))
SYSTEM = "you answer questions about a grid of digits"
SQUARE = (24, 24)  # 3 × 3 visual tokens
STRIP = (72, 8)  # 9 × 1 visual tokens: as many, at other positions (InternVL scales it to a square)


@cache
def checkpoint(architecture: str, seed: int = 0) -> Checkpoint:
    """An untrained checkpoint; shared between tests, so it must be left as it was."""
    model, processor = build_nano(architecture, WORDS, seed)  # type: ignore[arg-type]
    return wrap(model.eval(), processor)


def own_checkpoint(architecture: str, **changes: Any) -> Checkpoint:
    """A checkpoint that a test may change."""
    made = copy.copy(checkpoint(architecture))
    made.model = copy.deepcopy(made.model)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def query(
    number: int, words: int | None = None, size: tuple[int, int] = SQUARE, system: str | None = SYSTEM
) -> dict[str, Any]:
    """A query with random pixels and an instruction of random words."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    count = words if words is not None else int(random.integers(3, 8))
    return {
        "query_id": f"q{number}",
        "task": "task",
        "split": "train",
        "images": [{"bytes": png(pixels), "path": None}],
        "system": system,
        "instruction": " ".join(random.choice(WORDS, count)),
        "answer": str(number % 10),
        "answer_type": "number",
        "choices": None,
        "rationale": None,
        "cluster_id": f"i{number}",
        "scene": None,
    }


def png(pixels: np.ndarray) -> bytes:
    """An image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
