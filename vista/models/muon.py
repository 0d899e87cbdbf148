"""Muon, the optimiser of the nano models' inner matrices, in the precision of the weights.

Stage ``models``; ``vista.models.pretrain`` steps it. torch's own orthogonalises in bfloat16, which a
processor without instructions for it emulates, 20 × slower (``benchmarks/muon.py``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic: steepest at zero (Jordan et al. 2024)
_STEPS = 4
_SMALLEST = 1e-7  # norm of an update below which it stays small
_MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made nearly orthogonal (Jordan et al. 2024), at the size of AdamW's steps.

    What ``torch.optim.Muon(…, weight_decay=0, ns_steps=4, adjust_lr_fn="match_rms_adamw")`` does, but for the
    precision; matrices of one shape go through the iteration together.
    """

    def __init__(self, matrices: Iterable[torch.nn.Parameter], lr: float) -> None:
        """Take ``matrices`` of two dimensions and the learning rate."""
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; ``closure`` is not for this optimiser."""
        if closure is not None:
            raise NotImplementedError("Muon takes no closure")
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[torch.nn.Parameter, torch.Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append((matrix, self._with_momentum(matrix, matrix.grad)))
            for (height, width), pairs in alike.items():
                updates = orthogonal(torch.stack([gradient for _, gradient in pairs]))
                # The root mean square of AdamW's updates, some 0.2 (Liu et al. 2025, arXiv 2502.16982, 2.2).
                size = 0.2 * math.sqrt(max(height, width)) * group["lr"]
                for (matrix, _), update in zip(pairs, updates, strict=True):
                    matrix.add_(update, alpha=-size)

    def _with_momentum(self, matrix: torch.nn.Parameter, gradient: torch.Tensor) -> torch.Tensor:
        """Nesterov's average of a matrix's gradients, the newest being ``gradient``."""
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        average: torch.Tensor = state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(average, _MOMENTUM)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Bring every singular value near one, by Newton and Schulz's iteration.

    Args:
        matrices: [number, height, width].

    Returns:
        As many, of the same singular vectors; a matrix of zeros stays so.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    made = matrices.mT if tall else matrices
    made = made / made.norm(dim=(-2, -1), keepdim=True).clamp(min=_SMALLEST)
    linear, cubic, quintic = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = made @ made.mT
        factor = torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic)
        made = torch.baddbmm(made, factor, made, beta=linear)
    return made.mT if tall else made
