"""What the trainers minimise against the paper's formulae, written out with plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tests.training.conftest import example, pair, responses
from vista.chat import encode
from vista.config import FullTuning, Hyperparameters, LoraTuning, ModelTraining
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint
from vista.images import open_images
from vista.objectives import ObjectiveSettings, sequence_nll
from vista.objectives.dpo import Dpo, DpoSettings, dpo
from vista.objectives.sft import SftSettings
from vista.records import Row
from vista.training.fit import fit, make_trainer

Fresh = Callable[..., Checkpoint]
Hyper = Callable[..., Hyperparameters]
SFT = SftSettings(kind="sft")
DPO = DpoSettings(kind="dpo", beta=0.3, alpha=0.5)


def log_probs(checkpoint: Checkpoint, row: Row, ids: Sequence[int], finished: bool = True) -> list[float]:
    """log p of each response token and of the end token, from the model's logits of one sequence."""
    with torch.no_grad():
        return [float(each) for each in differentiable(checkpoint, row, ids, finished)]


def differentiable(
    checkpoint: Checkpoint, row: Row, ids: Sequence[int], finished: bool = True
) -> list[torch.Tensor]:
    """The same, for a gradient."""
    prompt = encode(checkpoint.processor, row["prompt"], open_images(row))
    response = [*ids, *checkpoint.end_ids[: int(finished)]]
    batch = collate([prompt], [response], checkpoint.pad_id)
    del batch["response_mask"]
    logs = torch.log_softmax(checkpoint.model(**batch).logits[0].double(), dim=-1)
    return [logs[len(prompt) + n - 1, token] for n, token in enumerate(response)]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "qwen3-vl", "internvl"])
def test_the_sft_loss_is_the_mean_over_sequences_of_their_mean_over_tokens(
    fresh: Fresh, hyper: Hyper, architecture: str
):
    rows = [example(0, [31, 32]), example(1, [33, 34, 35, 36, 37, 38, 39])]
    expected = mean([-mean(log_probs(fresh(architecture), row, row["completion_ids"])) for row in rows])
    counts = fit(fresh(architecture), rows, hyper(), SFT, "oracle")
    assert counts["first_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "internvl"])
def test_a_policy_equal_to_its_reference_has_the_loss_log_2_plus_the_nll(
    fresh: Fresh, hyper: Hyper, architecture: str
):
    rows = [pair(0, [31, 32], [33] * 5), pair(1, [33, 34, 35, 36, 37, 38, 39], [30])]
    nll = mean([-mean(log_probs(fresh(architecture), row, row["chosen_ids"])) for row in rows])
    counts = fit(fresh(architecture), rows, hyper(), DPO, "oracle")
    assert counts["first_loss"] == pytest.approx(math.log(2) + 0.5 * nll, abs=1e-5)


def test_the_dpo_loss_of_a_policy_that_has_left_its_reference_is_the_formula(
    fresh: Fresh, hyper: Hyper, tmp_path: Any
):
    cut = {"rejected_finished": False}
    rows = [pair(0, [31, 32], [33] * 5), pair(1, [33, 34, 35, 36, 37, 38, 39], [30], **cut)]
    reference, policy = fresh(), fresh()
    trainer = make_trainer(policy, rows, hyper(), DPO, tmp_path, 0)
    trainer.take_reference()
    with torch.no_grad():
        for number, weight in enumerate(policy.model.parameters()):
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
    expected = []
    for row in rows:
        right, wrong = (
            [sum(log_probs(c, row, row[f"{side}_ids"], row[f"{side}_finished"])) for c in (policy, reference)]
            for side in ("chosen", "rejected")
        )
        margin = 0.3 * ((right[0] - right[1]) - (wrong[0] - wrong[1]))
        nll = -mean(log_probs(policy, row, row["chosen_ids"]))
        expected.append(math.log1p(math.exp(-margin)) + 0.5 * nll)
        assert abs(margin) > 0.01
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(mean(expected), abs=1e-4)


@pytest.mark.parametrize("objective", [SFT, DPO], ids=["sft", "dpo"])
@pytest.mark.parametrize("count", [4, 5, 7])
def test_however_a_step_is_cut_into_forward_passes_it_is_the_same_step(
    fresh: Fresh, hyper: Hyper, objective: ObjectiveSettings, count: int
):
    words = responses(count)
    rows = [
        pair(n, words[n], words[-n - 1]) if objective.pairs else example(n, words[n]) for n in range(count)
    ]
    losses, weights = [], []
    for at_once in (None, 2, 1):
        checkpoint = fresh()
        spread = ModelTraining(device_batch_size=at_once)
        counts = fit(checkpoint, rows, hyper(batch_size=8), objective, "accumulation", spread)
        assert counts["steps"] == 1
        losses.append(counts["first_loss"])
        weights.append(torch.cat([weight.flatten() for weight in checkpoint.model.parameters()]))
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)
    # Adam's first step is the sign of the gradient, so where that is almost 0 it may flip.
    for other in weights[1:]:
        assert (weights[0] - other).abs().gt(1e-5).float().mean() < 0.002


def test_the_losses_of_hand_made_log_probabilities_are_the_formulae():
    logs = torch.tensor([[0.0, -1.0, -2.0], [0.0, 0.0, -4.0], [-1.0, 0.0, 0.0], [-2.0, -2.0, -2.0]])
    assert torch.equal(sequence_nll(logs, logs != 0), torch.tensor([1.5, 4.0, 1.0, 2.0]))
    reference = (torch.tensor([-3.0, -5.0]), torch.tensor([-2.0, -6.0]))
    # Margins: (−3 + 3) − (−1 + 2) = −1 and (−4 + 5) − (−6 + 6) = 1.
    both = [math.log1p(math.exp(0.1)), math.log1p(math.exp(-0.1))]
    chosen, rejected = logs.sum(dim=1).chunk(2)
    assert dpo(chosen, rejected, *reference, 0.1).tolist() == pytest.approx(both)
    total = Dpo(DpoSettings(kind="dpo", beta=0.1, alpha=0.5)).losses(logs, logs != 0, reference)
    assert total.tolist() == pytest.approx([both[0] + 0.75, both[1] + 2.0])


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "qwen3-vl", "internvl"])
@pytest.mark.parametrize("tuning", [FullTuning(), LoraTuning(kind="lora", r=4)], ids=["full", "lora"])
def test_recomputed_activations_give_the_same_losses(
    fresh: Fresh, hyper: Hyper, tmp_path: Any, tuning: FullTuning | LoraTuning, architecture: str
):
    rows = [example(n, ids) for n, ids in enumerate(responses(6))]
    curves = []
    for recompute in (False, True):
        training = ModelTraining(tuning=tuning, gradient_checkpointing=recompute)
        trainer = make_trainer(fresh(architecture), rows, hyper(epochs=2), SFT, tmp_path, 0, training)
        trainer.train()
        assert trainer.model.is_activation_checkpointing == recompute
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(curves[0]) == 4
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
