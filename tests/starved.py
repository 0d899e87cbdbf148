"""Models that run out of memory on purpose: above a number of rows, or at one forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from vista.engines.checkpoints import Checkpoint

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB"


@dataclass
class Starvation:
    """When a forward pass fails, and the rows of those that were tried.

    Attributes:
        rows: Passes of more rows fail.
        at: This pass fails, counted from 0.
        error: With what.
        passes: Rows of each pass.
        failures: How many failed.
    """

    rows: int = 10**9
    at: int | None = None
    error: Exception = field(default_factory=lambda: torch.OutOfMemoryError(MESSAGE))
    passes: list[int] = field(default_factory=list)
    failures: int = 0

    def of(self, made: Checkpoint) -> Checkpoint:
        """``made``, whose model fails so."""
        made.model.base_model.register_forward_pre_hook(self._check, with_kwargs=True)
        return made

    def _check(self, _module: Any, _inputs: Any, keywords: dict[str, Any]) -> None:
        self.passes.append(keywords["input_ids"].shape[0])
        if self.passes[-1] > self.rows or len(self.passes) - 1 == self.at:
            self.failures += 1
            raise self.error
