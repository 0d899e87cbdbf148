"""What every part of the configuration shares: strictness, and the form of names."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """Unknown keys are errors, and a loaded config does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


NAME = r"^[a-z0-9][a-z0-9.+=-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
