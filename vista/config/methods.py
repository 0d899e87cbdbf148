"""Entries of ``config/methods.yaml``: a method is data. The defaults are the paper's values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from vista.filters import FilterSettings
from vista.filters.none import NoFilterSettings
from vista.objectives import ObjectiveSettings
from vista.objectives.sft import SftSettings
from vista.plugins import Plugin
from vista.resamplers import ResampleSettings
from vista.resamplers.none import NoResampleSettings
from vista.settings import MOST, Name, Strict, Temperature, spelled


class Sampling(Strict):
    """How a policy is sampled on the train queries (paper: Sec. 3, step 1)."""

    k: int = Field(10, ge=1, le=MOST, description="Solutions sampled per query.")
    temperature: Temperature = Field(1.0, description="Sampling temperature; 0 is greedy.")
    max_new_tokens: int = Field(2048, ge=1, description="Length limit of a response, in tokens.")

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"k{self.k}-t{spelled(self.temperature)}-n{self.max_new_tokens}"


Resample = Annotated[ResampleSettings, Plugin("resampler", ResampleSettings, "vista.resamplers")]
Filter = Annotated[FilterSettings, Plugin("filter", FilterSettings, "vista.filters")]
Objective = Annotated[ObjectiveSettings, Plugin("objective", ObjectiveSettings, "vista.objectives")]


class BaseMethod(Strict):
    """No training: the base model as it is (zero-shot)."""

    kind: Literal["base"] = Field(description="Evaluate the base model.")

    @property
    def trains_on_seed(self) -> bool:
        """Whether the seed split's rationales are trained on."""
        return False


class SeedMethod(Strict):
    """SFT of the base on the annotated seed split (SFT-Seed, the first sampler M_0)."""

    kind: Literal["seed"] = Field(description="Train on the annotated seed split.")

    @property
    def trains_on_seed(self) -> bool:
        """Whether the seed split's rationales are trained on."""
        return True


class SelfImprovement(Strict):
    """A method that trains on the policy's own verified solutions."""

    kind: Literal["self-improvement"] = Field(description="Train on verified own solutions.")
    initial_policy: Name = Field("sft-seed", description="The method that samples in round 1.")
    rounds: int = Field(1, ge=1, le=1000, description="Rounds of sampling and training.")
    rollouts: Sampling = Field(default_factory=lambda: Sampling(), description="How to sample.")
    resample: Resample = Field(default_factory=NoResampleSettings, description="What to do with failures.")
    filter: Filter = Field(default_factory=NoFilterSettings, description="Which positives to drop.")
    dedupe: bool = Field(False, description="Of several positives with the same text, keep one per query.")
    max_per_query: int | None = Field(
        None, ge=1, description="At most this many positives (or pairs) per query, at random."
    )
    objective: Objective = Field(
        default_factory=lambda: SftSettings(kind="sft"), description="What to train."
    )
    mix_seed: bool = Field(True, description="Add the seed split to an SFT training set.")
    restart: Literal["base", "previous"] = Field(
        "base", description="Each round trains the base again, or continues from the last round."
    )
    accumulate: bool = Field(
        False,
        description="Choose from the rollouts of all rounds so far, not only of the last one (R3V).",
    )
    reflect: list[Literal["refine", "select"]] = Field(
        [],
        description="Also train to correct a wrong solution (refine) and to choose among several "
        "(select), on the same solutions (R3V); SFT only.",
    )

    @property
    def trains_on_seed(self) -> bool:
        """Whether the seed split's rationales are trained on; they have no negatives, so no pairs."""
        return self.mix_seed and not self.objective.pairs


class SelectMethod(Strict):
    """Another method's checkpoints, decoded differently: sample, then let the model select (R3V)."""

    kind: Literal["select"] = Field(description="Evaluate another method with test-time selection.")
    of: Name = Field(description="The method whose checkpoints are evaluated, every round of it.")
    k: int = Field(3, ge=2, le=MOST, description="Candidates sampled per query.")
    temperature: Temperature = Field(1.0, gt=0.0, description="Sampling temperature of the candidates.")

    @property
    def trains_on_seed(self) -> bool:
        """Nothing is trained here."""
        return False


Method = Annotated[BaseMethod | SeedMethod | SelfImprovement | SelectMethod, Field(discriminator="kind")]


class Methods(RootModel[dict[Name, Method]]):
    """``config/methods.yaml``."""


def training_section(method: Method) -> Literal["seed", "sft", "dpo"] | None:
    """Which of a suite's training settings apply to ``method``; ``None`` where nothing is trained."""
    if isinstance(method, SelfImprovement):
        return "dpo" if method.objective.pairs else "sft"
    return "seed" if isinstance(method, SeedMethod) else None
