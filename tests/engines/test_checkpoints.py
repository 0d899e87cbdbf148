"""Saving and loading checkpoint folders. Damaged ones: tests/malformed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.nano import ARCHITECTURES, checkpoint, query
from vista.chat import encode_query
from vista.engines.base import Request
from vista.engines.checkpoints import load_checkpoint, save_checkpoint
from vista.engines.hf import HfEngine


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_loaded_checkpoint_samples_what_the_saved_one_did(architecture: str, tmp_path: Path) -> None:
    made = checkpoint(architecture)
    save_checkpoint(made.model, made.processor, tmp_path / "nano")
    loaded = load_checkpoint(tmp_path / "nano", device="cpu")
    assert (loaded.end_ids, loaded.forbidden_ids, loaded.context) == (
        made.end_ids,
        made.forbidden_ids,
        made.context,
    )
    assert not loaded.model.training
    results = [
        HfEngine(c, 8).sample([Request(encode_query(c.processor, query(0)), range(4))], 1.0, 8)
        for c in (made, loaded)
    ]
    assert results[0] == results[1]


def test_a_saved_checkpoint_takes_the_place_of_an_older_one_and_leaves_nothing_else(folder: Path) -> None:
    (folder / "old.txt").write_text("old")
    made = checkpoint("internvl")
    save_checkpoint(made.model, made.processor, folder)
    assert not (folder / "old.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["nano"]


def test_a_save_that_fails_leaves_the_older_one(folder: Path) -> None:
    class Broken:
        def save_pretrained(self, _: Path) -> None:
            raise RuntimeError("disk full")

    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(RuntimeError, match="disk full"):
        save_checkpoint(checkpoint("internvl").model, Broken(), folder)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert [path.name for path in folder.parent.iterdir()] == ["nano"]


def test_weights_are_stored_as_they_are(saved: Path) -> None:
    made, loaded = checkpoint("internvl"), load_checkpoint(saved, device="cpu")
    states = zip(made.model.state_dict().items(), loaded.model.state_dict().items(), strict=True)
    for (name, expected), (other, found) in states:
        assert name == other
        assert torch.equal(expected, found)
