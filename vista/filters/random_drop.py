"""Control for VAS: drop as many positives as it does, at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from vista.filters import AttentionFilterSettings, Context, Filter, Solution
from vista.filters.vas import VasSettings, VisionAwareAttention


class RandomDropSettings(AttentionFilterSettings):
    """Control: drop as many positives of each query as the attention score would, at random."""

    kind: Literal["random-drop"] = Field(description="Drop as many as `vas` of these settings, at random.")


class RandomDrop(Filter[RandomDropSettings]):
    """Drops as many positives of a query as the attention score does, but at random."""

    def __init__(self, settings: RandomDropSettings) -> None:
        super().__init__(settings)
        matched = VasSettings(kind="vas", **settings.model_dump(exclude={"kind"}))
        self.matched = VisionAwareAttention(matched)

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """All but a random subset, as large as what the attention score drops."""
        dropped = self.matched.keep(positives, context).count(False)
        fallen = set(context.random().choice(len(positives), dropped, replace=False).tolist())
        return [index not in fallen for index in range(len(positives))]

    def compares_just_two(self, context: Context) -> bool:
        """As for the attention score: of two, one is dropped here as well."""
        return self.matched.compares_just_two(context)
