"""The optimiser of nano models' matrices takes the steps of torch's own, but for precision."""

from __future__ import annotations

import pytest
import torch

from vista.models.muon import Muon, orthogonal

SHAPES = [(12, 8), (12, 8), (8, 12), (8, 8), (1, 8), (8, 1)]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_steps_are_those_of_torch_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch's converts to bfloat16 by this method and by nothing else.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    ours, theirs = (
        [torch.nn.Parameter(random(*shape, seed=place)) for place, shape in enumerate(SHAPES)]
        for _ in range(2)
    )
    made = Muon(ours, lr=0.01)
    known = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.0, ns_steps=4, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        for optimizer, matrices in ((made, ours), (known, theirs)):
            for place, matrix in enumerate(matrices):
                matrix.grad = random(*matrix.shape, seed=100 * step + place)
            # As a schedule does.
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
            optimizer.step()
    for matrix, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(matrix, expected, rtol=1e-4, atol=1e-6)


def test_a_step_is_near_torchs_in_bfloat16() -> None:
    ours, theirs = (torch.nn.Parameter(random(24, 16)) for _ in range(2))
    ours.grad = theirs.grad = random(24, 16, seed=1)
    Muon([ours], lr=1.0).step()
    torch.optim.Muon([theirs], lr=1.0, weight_decay=0.0, ns_steps=4, adjust_lr_fn="match_rms_adamw").step()
    moved, expected = ours - random(24, 16), theirs - random(24, 16)
    assert (moved - expected).norm() < 0.05 * expected.norm()
    assert float(moved.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.25)


@pytest.mark.parametrize("shape", [(3, 12, 8), (2, 8, 12), (1, 8, 8)])
def test_singular_vectors_stay_and_values_come_near_one(shape: tuple[int, int, int]) -> None:
    matrices = random(*shape, dtype=torch.float64)
    made = orthogonal(matrices)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    rotated = left.mT @ made @ right.mT
    found = rotated.diagonal(dim1=-2, dim2=-1)
    assert torch.allclose(rotated, torch.diag_embed(found), atol=1e-9)
    strong = values > 0.05 * values[..., :1]
    assert bool(((found > 0.5) & (found < 1.3))[strong].all())


def test_matrices_beside_others_move_as_they_do_alone() -> None:
    together = orthogonal(random(3, 8, 12))
    for one, expected in zip(random(3, 8, 12), together, strict=True):
        torch.testing.assert_close(orthogonal(one[None])[0], expected)


def test_a_gradient_of_zeros_or_none_moves_nothing() -> None:
    still, other = torch.nn.Parameter(random(8, 8)), torch.nn.Parameter(random(8, 8))
    still.grad = torch.zeros(8, 8)
    Muon([still, other], lr=1.0).step()
    assert torch.equal(still, random(8, 8))
    assert torch.equal(other, random(8, 8))


def test_a_closure_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="closure"):
        Muon([torch.nn.Parameter(random(8, 8))], lr=1.0).step(lambda: 0.0)
