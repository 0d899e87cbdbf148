"""VISTA's filter: the vision-aware attention score, VAS (paper: Sec. 3, step 3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vista.filters import AttentionFilterSettings, Context, ScoreFilter, Solution
from vista.scores import visual_share


class VasSettings(AttentionFilterSettings):
    """Drop positives whose vision-aware attention score is low (paper: Sec. 3, step 3)."""

    kind: Literal["vas"] = Field(description="Filter by the vision-aware attention score.")


class VisionAwareAttention(ScoreFilter[VasSettings]):
    """Drop positives that looked little at the image."""

    def value(self, solution: Solution, context: Context) -> float:
        """The image's share of the attention."""
        return visual_share(context.measured(solution, "attention score", "scores"), self.settings.layers)
