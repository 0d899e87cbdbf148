"""Suites: tasks, train sets, seeds and settings, as written and as resolved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from vista.config.base import Fraction, Name, Strict
from vista.config.methods import Method
from vista.config.models import Model


class Sizes(Strict):
    """Number of queries in each split."""

    seed: int = Field(0, ge=0, description="Annotated queries, with gold rationales.")
    train: int = Field(0, ge=0, description="Queries to sample on.")
    test: int = Field(0, ge=0, description="Queries to evaluate on.")


class GridTask(Strict):
    """Questions on a grid of digit scans (the testbed)."""

    kind: Literal["grid"] = Field(description="A generated testbed task.")
    questions: list[Literal["read", "closed", "open", "chain"]] = Field(
        min_length=1, description="Families of questions, in turn; one named twice comes twice as often."
    )
    digits: Literal["handwritten", "printed"] = Field(
        "handwritten", description="Scans of handwritten digits, or glyphs of bundled fonts."
    )
    rows: int = Field(3, ge=2, le=4, description="Rows of the grid.")
    columns: int = Field(3, ge=2, le=4, description="Columns of the grid.")
    noise: float = Field(0.1, ge=0.0, le=1.0, description="Standard deviation of pixel noise.")
    uniform: Fraction = Field(
        0.0, description="Share of images with one digit and ink in all cells, at the split's start."
    )
    uniform_until: int = Field(
        1, ge=1, description="Number of the query by which that share has fallen to zero."
    )
    sizes: Sizes = Field(description="Queries per split.")


Task = Annotated[GridTask, Field()]


class Hyperparameters(Strict):
    """One training run's settings."""

    epochs: int = Field(3, ge=1, description="Passes over the training set.")
    learning_rate: float = Field(1e-5, gt=0.0, description="Peak learning rate.")
    batch_size: int = Field(16, ge=1, description="Examples per device and forward pass.")
    accumulation: int = Field(1, ge=1, description="Forward passes per optimiser step.")
    warmup: Fraction = Field(0.1, description="Share of the steps that warm up.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning-rate schedule after the warm-up."
    )
    weight_decay: float = Field(0.0, ge=0.0, description="AdamW's decoupled weight decay.")
    max_grad_norm: float = Field(1.0, gt=0.0, description="Gradients are clipped to this norm.")


class TrainingSettings(Strict):
    """Training settings by what is trained on."""

    seed: Hyperparameters = Field(description="SFT on the seed split.")
    sft: Hyperparameters = Field(description="SFT on self-generated solutions.")
    dpo: Hyperparameters = Field(description="DPO on pairs of self-generated solutions.")


class ScoringSettings(Strict):
    """The attention pass."""

    layers: Literal["all"] | list[Fraction] = Field(
        "all", description="Layers whose attention is stored: all, or fractions of the depth."
    )
    batch_size: int = Field(64, ge=1, description="Solutions per forward pass.")


def layer_indices(layers: Literal["all"] | Sequence[float], num_layers: int) -> list[int]:
    """Layers at these fractions of the depth: ⌊f·L⌋, the last layer for f = 1; each once, ascending."""
    if layers == "all":
        return list(range(num_layers))
    return sorted({min(math.floor(fraction * num_layers), num_layers - 1) for fraction in layers})


class EngineSettings(Strict):
    """The sampling engine."""

    kind: Literal["hf"] = Field("hf", description="Which engine samples.")
    batch_size: int = Field(512, ge=1, description="Sequences decoded at a time.")


class SuiteFields(Strict):
    """What a suite file and a resolved suite have in common."""

    name: Name = Field(description="Name of the suite.")
    results: Path = Field(description="Folder for all outputs.")
    train_sets: dict[Name, list[Name]] = Field(
        min_length=1, description="Named lists of tasks to train on together."
    )
    out_of_domain: list[Name] = Field([], description="Tasks that are only evaluated on.")
    seeds: list[int] = Field([0], min_length=1, description="One run of the grid per seed.")
    tasks: dict[Name, Task] = Field(description="Every task by name.")
    training: TrainingSettings = Field(description="Training settings.")
    engine: EngineSettings = Field(default_factory=lambda: EngineSettings(), description="Sampling engine.")
    scoring: ScoringSettings = Field(
        default_factory=lambda: ScoringSettings(), description="What the attention pass stores."
    )
    eval_max_new_tokens: int = Field(2048, ge=1, description="Length limit in evaluation.")
    eval_batch_size: int = Field(128, ge=1, description="Test queries decoded at a time.")
    shards: int = Field(1, ge=1, description="Jobs over which a policy's queries are spread.")
    threads: int = Field(1, ge=1, description="CPU threads of each job that runs a model.")
    gpus: int = Field(0, ge=0, description="GPUs that each job that runs a model asks for.")


class SuiteFile(SuiteFields):
    """A suite as the user writes it: models and methods by name."""

    models: list[Name] = Field(min_length=1, description="Names from models.yaml.")
    methods: list[Name] = Field(min_length=1, description="Names from methods.yaml.")
    models_file: Path = Field(Path("models.yaml"), description="Where models are defined.")
    methods_file: Path = Field(Path("config/methods.yaml"), description="Where methods are defined.")
    method_defaults: dict[str, Any] = Field(
        {},
        description="Values for what methods.yaml leaves open, by section (`rollouts`, "
        "`max_per_query` …) or section and kind (`resample.prefix`).",
    )
    method_overrides: dict[str, dict[str, Any]] = Field(
        {}, description="Values that win over methods.yaml, by method, then as in method_defaults."
    )


class Suite(SuiteFields):
    """A resolved suite: models and methods by value. All that the stages read."""

    models: dict[Name, Model] = Field(description="Every model by name.")
    methods: dict[Name, Method] = Field(description="Every method by name.")

    @property
    def evaluated_tasks(self) -> list[str]:
        """Every task with a part in the tables: those trained on, then those out of domain."""
        trained = [task for tasks in self.train_sets.values() for task in tasks]
        return list(dict.fromkeys([*trained, *self.out_of_domain]))
