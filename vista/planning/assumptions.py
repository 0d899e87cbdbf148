"""What an estimate assumes: figures of hardware and of responses, each with its source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from vista.config import load_yaml, parse_yaml
from vista.errors import VistaError, fail_if
from vista.settings import Fraction, Name, Strict

# By rule: what a job of the testbed takes with a tiny model, two jobs side by side on two cores; the means of
# a run of config/testbed.yaml in November 2026. For rules that it has no jobs of (check, adopt, encodable,
# gains, requests, ask, grade): of older runs, in which every job had to import its libraries.
CPU_SECONDS = {
    "tasks": 4.0,
    "models": 200.0,
    "check": 20.0,
    "adopt": 15.0,
    "sample": 7.0,
    "resample": 8.5,
    "score": 7.0,
    "encodable": 15.0,
    "gains": 45.0,
    "curate": 1.0,
    "train": 27.0,
    "train-online": 100.0,  # which samples as well
    "requests": 15.0,
    "respond": 13.0,
    "evaluate": 13.0,
    "ask": 30.0,
    "grade": 5.0,
}


class Assumptions(Strict):
    """Round figures for a GPU of the A100/A800 class with 80 GB, and for answers with short rationales."""

    gpu_tflops: float = Field(
        312.0, gt=0.0, description="Peak of one GPU in bfloat16, TFLOP/s: an A100's data sheet."
    )
    utilisation: Fraction = Field(
        0.35,
        gt=0.0,
        description="Share of the peak that training and scoring reach: LMMs-Engine measured 0.30 to 0.40 "
        "for Qwen2.5-VL-7B under FSDP2 on 32 A800, with packed sequences "
        "(lmms-engine.readthedocs.io/en/stable/reference/mfu.html).",
    )
    vllm_tokens_per_second: float = Field(
        17_700.0,
        gt=0.0,
        description="Tokens generated per second and GPU by vLLM with a model of one billion parameters; one "
        "of N billion is taken to be N times slower. Qwen's 2,299 for the 7.7 billion of Qwen1.5-7B on an "
        "A100 (github.com/QwenLM/Qwen3/issues/244, where a user reaches 1,000 with 100 prompts).",
    )
    hf_tokens_per_second: float = Field(
        2_000.0, gt=0.0, description="The same for the hf engine: assumed, a ninth of vLLM's."
    )
    start_minutes: float = Field(
        3.0,
        ge=0.0,
        description="Minutes until a job has loaded its model: assumed; of these vLLM takes about one with "
        "a warm compile cache (github.com/vllm-project/vllm/issues/20264).",
    )
    prompt_tokens: int = Field(600, ge=1, description="Tokens of a prompt, the image's included: assumed.")
    response_tokens: int = Field(250, ge=1, description="Tokens of a response, on average: assumed.")
    resampled: Fraction = Field(
        0.6, description="Part of a response that is left to sample after a prefix: assumed."
    )
    correct: Fraction = Field(0.6, description="Share of samples that are right: assumed.")
    critical: Fraction = Field(0.9, description="Share of wrong samples that have a critical token: assumed.")
    recovered: Fraction = Field(0.3, description="Share of resampled solutions that are right: assumed.")
    kept: Fraction = Field(
        0.69, description="Share of positives that a filter keeps: of normal scores, those above τ = −0.5."
    )
    parameters: dict[Name, Annotated[float, Field(gt=0.0)]] = Field(
        {},
        description="Parameters by model; default: as the name of the repository, the folder or the "
        "decoder's file says (3B); of a model that is built from scratch, as its widths say.",
    )
    bytes_per_parameter: float = Field(
        2.0, gt=0.0, description="Of a checkpoint on disk: bfloat16. Models that are built here have 4."
    )
    state_bytes_per_parameter: float = Field(
        14.0, gt=0.0, description="Of what a training run keeps to resume from, until it ends."
    )
    waiting_checkpoints: int = Field(
        16,
        ge=0,
        description="Checkpoints at a time that wait for their rollouts and evaluation, where "
        "`keep_checkpoints` releases them: assumed, two for each GPU of a node.",
    )
    training_bytes_per_parameter: float = Field(
        16.0, gt=0.0, description="GPU memory of weights, gradients and AdamW's state, by parameter trained."
    )
    cpu_seconds: dict[str, float] = Field(
        CPU_SECONDS,
        description="Seconds of a job by rule, in suites without GPUs: means of config/testbed.yaml; "
        "`train-online` is the training of a method that samples as it trains, about four times another's; "
        "rules that are left out keep theirs.",
    )
    query_sd: float = Field(
        24.0,
        ge=0.0,
        description="Points by which the difference of two methods on one test query differs from their mean "
        "difference, alike in all seeds: measured on config/testbed-full.yaml, after three rounds "
        "(results/reference/testbed-full, as the next three).",
    )
    answer_sd: float = Field(32.0, ge=0.0, description="The same from seed to seed.")
    seed_sd: float = Field(
        0.9,
        ge=0.0,
        description="Standard deviation of the difference of two methods between seeds after one round, in "
        "points, beyond what single answers add.",
    )
    later_seed_sd: float = Field(1.5, ge=0.0, description="The same after more rounds.")
    cores: int = Field(2, ge=1, description="CPU cores, in suites without GPUs.")
    image_kilobytes: float = Field(100.0, gt=0.0, description="Of an encoded image; each row holds its own.")
    grid_image_kilobytes: float = Field(2.0, gt=0.0, description="The same of a generated task's image.")
    bytes_per_token: float = Field(8.0, gt=0.0, description="Of a solution on disk, ids and text.")

    @field_validator("cpu_seconds")
    @classmethod
    def _has_seconds_of_rules(cls, seconds: dict[str, float]) -> dict[str, float]:
        """Refuse unknown rules and negative times."""
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
