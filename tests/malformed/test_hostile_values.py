"""Checkpoints of strangers: whatever value their files hold, they can be used or are refused in one error."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from tests.malformed.hostile import FILES, SOURCE, VALUES, outcome, places, spoilt, use
from vista.config import Loading
from vista.engines import folders
from vista.errors import VistaError
from vista.models.build import check_checkpoint

SAMPLED = 7  # of each file; `python -m tests.malformed.hostile` tries all


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(SOURCE, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_the_checkpoint_is_one_before_anything_is_spoilt(folder: Path) -> None:
    use(folder)


@pytest.mark.parametrize("name", FILES)
def test_any_value_is_used_or_refused(folder: Path, name: str) -> None:
    value = json.loads((folder / name).read_text())
    cases = [(keys, new) for keys in places(value) for new in VALUES]
    found = {}
    for keys, new in random.Random(name).sample(cases, SAMPLED):
        (folder / name).write_text(json.dumps(spoilt(value, keys, new)))
        if said := outcome(folder):
            found[".".join(map(str, keys)), repr(new)] = said
    assert found == {}


def at(name: str, path: str, new: Any) -> Callable[[Path], None]:
    """Replace or add one value; ``path`` has dots."""

    def spoil(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        part = value
        *sections, last = path.split(".")
        for section in sections:
            part = part[section]
        part[last] = new
        (folder / name).write_text(json.dumps(value))

    return spoil


def template(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "chat_template.jinja").write_text(text) and None


def shaped(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


TEXT, VISION = "text_config.", "vision_config."
IMAGES = "image_processor."
SPOILT = [
    *(("config.json", f"{TEXT}hidden_size", new) for new in ("64", 0, -1, 1.5, 10**12, True, [None, "x"])),
    *(("config.json", f"{TEXT}num_hidden_layers", new) for new in ("3", 0, -1, 10**9, 2.5)),
    *(("config.json", f"{VISION}depth", new) for new in (0, "2", 10**9)),
    *(("config.json", f"{VISION}patch_size", new) for new in (0, "4", -4)),
    *(("config.json", "model_type", new) for new in ([], {"x": 1}, 3, True)),
    *(("config.json", f"{TEXT}vocab_size", new) for new in (10**8, 0, "71")),
    *(("config.json", f"{TEXT}max_position_embeddings", new) for new in ("1024", 0, 0.5)),
    *(("config.json", f"{TEXT}eos_token_id", new) for new in ("three", 1.5, {"x": 1})),
    *(("generation_config.json", "eos_token_id", new) for new in ("3", ["3"], {"x": 1}, 99999, [3, 999], -1)),
    *(("processor_config.json", f"{IMAGES}patch_size", new) for new in (0, -1, "4", 2.5)),
    *(("processor_config.json", f"{IMAGES}merge_size", new) for new in (0, "2")),
    *(("processor_config.json", f"{IMAGES}image_mean", new) for new in ([0.5, 0.5], "half", None)),
    *(("processor_config.json", f"{IMAGES}image_std", new) for new in ([0.0, 0.0, 0.0], [], "x")),
    *(("processor_config.json", f"{IMAGES}size", new) for new in ("big", [1])),
    ("processor_config.json", f"{IMAGES}size", {"shortest_edge": 10**9, "longest_edge": 10**9}),
    ("processor_config.json", f"{IMAGES}rescale_factor", float("nan")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "path", "new"), SPOILT)
def test_a_value_of_no_sense_is_refused_when_the_model_is_made(
    folder: Path, name: str, path: str, new: Any
) -> None:
    at(name, path, new)(folder)
    with pytest.raises(VistaError, match=str(folder)) as refused:
        check_checkpoint(folder, Loading())
    if path.rpartition(".")[2] in ("hidden_size", "num_hidden_layers", "depth", "patch_size", "merge_size"):
        assert f"{folder / name}: {path}: {json.dumps(new)} is not a whole number from" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "{{ raise_exception('no') }}",
        "{{ 1 // 0 }}",
        "{{ messages.nothing.at_all }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ messages[0]['content'] | map('upper') | list }}",
    ],
)
def test_a_chat_template_that_raises_or_does_not_end_is_refused(folder: Path, text: str) -> None:
    template(text)(folder)
    with pytest.raises(VistaError, match=rf"{folder}: the chat template .*; correct chat_template\.jinja"):
        check_checkpoint(folder, Loading())


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.popitem(),
        lambda tensors: tensors.clear(),
        lambda tensors: tensors.update({name: each[:1].clone() for name, each in tensors.items()}),
        lambda tensors: tensors.update({name: each.to(torch.int8) for name, each in tensors.items()}),
        lambda tensors: tensors.update({name: each.bool() for name, each in tensors.items()}),
        lambda tensors: tensors.update({name: each.double() for name, each in tensors.items()}),
        lambda tensors: tensors.update(
            {"model.language_model.layers.9.mlp.up_proj.weight": torch.ones(2, 2)}
        ),
        lambda tensors: tensors.update({"stray": torch.ones(3)}),
    ],
    ids=["missing", "none", "shapes", "int8", "bool", "double", "another layer", "stray"],
)
def test_weights_are_used_or_refused(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    shaped(change)(folder)
    assert outcome(folder) == ""


def test_no_familys_own_values_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_tensors", lambda folder: 1_000)
    refused, seen = [], 0
    for kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        try:
            config = AutoConfig.for_model(kind)
        except (ImportError, ValueError):
            continue  # needs other packages, or parts
        config.save_pretrained(tmp_path)
        seen += 1
        try:
            folders._check_numbers(tmp_path)
        except VistaError as error:
            refused.append(f"{kind}: {error}")
    assert seen > 40
    seen = 0
    for name in {each for names in IMAGE_PROCESSOR_MAPPING_NAMES.values() for each in names.values()}:
        try:
            processor = getattr(transformers, name)()
        except Exception:  # noqa: S112  (needs other packages, or arguments)
            continue
        processor.save_pretrained(tmp_path)
        seen += 1
        try:
            folders._check_images(tmp_path)
        except VistaError as error:
            refused.append(f"{name}: {error}")
    assert seen > 40
    assert refused == []
