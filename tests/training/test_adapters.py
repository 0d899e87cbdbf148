"""Low-rank adapters are on the text decoder, alone are trained, and end up in the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.conftest import example, pair, responses
from vista.config import Hyperparameters, LoraTuning, ModelTraining
from vista.engines.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from vista.errors import VistaError
from vista.objectives import ObjectiveSettings
from vista.objectives.dpo import DpoSettings
from vista.objectives.sft import SftSettings
from vista.training.fit import adapted_layers, fit, make_trainer

Fresh = Callable[..., Checkpoint]
Make = Callable[..., Hyperparameters]
ARCHITECTURES = ("qwen2.5-vl", "qwen3-vl", "internvl")
LORA = ModelTraining(tuning=LoraTuning(kind="lora", r=4, alpha=8))
SFT = SftSettings(kind="sft")
DPO = DpoSettings(kind="dpo")


def logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_merged_model_is_the_adapted_one_and_only_adapters_were_trained(
    fresh: Fresh, hyper: Make, tmp_path: Path, architecture: str
):
    checkpoint = fresh(architecture)
    before = {name: weight.clone() for name, weight in checkpoint.model.named_parameters()}
    rows = [example(n, ids) for n, ids in enumerate(responses(6))]
    trainer = make_trainer(checkpoint, rows, hyper(epochs=3, learning_rate=1e-2), SFT, tmp_path, 0, LORA)
    trainer.train()
    trained = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora_" in name and ".language_model." in name for name in trained)
    batch = trainer.data_collator([{"index": n} for n in range(6)])
    adapted = logits(trainer.model.eval(), batch)
    merged = trainer.whole.of(trainer).eval()
    assert type(merged) is type(fresh(architecture).model)
    assert torch.allclose(logits(merged, batch), adapted, atol=1e-4)
    changed = {name for name, weight in merged.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {f"{name}.weight" for name in adapted_layers(fresh(architecture).model, "all-linear")}


@pytest.mark.parametrize("objective", [SFT, DPO], ids=["sft", "dpo"])
def test_a_trained_and_saved_checkpoint_is_an_ordinary_folder(
    fresh: Fresh, hyper: Make, tmp_path: Path, objective: ObjectiveSettings
):
    checkpoint = fresh()
    words = responses(4)
    rows = [pair(n, words[n], words[n - 1]) if objective.pairs else example(n, words[n]) for n in range(4)]
    counts = fit(checkpoint, rows, hyper(epochs=8, learning_rate=1e-2), objective, "lora", LORA)
    assert counts["last_loss"] < counts["first_loss"]
    save_checkpoint(checkpoint.model, checkpoint.processor, tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("adapter*"))
    loaded = load_checkpoint(tmp_path / "saved").model
    for mine, stored in zip(checkpoint.model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine, stored)


def test_a_policy_with_new_adapters_is_its_own_reference(fresh: Fresh, hyper: Make, tmp_path: Path):
    words = responses(4)
    rows = [pair(n, words[n], words[n - 1]) for n in range(4)]
    references = []
    for training in (LORA, ModelTraining()):
        trainer = make_trainer(fresh(), rows, hyper(), DPO, tmp_path, 0, training)
        trainer.take_reference()
        references.append(trainer.data_collator.reference)
    assert torch.equal(*references)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_linear_is_every_linear_layer_of_the_decoder_and_none_of_the_vision_tower(
    fresh: Fresh, architecture: str
):
    model = fresh(architecture).model
    expected = {
        f"model.language_model.{name}"
        for name, module in model.model.language_model.named_modules()
        if isinstance(module, nn.Linear)
    }
    assert set(adapted_layers(model, "all-linear")) == expected
    assert len(expected) == 3 * 7  # layers × (q, k, v, o, gate, up, down)


def test_targets_are_taken_by_the_ends_of_their_names_in_the_decoder_only(fresh: Fresh):
    model = fresh("internvl").model  # its vision tower has layers called q_proj as well
    assert sum(name.endswith("q_proj") for name, _ in model.named_modules()) == 5
    assert adapted_layers(model, ["q_proj", "1.self_attn.v_proj"]) == [
        "model.language_model.layers.0.self_attn.q_proj",
        "model.language_model.layers.1.self_attn.q_proj",
        "model.language_model.layers.1.self_attn.v_proj",
        "model.language_model.layers.2.self_attn.q_proj",
    ]


def test_a_target_that_is_no_layer_is_named(fresh: Fresh):
    with pytest.raises(VistaError, match=r"called 'query'; it has down_proj, gate_proj, k_proj"):
        adapted_layers(fresh().model, ["q_proj", "query"])
