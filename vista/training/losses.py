"""When a loss can no longer be trained on. Serves ``vista train``."""

from __future__ import annotations

import torch
from torch import Tensor


def is_finite(loss: Tensor) -> bool:
    """Whether a loss is a number that can be trained on."""
    return bool(torch.isfinite(loss.detach()).all())


def has_diverged(first: float, now: float) -> bool:
    """Whether a loss has risen so far above its first value that nothing but divergence explains it.

    By ten nats, for likelihoods a response e¹⁰ times less likely at every token; or to three times the
    first value, for an objective of another scale.
    """
    return now > first + max(10.0, 2 * abs(first))
