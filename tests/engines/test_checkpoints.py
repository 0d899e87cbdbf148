"""Saving and loading checkpoint folders. Damaged ones: tests/malformed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.nano import ARCHITECTURES, checkpoint, query
from vista.chat import encode_query
from vista.engines.base import Request
from vista.engines.checkpoints import device_name, load_checkpoint, load_outline, save_checkpoint, wrap
from vista.engines.hf import HfEngine
from vista.errors import VistaError


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


def test_float32_is_computed_in_float32_on_gpus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoint("qwen2.5-vl")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's default
    wrap(made.model, made.processor)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


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


# --- what a checkpoint's own settings decide, and what they do not ---

KERNEL = "kernels-community/flash-attn2@refs/pr/7"


def edited(saved: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a checkpoint with a changed ``config.json``."""
    shutil.copytree(saved, folder)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("own", ["eager", "flex_attention", KERNEL, {"text_config": KERNEL}, "no such thing"])
@pytest.mark.parametrize("part", [None, "text_config", "vision_config"])
@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_a_config_cannot_choose_its_attention(
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    own: Any,
    part: str | None,
    key: str,
) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", fetch)

    def change(config: dict[str, Any]) -> None:
        (config if part is None else config[part])[key] = own

    folder = edited(saved, tmp_path / "edited", change)
    for wanted in ("sdpa", "eager"):
        model = load_checkpoint(folder, device="cpu", attention=wanted).model
        parts = [model.config, model.config.text_config, model.config.vision_config]
        assert {config._attn_implementation for config in parts} == {wanted}
        assert {
            module.config._attn_implementation for module in model.modules() if hasattr(module, "config")
        } == {wanted}
        said = capsys.readouterr().err
        assert ("ignored; attention is" in said) == (own != wanted)
    outline = load_outline(folder).model
    assert outline.config._attn_implementation == outline.config.text_config._attn_implementation == "sdpa"


def test_flash_attention_that_is_not_installed_is_refused_and_no_kernel_fetched_instead(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr("transformers.modeling_utils.is_kernels_available", lambda: True)
    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", fetch)
    monkeypatch.setattr("vista.engines.checkpoints.is_flash_attn_2_available", lambda: False)
    with pytest.raises(VistaError, match=r"flash-attn is not installed.* set attention: sdpa"):
        load_checkpoint(saved, device="cpu", attention="flash_attention_2")


def test_what_is_saved_names_no_attention(saved: Path, tmp_path: Path) -> None:
    folder = edited(saved, tmp_path / "edited", lambda config: config.update(_attn_implementation=KERNEL))
    loaded = load_checkpoint(folder, device="cpu")
    save_checkpoint(loaded.model, loaded.processor, tmp_path / "again")
    assert "attn_implementation" not in (tmp_path / "again/config.json").read_text()


CONTRADICTIONS: list[dict[str, Any]] = [
    {"do_sample": False, "temperature": 0.1},
    {"do_sample": False, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "typical_p": 0.9},
    {"num_beams": 1, "early_stopping": True, "length_penalty": 2.0},
    {"num_beams": 1, "num_beam_groups": 2, "diversity_penalty": 0.5},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"num_return_sequences": 1, "num_beams": 1, "constraints": None, "epsilon_cutoff": 0.1},
    {"return_dict_in_generate": False, "output_scores": True},
    {"pad_token_id": -1},
    {"a_key_of_another_version": 3},
]


@pytest.mark.parametrize("declared", CONTRADICTIONS, ids=lambda declared: "-".join(declared))
def test_generation_settings_that_transformers_would_not_save_are_passed_on(
    saved: Path, tmp_path: Path, declared: dict[str, Any]
) -> None:
    folder = edited(saved, tmp_path / "base", lambda _: None)
    before = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(before | declared))
    loaded = load_checkpoint(folder, device="cpu")
    loaded.model.generation_config.bos_token_id = 1  # changed since it was loaded, as Trainer does
    save_checkpoint(loaded.model, loaded.processor, tmp_path / "again")
    after = json.loads((tmp_path / "again/generation_config.json").read_text())
    wanted = {name: value for name, value in declared.items() if value is not None}
    assert wanted.items() <= after.items()
    again = load_checkpoint(tmp_path / "again", device="cpu")
    assert again.end_ids == loaded.end_ids
    assert again.model.generation_config.to_diff_dict() == loaded.model.generation_config.to_diff_dict()


def test_generation_settings_in_the_config_do_not_stop_saving(saved: Path, tmp_path: Path) -> None:
    folder = edited(saved, tmp_path / "base", lambda config: config.update(num_beams=3, temperature=0.2))
    loaded = load_checkpoint(folder, device="cpu")
    save_checkpoint(loaded.model, loaded.processor, tmp_path / "again")
    load_checkpoint(tmp_path / "again", device="cpu")


def test_what_cannot_be_said_is_found_as_token_by_token() -> None:
    made = checkpoint("internvl")
    size = made.model.get_input_embeddings().weight.shape[0]
    (special, *_), (end, *_) = made.forbidden_ids, made.end_ids
    words = [token for token in range(size) if token not in {*made.forbidden_ids, *made.end_ids}]
    assert made.unsayable([]) is None
    assert made.unsayable(words) is None
    for token, why in ((-1, "vocabulary"), (size, "vocabulary"), (special, "marks"), (end, "ends one")):
        for place in (0, 1, len(words)):
            said = made.unsayable([*words[:place], token, *words[place:]])
            assert said is not None
            assert said.startswith(f"token {token} ")
            assert why in said


@pytest.mark.parametrize("where", [None, torch.device("meta"), torch.device("cuda", 1)])
def test_a_gpu_is_called_by_its_name(where: torch.device | None, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {None: "first card", 1: "second card"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: cards[device.index])
    assert device_name(where) == ("second card" if where == torch.device("cuda", 1) else "first card")
    assert device_name(torch.device("cpu")) == "cpu"


def test_without_a_gpu_the_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert {device_name(), device_name(torch.device("cpu")), device_name(torch.device("meta"))} == {"cpu"}
