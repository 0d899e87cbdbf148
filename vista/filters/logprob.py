"""Control: the policy's own confidence as a filter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vista.filters import Context, ScoreFilter, ScoreFilterSettings, Solution
from vista.scores import TYPICAL_LOGIT


class LogprobSettings(ScoreFilterSettings):
    """Control: drop positives that the policy itself thinks unlikely."""

    reads = "gains"
    kind: Literal["logprob"] = Field(description="Filter by log p(r | image), per token.")


class LogProbability(ScoreFilter[LogprobSettings]):
    """Drop positives that the policy thinks unlikely, per token."""

    magnitude = TYPICAL_LOGIT

    def value(self, solution: Solution, context: Context) -> float:
        """log p(r | image), the mean over tokens."""
        return float(context.measured(solution, "log-probability", "gains")["logprob"])
