"""What a user writes, typed: suites, models and methods.

A suite file (``config/testbed.yaml``) names models, tasks and methods; ``models.yaml`` and
``config/methods.yaml`` define them. ``load_suite`` joins the three into one ``Suite``, which
is all that the stages ever read. ``vista config config/testbed.yaml`` prints it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from vista.errors import VistaError, fail_if


class Strict(BaseModel):
    """Unknown keys are errors, and a loaded config does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


NAME = r"^[a-z0-9][a-z0-9.+-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


# --- methods -------------------------------------------------------------------------------


class Sampling(Strict):
    """How a policy is sampled on the train queries (paper: Sec. 3, step 1)."""

    k: int = Field(10, ge=1, description="Solutions sampled per query.")
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
    j: int = Field(3, ge=1, description="Continuations sampled from each corrected prefix.")
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
    j: int = Field(1, ge=1, description="Rationales sampled per failed query.")
    temperature: float = Field(0.0, ge=0.0, description="Sampling temperature; 0 is greedy.")

    @property
    def slug(self) -> str:
        """The name of these settings in paths."""
        return f"rationalize-j{self.j}-t{self.temperature:g}"


Resample = Annotated[NoResample | PrefixResample | RationalizeResample, Field(discriminator="kind")]


class NoFilter(Strict):
    """Every positive is kept."""

    kind: Literal["none"] = Field("none", description="No filter.")


class VasFilter(Strict):
    """Drop positives whose vision-aware attention score is low (paper: Sec. 3, step 3)."""

    kind: Literal["vas"] = Field(description="Filter by the vision-aware attention score.")
    tau: float = Field(-0.5, description="Positives with VAS below this are dropped.")
    layers: list[Fraction] = Field(
        [0.5], min_length=1, description="Layers, as fractions of the depth; 0.5 is layer ⌊L/2⌋."
    )
    scope: Literal["positives", "all"] = Field(
        "positives", description="The set, per query, over which the z-score is taken."
    )
    ddof: Literal[0, 1] = Field(0, description="Degrees of freedom of the standard deviation.")
    min_group: int = Field(2, ge=1, description="Queries with fewer solutions in scope are exempt.")


Filter = Annotated[NoFilter | VasFilter, Field(discriminator="kind")]


class SftObjective(Strict):
    """Supervised fine-tuning, loss averaged per sequence first (paper: Sec. 3, step 4)."""

    kind: Literal["sft"] = Field(description="Supervised fine-tuning on positives.")


class DpoObjective(Strict):
    """DPO plus a length-normalised NLL on the chosen response (paper: Sec. 3, step 4)."""

    kind: Literal["dpo"] = Field(description="Preference training on pairs.")
    beta: float = Field(0.1, gt=0.0, description="DPO's inverse temperature.")
    alpha: float = Field(0.5, ge=0.0, description="Weight of the NLL of the chosen response.")


Objective = Annotated[SftObjective | DpoObjective, Field(discriminator="kind")]


class BaseMethod(Strict):
    """No training: the base model as it is (zero-shot)."""

    kind: Literal["base"] = Field(description="Evaluate the base model.")


class SeedMethod(Strict):
    """SFT of the base on the annotated seed split (SFT-Seed, the first sampler M_0)."""

    kind: Literal["seed"] = Field(description="Train on the annotated seed split.")


class SelfImprovement(Strict):
    """A method that trains on the policy's own verified solutions."""

    kind: Literal["self-improvement"] = Field(description="Train on verified own solutions.")
    initial_policy: Name = Field("sft-seed", description="The method that samples in round 1.")
    rounds: int = Field(1, ge=1, description="Rounds of sampling and training.")
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


Method = Annotated[BaseMethod | SeedMethod | SelfImprovement, Field(discriminator="kind")]


# --- models --------------------------------------------------------------------------------


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


# --- suites --------------------------------------------------------------------------------


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


class Models(RootModel[dict[Name, Model]]):
    """``models.yaml``."""


class Methods(RootModel[dict[Name, Method]]):
    """``config/methods.yaml``."""


# --- loading -------------------------------------------------------------------------------


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        VistaError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VistaError(f"{path}: no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VistaError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise VistaError(f"{path}: expected a mapping of keys to values, found {type(value).__name__}")
    return value


def _explain(path: str, error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each validation error: file, field, what was found, how to mend it."""
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(item["loc"][-1]), _all_keys(model), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "; remove it"
            lines.append(f"{path}: {field}: unknown key{hint}")
        elif item["type"] == "missing":
            lines.append(f"{path}: {field}: missing; add it")
        else:
            lines.append(f"{path}: {field}: {item['msg']}; found {item['input']!r}")
    return lines


def _all_keys(model: type[BaseModel]) -> list[str]:
    """Every field name in ``model``'s JSON schema, nested ones too."""
    schema = model.model_json_schema()
    keys = set(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        keys |= set(definition.get("properties", {}))
    return sorted(keys)


Validated = TypeVar("Validated", bound=BaseModel)


def _validate(model: type[Validated], value: Any, path: str, problems: list[str]) -> Validated | None:
    """Validate, or add what is wrong to ``problems`` and return nothing."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems += _explain(path, error, model)
        return None


def with_defaults(method: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Fill in what a self-improvement method leaves open; what it states wins.

    Keys of ``defaults`` are a field (``max_per_query``), a section (``rollouts``) or a section
    and kind (``resample.prefix``), which applies only to methods of that kind.
    """
    if not isinstance(method, dict) or method.get("kind") != "self-improvement":
        return method
    filled = dict(method)
    for key, value in defaults.items():
        section, _, kind = key.partition(".")
        stated = filled.get(section)
        if kind and not (isinstance(stated, dict) and stated.get("kind") == kind):
            continue
        if isinstance(value, dict) and (stated is None or isinstance(stated, dict)):
            filled[section] = {**value, **(stated or {})}
        elif stated is None:
            filled[section] = value
    return filled


def with_overrides(method: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Replace fields of a method, and within a section only the keys that are given."""
    if not isinstance(method, dict):
        return method
    changed = dict(method)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(changed.get(key), dict)
        changed[key] = {**changed[key], **value} if both else value
    return changed


def _pick(wanted: list[str], known: dict[str, Any], what: str, path: str, where: Path) -> list[str]:
    """Problems with names that ``known`` does not hold."""
    lines = []
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
            lines.append(f"{path}: unknown {what} {name!r} (not in {where}); {hint}")
    return lines


def _consistency(suite: Suite, path: str) -> list[str]:
    """Problems between the parts of a suite that are each well formed."""
    problems = []
    for train_set, tasks in suite.train_sets.items():
        for task in tasks:
            if task not in suite.tasks:
                problems.append(
                    f"{path}: train_sets.{train_set}: unknown task {task!r}; define it under tasks"
                )
                continue
            for split in ("seed", "train", "test"):
                if getattr(suite.tasks[task].sizes, split) == 0:
                    problems.append(
                        f"{path}: tasks.{task}.sizes.{split}: 0, but {train_set!r} trains on this task; "
                        "give it at least one query"
                    )
    for task in suite.out_of_domain:
        if task not in suite.tasks:
            problems.append(f"{path}: out_of_domain: unknown task {task!r}; define it under tasks")
        elif suite.tasks[task].sizes.test == 0:
            problems.append(f"{path}: tasks.{task}.sizes.test: 0, but the task is evaluated on")
    for name, model in suite.models.items():
        if isinstance(model, BuiltModel) and (
            model.corpus not in suite.tasks or suite.tasks[model.corpus].sizes.train == 0
        ):
            problems.append(f"{path}: model {name}: corpus {model.corpus!r} is no task with a train split")
    for name, method in suite.methods.items():
        if not isinstance(method, SelfImprovement):
            continue
        first = suite.methods.get(method.initial_policy)
        if first is None or isinstance(first, SelfImprovement):
            problems.append(
                f"{path}: method {name}: initial_policy {method.initial_policy!r} must be among the "
                "suite's methods and be of kind base or seed; add it to methods"
            )
        if isinstance(method.filter, VasFilter) and suite.scoring.layers != "all":
            missing = sorted(set(method.filter.layers) - set(suite.scoring.layers))
            if missing:
                problems.append(
                    f"{path}: method {name}: filter.layers {missing} are not scored; "
                    "add them to scoring.layers"
                )
    return problems


def load_suite(path: Path, value: dict[str, Any] | None = None, root: Path | None = None) -> Suite:
    """Join a suite file with ``models.yaml`` and the methods into one resolved suite.

    Args:
        path: The suite file; named in errors, and read when ``value`` is not given.
        value: The suite as already parsed (Snakemake's ``config``).
        root: Where ``models_file`` and ``methods_file`` are relative to; default: here.

    Raises:
        VistaError: lists everything that is wrong in all three files.
    """
    problems: list[str] = []
    raw = load_yaml(path) if value is None else value
    root = root or Path()
    suite_file = _validate(SuiteFile, raw, str(path), problems)
    if suite_file is None:
        fail_if(problems, "The configuration has errors:")
        raise AssertionError("unreachable: a failed validation leaves a problem")
    models = load_yaml(root / suite_file.models_file)
    methods = load_yaml(root / suite_file.methods_file)
    problems += _pick(suite_file.models, models, "model", f"{path}: models", suite_file.models_file)
    problems += _pick(suite_file.methods, methods, "method", f"{path}: methods", suite_file.methods_file)
    problems += _pick(
        list(suite_file.method_overrides),
        methods,
        "method",
        f"{path}: method_overrides",
        suite_file.methods_file,
    )
    picked_models = {name: models[name] for name in suite_file.models if name in models}
    picked_methods = {
        name: with_defaults(
            with_overrides(methods[name], suite_file.method_overrides.get(name, {})),
            suite_file.method_defaults,
        )
        for name in suite_file.methods
        if name in methods
    }
    _validate(Models, picked_models, str(suite_file.models_file), problems)
    _validate(Methods, picked_methods, str(suite_file.methods_file), problems)
    fail_if(problems, "The configuration has errors:")
    fields = {name: getattr(suite_file, name) for name in SuiteFields.model_fields}
    suite = Suite.model_validate(
        {**SuiteFields(**fields).model_dump(), "models": picked_models, "methods": picked_methods}
    )
    fail_if(_consistency(suite, str(path)), "The configuration has errors:")
    return suite


def load_resolved(path: Path) -> Suite:
    """Read a resolved suite, as the Snakefile writes it to ``<results>/suite.json``."""
    try:
        return Suite.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VistaError(f"{path}: no such file; run snakemake once (-n is enough) to write it") from error
    except ValidationError as error:
        raise VistaError("\n".join(_explain(str(path), error, Suite))) from error


def digest(value: BaseModel | dict[str, Any] | list[Any]) -> str:
    """A short fingerprint of a part of the config: a rule's param, so that a change reruns it."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON schemas of the three files that users write."""
    return {
        "suite": SuiteFile.model_json_schema(),
        "models": Models.model_json_schema(),
        "methods": Methods.model_json_schema(),
    }
