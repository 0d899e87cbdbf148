"""What ``vista plan`` assumes about hardware and data, and how large the config says a suite is.

Every number of a plan follows from these. The assumptions are round figures to plan with, not
measurements. ``vista plan --assume`` replaces any of them, from a YAML file or one by one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from vista.config import BuiltModel, HubModel, Suite, load_yaml, parse_yaml
from vista.errors import VistaError, fail_if
from vista.records import Split
from vista.settings import Fraction, Name, Strict

BUILT_PARAMETERS = 0.6e6  # of a model that is built from scratch
# By rule: what a job of the testbed takes with a tiny model, two jobs side by side on two cores; the
# means of the run that results/reference/testbed-full is from. They are mostly start-up.
CPU_SECONDS = {
    "tasks": 5.0,
    "models": 350.0,
    "sample": 21.0,
    "resample": 27.0,
    "score": 20.0,
    "gains": 45.0,
    "curate": 2.0,
    "train": 60.0,
    "evaluate": 39.0,
}


class Assumptions(Strict):
    """Round figures for a GPU of the A100/A800 class with 80 GB, and for answers with short rationales."""

    gpu_tflops: float = Field(312.0, gt=0.0, description="Peak of one GPU in bfloat16, TFLOP/s.")
    utilisation: Fraction = Field(
        0.35, gt=0.0, description="Share of the peak that training and scoring reach."
    )
    vllm_tokens_per_second: float = Field(
        20_000.0,
        gt=0.0,
        description="Tokens sampled per second and GPU by vLLM from a model of one billion parameters; "
        "one of N billion is taken to sample N times slower.",
    )
    hf_tokens_per_second: float = Field(
        2_000.0, gt=0.0, description="The same for the hf engine, which evaluates in every suite."
    )
    start_minutes: float = Field(3.0, ge=0.0, description="Until a job has loaded its model, minutes.")
    prompt_tokens: int = Field(600, ge=1, description="Tokens of a prompt, the image's included.")
    response_tokens: int = Field(250, ge=1, description="Tokens of a response, on average.")
    resampled: Fraction = Field(0.6, description="Part of a response that is left to sample after a prefix.")
    correct: Fraction = Field(0.6, description="Share of samples that are right.")
    critical: Fraction = Field(0.9, description="Share of wrong samples that have a critical token.")
    recovered: Fraction = Field(0.3, description="Share of resampled solutions that are right.")
    kept: Fraction = Field(0.69, description="Share of positives that a filter keeps (VAS at τ = −0.5).")
    parameters: dict[Name, Annotated[float, Field(gt=0.0)]] = Field(
        {}, description="Parameters by model; default: as the repository's or folder's name says (3B)."
    )
    bytes_per_parameter: float = Field(2.0, gt=0.0, description="Of a checkpoint on disk: bfloat16.")
    state_bytes_per_parameter: float = Field(
        14.0, gt=0.0, description="Of what a training run keeps to resume from, until it ends."
    )
    training_bytes_per_parameter: float = Field(
        16.0, gt=0.0, description="GPU memory of weights, gradients and AdamW's state, by parameter trained."
    )
    cpu_seconds: dict[str, float] = Field(
        CPU_SECONDS,
        description="Seconds of a job by rule, in suites without GPUs: means of config/testbed-full.yaml; "
        "rules that are left out keep theirs.",
    )
    cores: int = Field(2, ge=1, description="CPU cores, in suites without GPUs.")
    image_kilobytes: float = Field(100.0, gt=0.0, description="Of an encoded image; each row holds its own.")
    grid_image_kilobytes: float = Field(2.0, gt=0.0, description="The same of a generated task's image.")
    bytes_per_token: float = Field(8.0, gt=0.0, description="Of a solution on disk, ids and text.")

    @field_validator("cpu_seconds")
    @classmethod
    def _has_seconds_of_rules(cls, seconds: dict[str, float]) -> dict[str, float]:
        """Refuse rules that are not there, and times that run backwards."""
        for rule, value in seconds.items():
            if rule not in CPU_SECONDS:
                raise ValueError(f"unknown rule {rule!r}; known: {', '.join(CPU_SECONDS)}")
            if value < 0:
                raise ValueError(f"{rule} should take 0 seconds or more")
        return seconds


def load_assumptions(given: list[str]) -> Assumptions:
    """The defaults, changed by each of ``given`` in turn.

    Args:
        given: YAML files, and single settings as ``name=value``.

    Raises:
        VistaError: names every unknown key and every wrong value.
    """
    values: dict[str, Any] = {}
    for item in given:
        values |= _setting(item) if "=" in item else load_yaml(Path(item))
    try:
        return Assumptions.model_validate(values)
    except ValidationError as error:
        lines = [
            f"--assume {'.'.join(str(part) for part in item['loc'])}: "
            f"{item['msg'].removeprefix('Value error, ')}; found {item['input']!r}"
            for item in error.errors()
        ]
        fail_if([*lines, f"known: {', '.join(Assumptions.model_fields)}"], "The assumptions have errors:")
        raise


def _setting(item: str) -> dict[str, Any]:
    name, _, value = item.partition("=")
    try:
        return {name.strip(): parse_yaml(value)}
    except ValueError as error:
        raise VistaError(f"--assume {item}: not a value in YAML: {error}") from error


# --- sizes of a suite, from the config alone ---


def queries(suite: Suite, task: str, split: Split) -> int:
    """Queries in a split of a task, before duplicates are left out; of a benchmark as published, at most."""
    return suite.tasks[task].queries(split)


def train_queries(suite: Suite, train_set: str, split: Split) -> int:
    """Queries of a split over all tasks of a train set."""
    return sum(queries(suite, task, split) for task in suite.train_sets[train_set])


def parameters(suite: Suite, model: str, assumptions: Assumptions) -> float:
    """Parameters of a model: as assumed, else as its name says.

    Raises:
        VistaError: neither tells.
    """
    if model in assumptions.parameters:
        return assumptions.parameters[model]
    spec = suite.models[model]
    if isinstance(spec, BuiltModel):
        return BUILT_PARAMETERS
    name = spec.repo if isinstance(spec, HubModel) else f"{model} {spec.path.name}"
    found = re.search(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([BM])(?![a-z])", name, re.IGNORECASE)
    if not found:
        raise VistaError(
            f"model {model}: {name!r} does not say how many parameters it has; "
            f"add --assume 'parameters={{{model}: 3.0e9}}'"
        )
    return float(found[1]) * (1e9 if found[2].upper() == "B" else 1e6)
