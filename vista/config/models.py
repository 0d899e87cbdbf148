"""Entries of ``models.yaml``: built by the DAG, a folder on disk, pinned on the hub, or at an endpoint."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, RootModel, field_validator, model_validator

from vista.settings import ADDRESS, REPOSITORY, Factor, Fraction, Name, Strict, UserPath

ModelStage = Literal["models", "rollouts", "training", "evaluation"]


class JobResources(Strict):
    """One job's share of a machine. Memory and time grow with every retry: twice, three times as much."""

    cpus: int | None = Field(
        None, ge=1, description="CPU cores; default: the suite's `threads`, for each training process."
    )
    gpus: int | None = Field(
        None, ge=0, description="GPUs; default: the suite's `gpus`, for each training process."
    )
    memory_gb: float = Field(
        32.0, ge=0.001, le=1e6, description="Main memory, GB; each process of the job keeps to it."
    )
    hours: float = Field(4.0, ge=0.001, le=1e5, description="Time limit, hours.")


class ModelResources(Strict):
    """Resources by stage. `profiles/slurm` uses them all; on one machine hours do not count."""

    models: JobResources = Field(
        default_factory=lambda: JobResources(), description="Fetching or building the base checkpoint."
    )
    rollouts: JobResources = Field(
        default_factory=lambda: JobResources(), description="Each job that samples, resamples or scores."
    )
    training: JobResources = Field(
        default_factory=lambda: JobResources(), description="Training, all processes together."
    )
    evaluation: JobResources = Field(
        default_factory=lambda: JobResources(), description="Evaluating one checkpoint on every task."
    )

    def of(self, stage: ModelStage) -> JobResources:
        """The resources of a stage's jobs."""
        found: JobResources = getattr(self, stage)
        return found

    @classmethod
    def small(cls) -> ModelResources:
        """Enough for a model of a few million parameters."""
        job = JobResources(memory_gb=4.0, hours=1.0)
        return cls(models=job, rollouts=job, training=job, evaluation=job)


class FullTuning(Strict):
    """All weights are trained."""

    kind: Literal["full"] = Field("full", description="Train all weights.")


class LoraTuning(Strict):
    """Low-rank adapters are trained and merged into the weights (Hu et al. 2021)."""

    kind: Literal["lora"] = Field(description="Train adapters, then merge them into the weights.")
    r: int = Field(64, ge=1, description="Rank of the adapters.")
    alpha: Factor = Field(128.0, description="Adapters are scaled by alpha / r.")
    dropout: Fraction = Field(0.0, description="Dropout on the adapters' inputs.")
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear",
        description="Linear layers of the text decoder to adapt: all, or those whose names end like this.",
    )


Tuning = Annotated[FullTuning | LoraTuning, Field(discriminator="kind")]


class ModelTraining(Strict):
    """How a model is trained on this machine. None of it changes the training data or the loss."""

    tuning: Tuning = Field(default_factory=lambda: FullTuning(), description="Which weights are trained.")
    processes: int = Field(1, ge=1, description="Processes, with a GPU each where the suite asks for GPUs.")
    accelerate: UserPath | None = Field(
        None,
        description="A config file of accelerate (FSDP, DeepSpeed, bfloat16); default: copies of the model.",
    )
    device_batch_size: int | None = Field(
        None,
        ge=1,
        description="At most this many examples per process and forward pass; a step has as many passes as "
        "it needs. Default: a process's share of the step in one pass.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: slower, in much less memory."
    )
    save_every: int | None = Field(
        None,
        ge=1,
        description="Optimiser steps between states to resume from; without save_minutes either, no state is "
        "kept.",
    )
    save_minutes: Factor | None = Field(
        None, description="Minutes after which a step is followed by a state to resume from."
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=64,
        exclude_if=lambda workers: workers is None,
        description="Processes beside each training process that encode the next prompts and images; "
        "default: two where it trains on a GPU, otherwise none.",
    )

    @property
    def saves(self) -> bool:
        """Whether states to resume from are kept."""
        return self.save_every is not None or self.save_minutes is not None


class Prompts(Strict):
    """How a checkpoint is asked, and how it marks its answers, where that is not as the queries say."""

    system: str | None = Field(
        None, description="The system text, in place of the queries' own; empty: no system turn."
    )
    suffix: str | None = Field(
        None,
        description="Added to every instruction, on a line of its own unless it begins with a blank.",
    )
    answer_mark: str | None = Field(
        None,
        description="What a response says before its answer, such as `Final verdict ->`; the usual marks "
        "count as well.",
    )

    @property
    def stated(self) -> dict[str, dict[str, str]]:
        """What manifests and digests say: ``prompts``, without what is not set; nothing if nothing is."""
        said = self.model_dump(exclude_none=True)
        return {"prompts": said} if said else {}

    @property
    def shown(self) -> dict[str, dict[str, str]]:
        """``stated`` without ``answer_mark``, which a model is not shown."""
        said = self.model_dump(exclude_none=True, exclude={"answer_mark"})
        return {"prompts": said} if said else {}

    @field_validator("suffix")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        """An empty suffix changes no instruction, so it makes nothing stale."""
        return value or None

    @field_validator("answer_mark")
    @classmethod
    def _is_no_blank(cls, value: str | None) -> str | None:
        """Refuse a mark that every response has."""
        if value is not None and not value.strip():
            raise ValueError("a mark of blanks marks nothing; write what stands before the answer, or null")
        return None if value is None else value.strip()


# Left out of what is printed and recorded where nothing is set.
PROMPTS: Any = Field(
    default_factory=lambda: Prompts(),
    exclude_if=lambda prompts: prompts == Prompts(),
    description="How it is asked, where that is not as the queries say; each key wins over the suite's.",
)


class Loading(Strict):
    """How a checkpoint is loaded and how queries are shown to it.

    Saved as ``loading.json`` with the base checkpoint and everything trained from it. Whether the
    checkpoint's code may run is not part of it: only ``models.yaml`` says so.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of the weights in sampling, scoring and evaluation; auto: as stored."
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        "sdpa", description="Implementation of attention, by transformers' name."
    )
    max_pixels: int | None = Field(
        None, ge=1, description="Larger images are scaled down to this many pixels, their ratio kept."
    )
    processor: dict[str, Any] = Field(
        {}, description="Options of the image processor that differ from its own, such as `size`."
    )
    chat: dict[str, Any] = Field({}, description="Variables of the chat template.")


class Decoder(Strict):
    """A pretrained language model in place of a built model's decoder, adapted to its images with LoRA."""

    package: str = Field(pattern=r"^[A-Za-z_]\w*$", description="The installed package that ships it.")
    file: str = Field(
        pattern=r"^[^/]+\.gguf$", description="Its weights and tokenizer, in the package's folder."
    )
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="The file's SHA-256, 64 hex digits.")
    rank: int = Field(16, ge=1, description="Rank of the adapters; `alpha` is twice that.")
    steps: int = Field(400, ge=1, description="Optimiser steps of the adaptation.")
    batch_size: int = Field(32, ge=1, description="Examples per step.")
    learning_rate: Factor = Field(
        1e-3, description="Peak learning rate of the adapters; the projector's is three times that."
    )
    arithmetic: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Arithmetic of the adaptation's passes; weights and updates stay in float32. A processor "
        "without instructions for bfloat16 is slower in it.",
    )


class BuiltModel(Strict):
    """A tiny model of a real transformers architecture, trained from scratch by the DAG."""

    kind: Literal["built"] = Field(description="Built by the DAG from a fixed seed.")
    architecture: Literal["qwen2.5-vl", "qwen3-vl", "internvl"] = Field(
        description="Which transformers classes."
    )
    corpus: Name = Field(description="The task whose `train` split is the pretraining corpus.")
    layers: int = Field(3, ge=1, description="Layers of the text decoder.")
    width: int = Field(128, ge=64, multiple_of=64, description="Width of the text decoder.")
    vision_layers: int = Field(2, ge=1, description="Layers of the vision tower.")
    vision_width: int = Field(64, ge=16, multiple_of=16, description="Width of the vision tower.")
    seed: int = Field(0, description="Seed of the weights and of which examples are swapped or hinted.")
    decoder: Decoder | None = Field(
        None,
        exclude_if=lambda decoder: decoder is None,
        description="A pretrained decoder, in place of the one that the vision tower was trained with.",
    )
    steps: int = Field(600, ge=1, description="Optimiser steps.")
    batch_size: int = Field(64, ge=1, description="Examples per step.")
    learning_rate: Factor = Field(3e-3, description="Peak learning rate of AdamW.")
    swapped: Fraction = Field(0.3, description="Share of examples with the image after the text.")
    hinted: Fraction = Field(0.1, description="Share of examples with the answer as a hint.")
    training: ModelTraining = Field(
        default_factory=lambda: ModelTraining(), description="How it is trained on self-generated data."
    )
    prompts: Prompts = PROMPTS
    resources: ModelResources = Field(
        default_factory=ModelResources.small, description="What its jobs ask a cluster for."
    )

    @model_validator(mode="after")
    def _has_a_place_for_the_decoder(self) -> BuiltModel:
        """Refuse a pretrained decoder in a family whose positions it does not know."""
        if self.decoder is not None and self.architecture != "internvl":
            raise ValueError(
                f"decoder: architecture {self.architecture} counts positions in three dimensions, which a "
                "language model does not know; use internvl"
            )
        return self


class LocalModel(Loading):
    """A checkpoint folder on disk."""

    kind: Literal["path"] = Field(description="A checkpoint folder on disk.")
    path: UserPath = Field(description="The folder, absolute or relative to the working directory.")
    trust_remote_code: bool = Field(False, description="Run code that the checkpoint brings.")
    training: ModelTraining = Field(default_factory=lambda: ModelTraining(), description="How it is trained.")
    prompts: Prompts = PROMPTS
    resources: ModelResources = Field(
        default_factory=lambda: ModelResources(), description="What its jobs ask a cluster for."
    )


class HubModel(Loading):
    """A model of the Hugging Face hub at a pinned revision."""

    kind: Literal["hub"] = Field(description="A model of the Hugging Face hub.")
    repo: str = Field(pattern=REPOSITORY, description="owner/name on the hub.")
    revision: str | None = Field(
        description="The commit, 40 hex digits; null: not pinned yet, so that a plan can be made but no run."
    )
    path: UserPath | None = Field(
        None, description="A folder that holds the files already; it wins over the hub."
    )
    trust_remote_code: bool = Field(False, description="Run code that the repository brings.")
    training: ModelTraining = Field(default_factory=lambda: ModelTraining(), description="How it is trained.")
    prompts: Prompts = PROMPTS
    resources: ModelResources = Field(
        default_factory=lambda: ModelResources(), description="What its jobs ask a cluster for."
    )

    @field_validator("revision")
    @classmethod
    def _is_commit(cls, value: str | None) -> str | None:
        """Refuse branches and tags: they move, so nobody could tell later what a run was made with."""
        if value is not None and not re.fullmatch(r"[0-9a-f]{40}", value):
            raise ValueError(
                "a revision is a commit of 40 hex digits, not a branch, a tag or a short hash; "
                "`git ls-remote https://huggingface.co/<repo> HEAD` prints the newest one"
            )
        return value


def _is_a_base(value: str) -> str:
    """Refuse a query or fragment: requests would be appended to it, and some servers take keys there."""
    if "?" in value or "#" in value:
        raise ValueError(
            "the address must not contain ? or #; a key belongs into the environment variable that "
            "api_key_variable names"
        )
    return value


BaseAddress = Annotated[str, Field(pattern=ADDRESS), AfterValidator(_is_a_base)]


class EndpointModel(Strict):
    """A model that is only reached at an OpenAI-compatible endpoint: it can only be evaluated."""

    kind: Literal["endpoint"] = Field(description="Ask a model at an OpenAI-compatible endpoint.")
    endpoint: BaseAddress = Field(description="Base URL, such as http://localhost:8000/v1.")
    model: str = Field(min_length=1, description="Name of the model there.")
    cache: UserPath = Field(description="Folder that keeps every reply, so that none is paid for twice.")
    max_requests: int = Field(
        ge=1, description="The budget: requests that may be sent, over all starts of all jobs."
    )
    greedy: bool = Field(
        True,
        description="Whether requests say `temperature: 0`; false for servers that refuse it, and then "
        "sample as they like.",
    )
    limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What the server calls the length limit (`eval_max_new_tokens`)."
    )
    api_key_variable: str = Field("VISTA_ENDPOINT_KEY", description="Environment variable with the key.")
    timeout: float = Field(120.0, ge=0.001, le=1e6, description="Seconds to wait for a reply.")
    parallel: int = Field(4, ge=1, description="Requests sent at the same time.")
    prompts: Prompts = PROMPTS

    @property
    def asking(self) -> dict[str, Any]:
        """What decides its replies besides the prompts: not what they may cost or how they are fetched."""
        return self.model_dump(mode="json", include={"endpoint", "model", "greedy", "limit"})


Model = Annotated[BuiltModel | LocalModel | HubModel, Field(discriminator="kind")]
Entry = Annotated[BuiltModel | LocalModel | HubModel | EndpointModel, Field(discriminator="kind")]


class Models(RootModel[dict[Name, Entry]]):
    """``models.yaml``."""
