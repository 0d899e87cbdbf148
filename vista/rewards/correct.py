"""The verdict as the reward: 1 for a right solution, 0 for any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from vista.records import Row
from vista.rewards import Reward, RewardSettings


class CorrectSettings(RewardSettings):
    """1 for a finished solution with the right answer, 0 for any other."""

    kind: Literal["correct"] = Field("correct", description="1 for a right solution, 0 for any other.")


class Correct(Reward[CorrectSettings]):
    """The verdict that self-improvement selects positives by."""

    def of(self, solution: Row, query: Mapping[str, Any]) -> float:
        """The verdict as a number."""
        return float(solution["correct"])
