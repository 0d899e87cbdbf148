"""Control: visual information gain as a filter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vista.filters import Context, ScoreFilter, ScoreFilterSettings, Solution
from vista.scores import TYPICAL_LOGIT


class VigSettings(ScoreFilterSettings):
    """Control: drop positives that the image makes little more likely (visual information gain)."""

    reads = "gains"
    kind: Literal["vig"] = Field(description="Filter by log p(r | image) − log p(r | no image), per token.")


class VisualInformationGain(ScoreFilter[VigSettings]):
    """Drop positives that the image makes little more likely, per token."""

    magnitude = TYPICAL_LOGIT

    def value(self, solution: Solution, context: Context) -> float:
        """log p(r | image) − log p(r | no image), the mean over tokens."""
        row = context.measured(solution, "log-probability", "gains")
        return float(row["logprob"] - row["logprob_without"])
