"""Entries of ``config/methods.yaml``: a method is data. The defaults are the paper's values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, RootModel, field_validator, model_validator

from vista.filters import FilterSettings
from vista.filters.none import NoFilterSettings
from vista.objectives import ObjectiveSettings
from vista.objectives.sft import SftSettings
from vista.plugins import Plugin
from vista.resamplers import ResampleSettings
from vista.resamplers.none import NoResampleSettings
from vista.rewards import RewardSettings
from vista.rewards.correct import CorrectSettings
from vista.settings import MOST, Name, Strict, Temperature, UserPath, spelled


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
Reward = Annotated[RewardSettings, Plugin("reward", RewardSettings, "vista.rewards")]


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


class GrpoSettings(Strict):
    """GRPO (Shao et al. 2024), as TRL computes its loss; every step samples anew, so nothing is clipped."""

    kind: Literal["grpo"] = Field(description="Group relative policy optimisation.")
    beta: float = Field(
        0.01, ge=0.0, description="Weight of the KL divergence to the policy that training starts from."
    )
    loss_type: Literal["grpo", "dapo", "dr_grpo"] = Field(
        "grpo",
        description="How tokens are averaged, by TRL's names: `grpo` within each response first, `dapo` over "
        "the step, `dr_grpo` over the length limit.",
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group",
        description="What advantages are divided by: the standard deviation of rewards within the query's "
        "`group`, in the whole step (`batch`), or nothing.",
    )
    reward: Reward = Field(default_factory=lambda: CorrectSettings(), description="What is rewarded.")


class TokenBudget(Strict):
    """How much a method that samples as it trains may sample."""

    tokens_of: Name = Field(
        description="A self-improvement method. A round ends with the step that has sampled as many tokens "
        "as this method has for its round of the same number, but after `epochs` at the latest."
    )


class OnlineMethod(Strict):
    """A method that trains on what the policy samples as it trains: reinforcement learning."""

    kind: Literal["online"] = Field(description="Train on responses that the policy samples as it trains.")
    initial_policy: Name = Field("sft-seed", description="The method whose checkpoint round 1 starts from.")
    rounds: int = Field(
        1, ge=1, le=1000, description="Rounds, each from the last one's checkpoint, each evaluated."
    )
    rollouts: Sampling = Field(
        default_factory=lambda: Sampling(),
        description="How to sample; the `k` responses to a query are its group.",
    )
    objective: GrpoSettings = Field(
        default_factory=lambda: GrpoSettings(kind="grpo"), description="What to train."
    )
    budget: TokenBudget | None = Field(None, description="Where a round ends, other than by `epochs`.")

    @property
    def trains_on_seed(self) -> bool:
        """The seed split's rationales were not sampled by the policy."""
        return False

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        """Refuse groups in which all rewards would be equal."""
        if self.rollouts.k < 2 or self.rollouts.temperature == 0:
            raise ValueError(
                "rollouts: a group needs responses that can differ; set k to 2 at least, temperature above 0"
            )
        return self


Improving = SelfImprovement | OnlineMethod  # trained on what their own policies sample


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


PLACES = ("{seed}", "{round}")  # what the paths of an external method may leave open


class ExternalMethod(Strict):
    """What was made elsewhere: checkpoints, adapters, or responses to the test queries."""

    kind: Literal["external"] = Field(description="Compare checkpoints or responses from elsewhere.")
    checkpoints: dict[Name, UserPath] = Field(
        {},
        description="By model, a checkpoint folder or a peft adapter of it; `{seed}` and `{round}` stand for "
        "the run's.",
    )
    predictions: dict[Name, UserPath] = Field(
        {},
        description="By model, a file of responses: CSV, JSON lines or parquet with `query_id` "
        "and `response`, or samples that lmms-eval logged (a file, or a folder with one for each task); "
        "`{seed}` and `{round}` as above.",
    )
    rounds: int = Field(1, ge=1, le=1000, description="Rounds; of several, the paths name `{round}`.")
    missing: Literal["refuse", "unanswered"] = Field(
        "refuse", description="What a test query without a response is: an error, or a wrong answer."
    )

    @property
    def trains_on_seed(self) -> bool:
        """Nothing is trained here."""
        return False

    @property
    def paths(self) -> dict[str, Path]:
        """What the user gives, by model."""
        return {**self.checkpoints, **self.predictions}

    @property
    def has_seeds(self) -> bool:
        """Whether there is something for each seed; otherwise all of it counts for the first one."""
        return any("{seed}" in str(path) for path in self.paths.values())

    def path(self, model: str, seed: int, number: int) -> Path:
        """What the user gives for one run."""
        text = str(self.paths[model])
        return Path(text.replace("{seed}", str(seed)).replace("{round}", str(number)))

    @field_validator("checkpoints", "predictions")
    @classmethod
    def _leave_open_what_is_known(cls, paths: dict[str, Path]) -> dict[str, Path]:
        """Refuse braces that stand for nothing, and models that differ in what their paths leave open."""
        opened = set()
        for path in paths.values():
            found = re.findall(r"{.*?}|[{}]", str(path))
            if unknown := sorted(set(found) - set(PLACES)):
                raise ValueError(f"{path}: {unknown[0]} is none of {' and '.join(PLACES)}; correct the path")
            opened.add(frozenset(found))
        if len(opened) > 1:
            raise ValueError("all paths must name the same of {seed} and {round}; make two methods of them")
        return paths

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        """Refuse both kinds, neither, and what the other kind alone has."""
        if bool(self.checkpoints) == bool(self.predictions):
            raise ValueError("expected either checkpoints or predictions, of one model at least")
        if self.checkpoints and self.missing != "refuse":
            raise ValueError("missing is about predictions, but there are checkpoints; remove it")
        if self.rounds > 1 and not all("{round}" in str(path) for path in self.paths.values()):
            raise ValueError(f"rounds is {self.rounds}, but the paths do not name {{round}}; add it to them")
        return self


Method = Annotated[
    BaseMethod | SeedMethod | SelfImprovement | OnlineMethod | SelectMethod | ExternalMethod,
    Field(discriminator="kind"),
]


class Methods(RootModel[dict[Name, Method]]):
    """``config/methods.yaml``."""


def training_section(method: Method) -> Literal["seed", "sft", "dpo", "grpo"] | None:
    """Which of a suite's training settings apply to ``method``; ``None`` where nothing is trained."""
    if isinstance(method, SelfImprovement):
        return "dpo" if method.objective.pairs else "sft"
    if isinstance(method, OnlineMethod):
        return method.objective.kind
    return "seed" if isinstance(method, SeedMethod) else None
