"""Control: the form alone: an answer that can be found, in a response that ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from vista.records import Row
from vista.rewards import Reward, RewardSettings


class FormatSettings(RewardSettings):
    """Control: 1 for a finished solution with any answer, right or wrong."""

    kind: Literal["format"] = Field(description="1 for a finished solution with any answer.")


class Format(Reward[FormatSettings]):
    """Whether there is an answer to judge."""

    def of(self, solution: Row, query: Mapping[str, Any]) -> float:
        """Whether the response ended, and an answer can be found in it."""
        return float(solution["finished"] and solution["answer"] is not None)
