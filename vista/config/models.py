"""Entries of ``models.yaml``: built by the DAG, a folder on disk, or pinned on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel

from vista.config.base import Fraction, Name, Strict


class BuiltModel(Strict):
    """A tiny model of a real transformers architecture, trained from scratch by the DAG."""

    kind: Literal["built"] = Field(description="Built by the DAG from a fixed seed.")
    architecture: Literal["qwen2.5-vl", "qwen3-vl", "internvl"] = Field(
        description="Which transformers classes."
    )
    corpus: Name = Field(description="The task whose `train` split is the pretraining corpus.")
    seed: int = Field(0, description="Seed of the weights and of which examples are swapped or hinted.")
    steps: int = Field(600, ge=1, description="Optimiser steps.")
    batch_size: int = Field(64, ge=1, description="Examples per step.")
    learning_rate: float = Field(3e-3, gt=0.0, description="Peak learning rate of AdamW.")
    swapped: Fraction = Field(0.3, description="Share of examples with the image after the text.")
    hinted: Fraction = Field(0.1, description="Share of examples with the answer as a hint.")


class LocalModel(Strict):
    """A checkpoint folder on disk."""

    kind: Literal["path"] = Field(description="A checkpoint folder on disk.")
    path: Path = Field(description="The folder, absolute or relative to the working directory.")
    trust_remote_code: bool = Field(False, description="Run code that the checkpoint brings.")


class HubModel(Strict):
    """A model of the Hugging Face hub at a pinned revision."""

    kind: Literal["hub"] = Field(description="A model of the Hugging Face hub.")
    repo: str = Field(description="owner/name on the hub.")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="The commit, 40 hex digits.")
    trust_remote_code: bool = Field(False, description="Run code that the repository brings.")


Model = Annotated[BuiltModel | LocalModel | HubModel, Field(discriminator="kind")]


class Models(RootModel[dict[Name, Model]]):
    """``models.yaml``."""
