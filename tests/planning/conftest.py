"""A suite with numbers small enough to work out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vista.config import Suite


def make_suite(results: Path, **changes: Any) -> Suite:
    """One model of a billion parameters, one task of 100 train queries, three methods, on GPUs."""
    improve = {"kind": "self-improvement", "rollouts": {"k": 10, "max_new_tokens": 64}}
    step = {"epochs": 2}
    value = {
        "name": "tiny",
        "results": results,
        "train_sets": {"one": ["easy"]},
        "tasks": {
            "easy": {
                "kind": "grid",
                "questions": ["closed"],
                "sizes": {"seed": 20, "train": 100, "test": 50},
            }
        },
        "models": {"m-1b": {"kind": "path", "path": "/models/m-1b", "training": {"processes": 4}}},
        "methods": {
            "zero-shot": {"kind": "base"},
            "sft-seed": {"kind": "seed"},
            "rest-em": improve | {"rounds": 2},
            "vista-sft": improve | {"resample": {"kind": "prefix"}, "filter": {"kind": "vas"}},
            "dpo": improve | {"objective": {"kind": "dpo"}},
        },
        "training": {"seed": step, "sft": step, "dpo": step},
        "engine": {"kind": "vllm"},
        "shards": 2,
        "gpus": 1,
    }
    return Suite.model_validate(value | changes)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return make_suite(tmp_path / "results")
