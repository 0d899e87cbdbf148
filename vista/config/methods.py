"""Entries of ``config/methods.yaml``: a method is data. The defaults are the paper's values."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, RootModel

from vista.config.base import Fraction, Name, Strict

MOST = 10_000  # solutions to one query that are asked for at a time


class Sampling(Strict):
    """How a policy is sampled on the train queries (paper: Sec. 3, step 1)."""

    k: int = Field(10, ge=1, le=MOST, description="Solutions sampled per query.")
    temperature: float = Field(1.0, ge=0.0, description="Sampling temperature; 0 is greedy.")
    max_new_tokens: int = Field(2048, ge=1, description="Length limit of a response, in tokens.")

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"k{self.k}-t{self.temperature:g}-n{self.max_new_tokens}"


class NoResample(Strict):
    """Failed solutions are only negatives."""

    kind: Literal["none"] = Field("none", description="No resampling.")


class PrefixResample(Strict):
    """VISTA's prefix resampling (paper: Sec. 3, step 2)."""

    kind: Literal["prefix"] = Field(description="Resample from the corrected prefix.")
    j: int = Field(3, ge=1, le=MOST, description="Continuations sampled from each corrected prefix.")
    top_k: int = Field(5, ge=1, description="A token outside this many best predictions is critical.")
    order: Literal["swapped", "original"] = Field(
        "swapped", description="Order of instruction and image in the teacher-forced pass."
    )

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"prefix-j{self.j}-top{self.top_k}-{self.order}"


class RationalizeResample(Strict):
    """STaR's rationalisation: the failed query again, with the right answer as a hint."""

    kind: Literal["rationalize"] = Field(description="Resample with the answer as a hint.")
    j: int = Field(1, ge=1, le=MOST, description="Rationales sampled per failed query.")
    temperature: float = Field(0.0, ge=0.0, description="Sampling temperature; 0 is greedy.")

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"rationalize-j{self.j}-t{self.temperature:g}"


class MatchedResample(Strict):
    """A control that is matched to a prefix resampling of the same samples, and reads its rows."""

    j: int = Field(3, ge=1, le=MOST, description="`j` of the prefix resampling to match.")
    top_k: int = Field(5, ge=1, description="Its `top_k`.")
    order: Literal["swapped", "original"] = Field("swapped", description="Its `order`.")

    @property
    def matched(self) -> PrefixResample:
        """The prefix resampling that it is matched to."""
        return PrefixResample(kind="prefix", j=self.j, top_k=self.top_k, order=self.order)


class BudgetMatchedResample(MatchedResample):
    """Control: as many plain samples as prefix resampling pays for, in tokens or in solutions."""

    kind: Literal["budget-matched"] = Field(
        description="Plain samples, as many as prefix resampling of these settings pays for."
    )
    match: Literal["tokens", "samples"] = Field(
        "tokens",
        description="For each query, the tokens that are drawn (prefixes are given), or the number of "
        "solutions.",
    )

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"{'budget' if self.match == 'tokens' else 'number'}-of-{self.matched.slug}"


class RandomPrefixResample(MatchedResample):
    """Control: prefix resampling of the same failures, cut at a random token, not at the critical one."""

    kind: Literal["random-prefix"] = Field(
        description="Resample from a prefix of random length, what prefix resampling of these settings does."
    )

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"random-{self.matched.slug}"


class GoldPrefixResample(Strict):
    """Control: prefix resampling that cuts at the true first error, which the gold token replaces."""

    kind: Literal["gold-prefix"] = Field(
        description="Resample from the gold rationale, up to where the failed one leaves it (testbed only)."
    )
    j: int = Field(3, ge=1, le=MOST, description="Continuations sampled from each prefix.")

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"gold-prefix-j{self.j}"


ResampleSettings = (
    PrefixResample | RationalizeResample | BudgetMatchedResample | RandomPrefixResample | GoldPrefixResample
)
Resample = Annotated[NoResample | ResampleSettings, Field(discriminator="kind")]


class BaseFilter(Strict):
    """What every filter says of itself beside its settings."""

    # The measurements of the solutions that the filter compares: attention (`vista score`) or
    # log-probabilities (`vista gains`). The DAG makes what is read, and nothing else.
    reads: ClassVar[Literal["scores", "gains"] | None] = None
    needs_scene: ClassVar[bool] = False  # only generated tasks have one


class NoFilter(BaseFilter):
    """Every positive is kept."""

    kind: Literal["none"] = Field("none", description="No filter.")


class ScoreFilter(BaseFilter):
    """Drop positives whose score, as a z-score within the query, is low."""

    tau: float = Field(-0.5, description="Positives with a z-score below this are dropped.")
    scope: Literal["positives", "all"] = Field(
        "positives", description="The set, per query, over which the z-score is taken."
    )
    ddof: Literal[0, 1] = Field(0, description="Degrees of freedom of the standard deviation.")
    min_group: int = Field(2, ge=1, description="Queries with fewer solutions in scope are exempt.")


class VasFilter(ScoreFilter):
    """Drop positives whose vision-aware attention score is low (paper: Sec. 3, step 3)."""

    reads = "scores"
    kind: Literal["vas"] = Field(description="Filter by the vision-aware attention score.")
    layers: list[Fraction] = Field(
        [0.5], min_length=1, description="Layers, as fractions of the depth; 0.5 is layer ⌊L/2⌋."
    )


class RandomDropFilter(ScoreFilter):
    """Control: drop as many positives of each query as the attention score would, at random."""

    reads = "scores"
    kind: Literal["random-drop"] = Field(description="Drop as many as `vas` of these settings, at random.")
    layers: list[Fraction] = Field([0.5], min_length=1, description="Layers of the score to match.")


class VigFilter(ScoreFilter):
    """Control: drop positives that the image makes little more likely (visual information gain)."""

    reads = "gains"
    kind: Literal["vig"] = Field(description="Filter by log p(r | image) − log p(r | no image), per token.")


class LogprobFilter(ScoreFilter):
    """Control: drop positives that the policy itself thinks unlikely."""

    reads = "gains"
    kind: Literal["logprob"] = Field(description="Filter by log p(r | image), per token.")


class OracleFilter(BaseFilter):
    """Control: drop positives that are unfaithful to the image. No filter can know more."""

    needs_scene = True
    kind: Literal["oracle"] = Field(description="Filter by the audit against the scene (testbed only).")


Filter = Annotated[
    NoFilter | VasFilter | RandomDropFilter | VigFilter | LogprobFilter | OracleFilter,
    Field(discriminator="kind"),
]


class BaseObjective(Strict):
    """What every objective says of itself beside its settings."""

    # Trained on pairs of a positive and a negative, with the suite's `training.dpo`; or on positives,
    # with `training.sft`.
    pairs: ClassVar[bool] = False
    kind: str


class SftObjective(BaseObjective):
    """Supervised fine-tuning, loss averaged per sequence first (paper: Sec. 3, step 4)."""

    kind: Literal["sft"] = Field(description="Supervised fine-tuning on positives.")


class DpoObjective(BaseObjective):
    """DPO plus a length-normalised NLL on the chosen response (paper: Sec. 3, step 4)."""

    pairs = True
    kind: Literal["dpo"] = Field(description="Preference training on pairs.")
    beta: float = Field(0.1, gt=0.0, description="DPO's inverse temperature.")
    alpha: float = Field(0.5, ge=0.0, description="Weight of the NLL of the chosen response.")


Objective = Annotated[SftObjective | DpoObjective, Field(discriminator="kind")]


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
    resample: Resample = Field(default_factory=NoResample, description="What to do with failures.")
    filter: Filter = Field(default_factory=NoFilter, description="Which positives to drop.")
    dedupe: bool = Field(False, description="Keep one of several positives of equal text per query.")
    max_per_query: int | None = Field(
        None, ge=1, description="At most this many positives (or pairs) per query, at random."
    )
    objective: Objective = Field(
        default_factory=lambda: SftObjective(kind="sft"), description="What to train."
    )
    mix_seed: bool = Field(True, description="Add the seed split to an SFT training set.")
    restart: Literal["base", "previous"] = Field(
        "base", description="Each round trains the base anew, or goes on from the last round."
    )
    accumulate: bool = Field(
        False,
        description="Choose from the rollouts of all rounds so far, not of the last alone (R3V).",
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
    """Another method's checkpoints, decoded otherwise: sample, then let the model select (R3V)."""

    kind: Literal["select"] = Field(description="Evaluate another method with test-time selection.")
    of: Name = Field(description="The method whose checkpoints are evaluated, every round of it.")
    k: int = Field(3, ge=2, le=MOST, description="Candidates sampled per query.")
    temperature: float = Field(1.0, gt=0.0, description="Sampling temperature of the candidates.")

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
