"""No resampling: failed solutions are only negatives, and no job runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vista.resamplers import ResampleSettings


class NoResampleSettings(ResampleSettings):
    """Failed solutions are only negatives."""

    kind: Literal["none"] = Field("none", description="No resampling.")
