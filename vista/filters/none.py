"""No filter: every positive is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from vista.filters import Context, Filter, FilterSettings, Solution


class NoFilterSettings(FilterSettings):
    """Every positive is kept."""

    kind: Literal["none"] = Field("none", description="No filter.")


class NoFilter(Filter[NoFilterSettings]):
    """Keeps everything."""

    def keep(self, positives: Sequence[Solution], context: Context) -> list[bool]:
        """Every positive stays."""
        return [True] * len(positives)
