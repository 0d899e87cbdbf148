"""Supervised fine-tuning on positives (paper: Sec. 3, step 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vista.objectives import Objective, ObjectiveSettings, sequence_nll

if TYPE_CHECKING:
    from torch import Tensor

    from vista.objectives import Reference


class SftSettings(ObjectiveSettings):
    """Supervised fine-tuning, loss averaged per sequence first (paper: Sec. 3, step 4)."""

    kind: Literal["sft"] = Field(description="Supervised fine-tuning on positives.")


class Sft(Objective[SftSettings]):
    """The mean over sequences of the mean over their tokens."""

    def losses(self, log_probs: Tensor, counted: Tensor, reference: Reference | None) -> Tensor:
        """Of each example."""
        return sequence_nll(log_probs, counted)
