"""Reading the three files that users write, with every mistake in them reported at once."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from vista.config.benchmarks import YES_NO_SIZES
from vista.config.filters import filter_problems
from vista.config.methods import (
    BaseMethod,
    Methods,
    SeedMethod,
    SelectMethod,
    SelfImprovement,
    training_section,
)
from vista.config.models import BuiltModel, Models
from vista.config.only import only_problems
from vista.config.seeds import seed_problems
from vista.config.suites import Suite, SuiteFields, SuiteFile
from vista.config.sweeps import expand
from vista.config.tasks import BenchmarkTask
from vista.config.truth import truth_problems
from vista.errors import VistaError, fail_if


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
    for name, spec in suite.tasks.items():
        if isinstance(spec, BenchmarkTask) and spec.questions != "all" and spec.kind not in YES_NO_SIZES:
            problems.append(
                f"{path}: tasks.{name}.questions: {spec.questions!r}, but {spec.kind} does not tell yes/no "
                "questions apart; use 'all'"
            )
    for task in suite.out_of_domain:
        if task not in suite.tasks:
            problems.append(f"{path}: out_of_domain: unknown task {task!r}; define it under tasks")
        elif suite.tasks[task].sizes.test == 0:
            problems.append(f"{path}: tasks.{task}.sizes.test: 0, but the task is evaluated on")
    for name in sorted(set(suite.max_rounds) - set(suite.models)):
        problems.append(f"{path}: max_rounds: {name!r} is not among the suite's models; remove it")
    for name, model in suite.models.items():
        if isinstance(model, BuiltModel) and (
            model.corpus not in suite.tasks or suite.tasks[model.corpus].sizes.train == 0
        ):
            problems.append(f"{path}: model {name}: corpus {model.corpus!r} is no task with a train split")
    for name, method in suite.methods.items():
        if isinstance(method, SelectMethod):
            problems += _select_problems(suite, name, method, path)
        if not isinstance(method, SelfImprovement):
            continue
        if method.reflect and method.objective.pairs:
            problems.append(
                f"{path}: method {name}: reflect {method.reflect} makes examples, but objective "
                f"{method.objective.kind} trains on pairs; remove reflect, or use objective sft"
            )
        first = suite.methods.get(method.initial_policy)
        if not isinstance(first, BaseMethod | SeedMethod):
            problems.append(
                f"{path}: method {name}: initial_policy {method.initial_policy!r} must be among the "
                "suite's methods and be of kind base or seed; add it to methods"
            )
    return [
        *problems,
        *only_problems(suite, path),
        *filter_problems(suite, path),
        *seed_problems(suite, path),
        *truth_problems(suite, path),
        *_training_problems(suite, path),
    ]


def _select_problems(suite: Suite, name: str, method: SelectMethod, path: str) -> list[str]:
    """What keeps a method of kind select from having checkpoints to decode."""
    if method.of not in suite.methods:
        close = difflib.get_close_matches(method.of, suite.methods, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "add it to methods"
        return [f"{path}: method {name}: of {method.of!r} is not among the suite's methods; {hint}"]
    kind = suite.methods[method.of].kind
    if kind != "self-improvement":
        return [
            f"{path}: method {name}: of {method.of!r} is of kind {kind}; name a method of kind "
            "self-improvement, whose rounds are evaluated"
        ]
    return []


def _training_problems(suite: Suite, path: str) -> list[str]:
    """Models whose processes cannot share the batch of a method that trains them, or start at all."""
    sections = {name for method in suite.methods.values() if (name := training_section(method)) is not None}
    problems = []
    for model, entry in suite.models.items():
        training = entry.training
        for section in sorted(sections):
            batch_size = getattr(suite.training, section).batch_size
            if not training.divides(batch_size):
                problems.append(
                    f"{path}: training.{section}.batch_size: {batch_size} examples are not shared evenly by "
                    f"model {model}: training.processes is {training.processes}, training.device_batch_size "
                    f"{training.device_batch_size}; make batch_size a multiple of both together"
                )
        if training.accelerate is not None and not training.accelerate.is_file():
            problems.append(
                f"{path}: model {model}: training.accelerate: {training.accelerate} does not exist; "
                "it is a config file of accelerate, such as config/accelerate/fsdp.yaml"
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
    sweeps = expand(suite_file, picked_methods, str(path), problems)
    fail_if(problems, "The configuration has errors:")
    fields = {name: getattr(suite_file, name) for name in SuiteFields.model_fields}
    suite = Suite.model_validate(
        {
            **SuiteFields(**fields).model_dump(),
            "models": picked_models,
            "methods": {**picked_methods, **sweeps.methods},
            "swept": sweeps.swept,
            "only": {**suite_file.only, **sweeps.only},
        }
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
