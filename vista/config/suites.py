"""Suites: train sets, seeds and settings, as written and as resolved."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, field_validator
from pydantic_core import core_schema
from pydantic_core.core_schema import CoreSchema, ValidationInfo

from vista.answers import extract
from vista.config.methods import BaseMethod, ExternalMethod, Method, SelectMethod
from vista.config.models import EndpointModel, Model, Prompts
from vista.config.rationales import AnnotatedRationales, SeedRationales
from vista.config.tables import Tables
from vista.errors import VistaError
from vista.plugins import Plugin, name_modules
from vista.settings import NAME, Distinct, Factor, Fraction, Name, Strict, UserPath
from vista.task_kinds import TaskSettings

LMMS_EVAL = "lmms-eval:"  # before lmms-eval's name of a task
TASK_NAME = rf"{NAME}|^{LMMS_EVAL}\S+$"  # of a task as suite files name it
TaskName = Annotated[str, Field(pattern=TASK_NAME, max_length=150)]
Task = Annotated[TaskSettings, Plugin("task", TaskSettings, "vista.tasks")]


SamplingStrategy = Literal["random", "group_by_length"]


class Hyperparameters(Strict):
    """One training run's settings."""

    epochs: int = Field(3, ge=1, description="Passes over the training set.")
    learning_rate: Factor = Field(1e-5, description="Peak learning rate.")
    batch_size: int = Field(
        16, ge=1, description="Examples per optimiser step, over all processes and forward passes."
    )
    sampling_strategy: SamplingStrategy = Field(
        "random",
        description="Which examples share a step, as transformers' `train_sampling_strategy`: `random`, or "
        "`group_by_length` for similar lengths, which needs less padding and is not what the paper does.",
    )
    warmup: Fraction = Field(0.1, description="Share of the steps that warm up.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning-rate schedule after the warm-up."
    )
    weight_decay: float = Field(0.0, ge=0.0, description="AdamW's decoupled weight decay.")
    max_grad_norm: Factor = Field(1.0, description="Gradients are clipped to this norm.")


class TrainingSettings(Strict):
    """Training settings by what is trained on; a section that is left out is as in config/paper.yaml."""

    seed: Hyperparameters = Field(
        default_factory=lambda: Hyperparameters(batch_size=32, warmup=0.03),
        description="SFT on the seed split.",
    )
    sft: Hyperparameters = Field(
        default_factory=lambda: Hyperparameters(batch_size=64, warmup=0.03),
        description="SFT on self-generated solutions.",
    )
    dpo: Hyperparameters = Field(
        default_factory=lambda: Hyperparameters(batch_size=64, learning_rate=1e-6),
        description="DPO on pairs of self-generated solutions.",
    )
    grpo: Hyperparameters = Field(
        default_factory=lambda: Hyperparameters(
            epochs=15, batch_size=640, learning_rate=1e-6, warmup=0.0, schedule="constant"
        ),
        description="GRPO on responses that are sampled as it trains; `batch_size` counts responses, "
        "`epochs` how often each query is asked.",
    )
    report_to: Distinct[Literal["tensorboard", "trackio", "wandb"]] = Field(
        [],
        description="Programs that every step's losses are reported to, besides the history that every run "
        "keeps; their logs go to `logs/training` of the results. Each is an extra of the same name.",
    )


class ScoringSettings(Strict):
    """The passes that measure solutions: of attention, and of log-probabilities."""

    layers: Literal["all"] | list[Fraction] = Field(
        "all", description="Layers whose attention is stored: all, or fractions of the depth."
    )
    linear_layers: Literal["refuse", "nearest"] = Field(
        "refuse",
        description="What is done about a layer that has no attention to read, as most of a hybrid model's: "
        "refuse it, or read the nearest layer that has, of two the earlier one.",
    )
    without: Literal["mean", "absent"] = Field(
        "mean",
        description="What a prompt without its image is: the image in its own mean colour, "
        "or no image at all.",
    )
    batch_size: int = Field(64, ge=1, description="Solutions per forward pass.")


class HfEngineSettings(Strict):
    """Sampling with transformers, in this process."""

    kind: Literal["hf"] = Field("hf", description="Sample with transformers.")
    batch_size: int = Field(512, ge=1, description="Sequences decoded at a time.")


class VllmEngineSettings(Strict):
    """Sampling with vLLM, in a separate environment."""

    kind: Literal["vllm"] = Field(description="Sample with vLLM.")
    batch_size: int = Field(512, ge=1, description="Sequences decoded at a time.")
    command: str = Field(
        ".venv-vllm/bin/vista", description="The `vista` command of the environment that has vLLM."
    )
    memory: Fraction = Field(0.85, description="Share of the GPU's memory that vLLM may take.")
    colocated_memory: Fraction = Field(0.3, description="The same, while it samples for a training there.")
    max_model_len: int | None = Field(None, ge=1, description="Longest prompt with response, in tokens.")
    eager: bool = Field(False, description="Without CUDA graphs: starts faster, runs slower.")


EngineSettings = Annotated[HfEngineSettings | VllmEngineSettings, Field(discriminator="kind")]


class Only(Strict):
    """Where a method runs, if not everywhere."""

    models: list[Name] | None = Field(None, min_length=1, description="Only on these models.")
    seeds: list[int] | None = Field(None, min_length=1, description="Only with these seeds.")


class Sweep(Strict):
    """A method, several times over, each time with another value of one setting."""

    method: Name = Field(description="The method that is varied.")
    set: str = Field(description="The setting, such as `filter.tau`.")
    values: list[Any] = Field(min_length=1, description="Its values.")
    rounds: int | None = Field(None, ge=1, description="Rounds of each; default: the method's.")
    only: Only = Field(default_factory=lambda: Only(), description="Where the sweep runs.")


class Swept(Strict):
    """Which method a swept one varies, and how."""

    sweep: Name = Field(description="The sweep that it is a part of.")
    of: Name = Field(description="The method that is varied.")
    set: str = Field(description="The setting.")
    value: Any = Field(description="Its value.")


class SuiteFields(Strict):
    """What a suite file and a resolved suite have in common."""

    name: Name = Field(description="Name of the suite.")
    results: UserPath = Field(description="Folder for all outputs.")
    plugins: Distinct[str] = Field(
        [],
        validate_default=True,
        description="Your own modules with plug-ins (filters, resamplers, objectives, kinds of tasks), such "
        "as `my_lab.vista`; packages that declare entry points need not be listed.",
    )
    train_sets: dict[Name, Annotated[Distinct[Name], Field(min_length=1)]] = Field(
        min_length=1, description="Named lists of tasks to train on together."
    )
    out_of_domain: Distinct[Name] = Field([], description="Tasks that are only evaluated on.")
    seeds: Distinct[Annotated[int, Field(ge=0)]] = Field(
        [0], min_length=1, description="One run of the grid per seed."
    )
    max_rounds: dict[Name, Annotated[int, Field(ge=1)]] = Field(
        {}, description="By model, the rounds it runs at most; default: as many as each method has."
    )
    only: dict[Name, Only] = Field({}, description="By method, where it runs, if not everywhere.")
    blocks: dict[Name, Annotated[Distinct[Name], Field(min_length=1)]] = Field(
        {},
        exclude_if=lambda blocks: not blocks,
        description="Parts of the grid, in the order in which you run them: by block its methods, and "
        "sweeps by name; default: one part.",
    )
    wording: Wording = Field(
        default_factory=lambda: Wording(), description="What prompts say beside queries."
    )
    tasks: dict[Name, Task] = Field(description="Every task by name.")
    training: TrainingSettings = Field(
        default_factory=lambda: TrainingSettings(), description="Training settings."
    )
    seed_rationales: SeedRationales = Field(
        default_factory=lambda: AnnotatedRationales(),
        description="Where the seed split's rationales are from.",
    )
    engine: EngineSettings = Field(default_factory=lambda: HfEngineSettings(), description="Sampling engine.")
    scoring: ScoringSettings = Field(
        default_factory=lambda: ScoringSettings(), description="What the attention pass stores."
    )
    eval_max_new_tokens: int = Field(2048, ge=1, description="Length limit in evaluation.")
    eval_batch_size: int = Field(128, ge=1, description="Test queries decoded at a time.")
    padding: bool | None = Field(
        None,
        description="Whether prompts of unequal length share a batch in sampling, scoring and evaluation: "
        "several times faster where lengths vary. Without it, results on CPUs are bit for bit those of any "
        "batch size; with it, up to rounding. Default: on GPUs.",
    )
    tables: Tables = Field(
        ["main", "cost"],
        validate_default=True,
        description="The tables that Snakemake makes by default: names, or by name what readers see of it.",
    )
    cases_per_task: int = Field(
        3, ge=1, description="Solutions of each kind, task and policy on the page of cases."
    )
    reported: UserPath | None = Field(
        None,
        description="A CSV file of published accuracies, under this suite's names, to set beside the "
        "reproduced ones (tables/reported.csv); relative to the working directory.",
    )
    keep_checkpoints: Literal["all", "last", "none"] = Field(
        "all",
        exclude_if=lambda kept: kept == "all",
        description="Trained checkpoints whose weights stay once everything that the suite makes from them "
        "is there: all, those of each method's last round, or none.",
    )
    shards: int = Field(1, ge=1, le=10_000, description="Jobs that share a policy's queries.")
    pilot: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda queries: queries is None,
        description="A pilot: the same grid with at most so many queries in each split and two epochs of "
        "training, in a results folder of its own, whose name ends in `-pilot`.",
    )
    snapshot: bool = Field(
        False,
        description="Whether jobs run a copy of the code, taken when snakemake starts, so that it may be "
        "edited during the run. Otherwise, a job that finds edited code ends with an error.",
    )
    threads: int = Field(1, ge=1, description="CPU threads of each job that runs a model.")
    gpus: int = Field(
        0,
        ge=0,
        description="GPUs for each job that runs a model; in training, for each process. If torch "
        "then sees none, a model that is not built here refuses to run on the CPU.",
    )

    @field_validator("plugins")
    @classmethod
    def _finds_its_plugins(cls, named: list[str]) -> list[str]:
        """Import the modules with plug-ins before any later field names one of these."""
        try:
            name_modules(named)
        except VistaError as error:
            raise ValueError(str(error).removeprefix("plugins: ")) from error
        return named

    @field_validator("results")
    @classmethod
    def _is_no_pattern(cls, value: Path) -> Path:
        """Any folder will do, except names that Snakemake or a command would misread."""
        text = str(value)
        if set("{}") & set(text) or text.startswith("-"):
            raise ValueError(
                "a folder of this name cannot be used: Snakemake reads braces as wildcards, and commands a "
                "leading - as an option; choose another name"
            )
        return value


class Written:
    """Annotates the name of an entry of another file, in whose place an entry with a new name may be written.

    ``load_suite`` validates that one like those of the file, once the suite's defaults are filled in.
    """

    def __init__(self, kind: Any) -> None:
        one = Field(min_length=1, max_length=1)
        self.entry: TypeAdapter[Any] = TypeAdapter(Annotated[dict[Name, kind], one])

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._validate, handler.generate_schema(Name))

    def _validate(self, value: Any, is_name: Callable[[Any], Any]) -> Any:
        if not isinstance(value, dict):
            return is_name(value)
        if len(value) != 1:
            raise ValueError("expected a name, or one new name with its entry, indented below it")
        return {is_name(name): entry for name, entry in value.items()}

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A name, or an entry."""
        return {"anyOf": [handler(schema["schema"]), handler(self.entry.core_schema)]}


def names_of(listed: Iterable[str | dict[str, Any]]) -> list[str]:
    """The names in a suite's list of models or methods, those with an entry too."""
    return [name for each in listed for name in ([each] if isinstance(each, str) else each)]


class SuiteFile(SuiteFields):
    """A suite as the user writes it: models and methods by name."""

    train_sets: dict[Name, Annotated[Distinct[TaskName], Field(min_length=1)]] = Field(
        min_length=1, description="Named lists of tasks to train on together."
    )
    out_of_domain: Distinct[TaskName] = Field(
        [],
        description="Tasks that are only evaluated on: those under `tasks`, and `lmms-eval:NAME` for any "
        "that lmms-eval has.",
    )
    models: Distinct[Annotated[str | dict[str, Any], Written(Model)]] = Field(
        min_length=1, description="Names from models.yaml, or a new name with its entry."
    )
    methods: Distinct[Annotated[str | dict[str, Any], Written(Method)]] = Field(
        min_length=1, description="Names from methods.yaml, or a new name with its entry."
    )
    prompts: Prompts = Field(
        default_factory=lambda: Prompts(),
        description="How every model is asked, where that is not as the queries say; what a model's entry "
        "sets wins, key by key.",
    )
    models_file: UserPath = Field(
        Path("models.yaml"),
        description="Where models are defined; what is not in the working folder is taken from the checkout.",
    )
    methods_file: UserPath = Field(
        Path("config/methods.yaml"), description="Where methods are defined; as models_file."
    )
    method_defaults: dict[str, Any] = Field(
        {},
        description="Values for what methods.yaml leaves open, by section (`rollouts`, "
        "`max_per_query` …) or section and kind (`resample.prefix`).",
    )
    method_overrides: dict[str, dict[str, Any]] = Field(
        {}, description="Values that win over methods.yaml, by method, then as in method_defaults."
    )
    sweeps: dict[Name, Sweep] = Field(
        {}, description="Methods that differ in one value, named `<method>+<sweep>=<value>`."
    )
    up_to: Name | None = Field(
        None, description="The last of the `blocks` to run, with those before it; default: all of them."
    )


class Suite(SuiteFields):
    """A resolved suite: models and methods by value. All that the stages read."""

    models: dict[Name, Model] = Field(description="Every model with weights, by name.")
    endpoints: dict[Name, EndpointModel] = Field(
        {},
        exclude_if=lambda endpoints: not endpoints,
        description="Every model at an endpoint, by name: only methods of kind base run on it.",
    )
    methods: dict[Name, Method] = Field(description="Every method by name, swept ones as well.")
    swept: dict[Name, Swept] = Field({}, description="By swept method, what it varies.")

    def where(self, method: str) -> tuple[list[str], list[int]]:
        """Models and seeds that a method runs on, each in the suite's order."""
        only, spec = self.only.get(method, Only()), self.methods[method]
        is_base = isinstance(spec, BaseMethod)
        models, seeds = self.every_model if is_base else list(self.models), self.seeds
        if isinstance(spec, SelectMethod) and isinstance(self.methods.get(spec.of), ExternalMethod):
            models, seeds = self.where(spec.of)
        if isinstance(spec, ExternalMethod):
            models = [name for name in models if name in spec.paths]
        if self.has_one_seed(method):
            seeds = self.seeds[:1]
        return (
            [name for name in models if only.models is None or name in only.models],
            [seed for seed in seeds if only.seeds is None or seed in only.seeds],
        )

    def has_one_seed(self, method: str) -> bool:
        """Whether a method has one run for all seeds: the base model, or what somebody trained once."""
        spec = self.methods[method]
        return isinstance(spec, BaseMethod) or (isinstance(spec, ExternalMethod) and not spec.has_seeds)

    @property
    def every_model(self) -> list[str]:
        """The names of all models, in the order of the tables: those at endpoints come last."""
        return [*self.models, *self.endpoints]

    def prompts(self, model: str) -> Prompts:
        """How a model is asked."""
        return (self.models[model] if model in self.models else self.endpoints[model]).prompts

    @property
    def trained_tasks(self) -> list[str]:
        """Every task of a train set, once, in the suite's order."""
        return list(dict.fromkeys(task for tasks in self.train_sets.values() for task in tasks))

    @property
    def evaluated_tasks(self) -> list[str]:
        """Every task in the tables: those trained on, then those out of domain."""
        return list(dict.fromkeys([*self.trained_tasks, *self.out_of_domain]))

    @property
    def tasks_without_scene(self) -> list[str]:
        """The tasks trained on that do not say what their images show; only generated ones do."""
        known = [task for task in self.trained_tasks if task in self.tasks]  # others are reported elsewhere
        return [task for task in known if not self.tasks[task].has_scene]


# The placeholders of each template; all of them must be there, and no others.
PLACEHOLDERS: dict[str, frozenset[str]] = {
    "hint": frozenset({"instruction", "answer"}),
    "refine": frozenset({"instruction", "solution"}),
    "select": frozenset({"instruction", "candidates"}),
    "candidate": frozenset({"number", "solution"}),
    "chosen": frozenset({"answer"}),
}


class Wording(Strict):
    """What prompts say besides a query's own text; `{…}` is replaced."""

    hint: str = Field("{instruction}\nhint : the answer is {answer}", description="STaR's rationalisation.")
    refine: str = Field(
        "{instruction}\nThis solution may be wrong:\n{solution}\nCorrect it.",
        description="R3V's self-refine.",
    )
    select: str = Field(
        "{instruction}\nCandidate solutions:\n{candidates}\nWhich answer is right?",
        description="R3V's self-select.",
    )
    candidate: str = Field("{number} : {solution}", description="One line of `{candidates}`.")
    chosen: str = Field("answer: {answer}", description="The right response to `select`.")

    @field_validator("*")
    @classmethod
    def _has_its_placeholders(cls, template: Any, info: ValidationInfo) -> Any:
        """Refuse a template that lacks a placeholder, or has an unknown one."""
        wanted = PLACEHOLDERS[str(info.field_name)]
        listed = ", ".join(f"{{{name}}}" for name in sorted(wanted))
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"not a template ({error}); write a literal brace twice") from error
        found = [name for _, name, _, _ in parsed if name is not None]
        if set(found) != wanted:
            raise ValueError(f"expected a template with the placeholders {listed} and no others")
        if any(form or conversion for _, _, form, conversion in parsed):
            raise ValueError(f"write placeholders without format options, as {listed}")
        return template

    @field_validator("chosen")
    @classmethod
    def _gives_an_answer(cls, template: str) -> str:
        """Refuse a response in which no answer can be found."""
        if extract(template.format(answer="42")) != "42":
            raise ValueError('no answer can be found in such a response; write it like "answer: {answer}"')
        return template
