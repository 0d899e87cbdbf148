"""A small hand-made corpus and the three architectures."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

ARCHITECTURES = ("qwen2.5-vl", "qwen3-vl", "internvl")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


def png(seed: int, size: int = 24) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def query(index: int, size: int = 24) -> dict[str, Any]:
    """A query that differs from others in its image, its words and their number."""
    digit = index % 10
    more = " and so on" * (index % 3)
    return {
        "query_id": f"toy-train-{index}",
        "task": "toy",
        "split": "train",
        "images": [{"bytes": png(index, size), "path": None}],
        "system": "read the grid .",
        "instruction": f"which digit is in row {digit} ?",
        "answer": str(digit),
        "answer_type": "number",
        "choices": None,
        "rationale": f"row {digit} : {digit}{more} . answer : {digit}",
        "cluster_id": f"toy-train-{index}",
        "scene": None,
    }


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [query(index) for index in range(40)]
