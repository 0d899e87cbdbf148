"""Reading the three YAML files that users write, with every mistake in them reported at once."""

from __future__ import annotations

import difflib
import hashlib
import json
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from vista.config.blocks import last_problems, up_to
from vista.config.checks import consistency_problems, reporting_problems, results_problems
from vista.config.documents import load_yaml
from vista.config.launchers import launching_problems
from vista.config.methods import Methods, OnlineMethod, SelfImprovement
from vista.config.models import Models, Prompts
from vista.config.pilot import pilot_of
from vista.config.suites import TASK_NAME, Suite, SuiteFields, SuiteFile, names_of
from vista.config.sweeps import expand
from vista.config.tasks import named_tasks
from vista.errors import VistaError, fail_if
from vista.plugins import Plugin
from vista.settings import ADDRESS, NAME, REPOSITORY, text_problems
from vista.shown import holds_secret, without_secrets

# Values are quoted in errors, but not a whole file of them.
_QUOTE = reprlib.Repr()
_QUOTE.maxlevel, _QUOTE.maxstring, _QUOTE.maxother = 3, 120, 120


def _explain(path: str, error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each validation error: file, field, what was found, how to fix it."""
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        where = f"{path}: {field}" if field else path
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(item["loc"][-1]), _all_keys(model), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "; remove it"
            lines.append(f"{where}: unknown key{hint}")
        elif item["type"] == "missing":
            lines.append(f"{where}: missing; add it")
        elif item["type"] == "union_tag_not_found":
            lines.append(f"{where}: kind: missing; add it")
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            lines.append(f"{where}: {_message(item)}")  # of a whole section, whose message names the key
        else:
            lines.append(f"{where}: {_message(item)}; found {_QUOTE.repr(_without_secrets(item['input']))}")
    return lines


def _without_secrets(value: Any) -> Any:
    """A value to be quoted: what is cut out of a long text afterwards may be half a password."""
    if isinstance(value, dict):
        return {name: _without_secrets(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_secrets(part) for part in value]
    return without_secrets(value) if isinstance(value, str) else value


def _secrets(value: Any, field: str, where: str) -> Iterator[str]:
    """A line for each address with a password or key in it: the config is written to manifests and logs."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from _secrets(part, f"{field}.{name}" if field else str(name), where)
    if isinstance(value, str) and holds_secret(value):
        yield (
            f"{where}: {field}: the address must not contain a user name or password, nor a key, since "
            "manifests and logs name it; put an endpoint's key into the environment, under api_key_variable"
        )


def _message(item: Any) -> str:
    """What is wrong, in pydantic's words if these say how to fix it."""
    if item["type"] == "string_pattern_mismatch":
        known = {
            NAME: "names are small letters, digits and .+=-, and start with a letter or digit; rename it",
            TASK_NAME: "names of tasks are small letters, digits and .+=-, and start with a letter or "
            "digit, or are lmms-eval:NAME for one of lmms-eval's; rename it",
            REPOSITORY: "expected owner/name, as on the hub",
            ADDRESS: "expected an address that begins with http:// or https://",
        }
        return known.get(item["ctx"]["pattern"], str(item["msg"]))
    if item["type"] == "string_type" and isinstance(item["input"], bool | int | float):
        return "expected text; quote it"
    return str(item["msg"]).removeprefix("Value error, ")


def _all_keys(model: type[BaseModel]) -> list[str]:
    """Every field name in ``model``'s JSON schema, nested ones and those of plug-ins too."""
    return sorted(set(_keys_in(model.model_json_schema())))


def _keys_in(schema: Any) -> Iterator[str]:
    for name, part in schema.items() if isinstance(schema, dict) else ():
        if name == "properties" and isinstance(part, dict):
            yield from part
        yield from _keys_in(part)
    for part in schema if isinstance(schema, list) else ():
        yield from _keys_in(part)


Validated = TypeVar("Validated", bound=BaseModel)


def _validate(model: type[Validated], value: Any, path: str, problems: list[str]) -> Validated | None:
    """Validate, or add what is wrong to ``problems`` and return nothing."""
    problems += _secrets(value, "", path)
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
    takes = {
        "self-improvement": SelfImprovement.model_fields,
        "online": OnlineMethod.model_fields,
    }
    if not isinstance(method, dict) or method.get("kind") not in takes:
        return method
    filled = dict(method)
    fields = takes[method["kind"]]
    for key, value in defaults.items():
        section, _, kind = key.partition(".")
        if section not in fields:
            continue
        stated = filled.get(section)
        if kind and not (isinstance(stated, dict) and stated.get("kind") == kind):
            continue
        if isinstance(value, dict) and (stated is None or isinstance(stated, dict)):
            filled[section] = {**value, **(stated or {})}
        elif stated is None:
            filled[section] = value
    return filled


def default_problems(defaults: dict[str, Any], path: str) -> list[str]:
    """Keys of ``method_defaults`` that are not fields of a method, and would change nothing."""
    fields = SelfImprovement.model_fields
    problems = []
    for key in defaults:
        section, dot, kind = key.partition(".")
        kinds = _kinds(fields[section]) if section in fields else []
        known = list(fields) if section not in fields else [f"{section}.{each}" for each in kinds]
        if section not in fields or (dot and kind not in kinds):
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            problems.append(f"{path}: method_defaults.{key}: no such setting of a method; {hint}")
    return problems


def _kinds(field: FieldInfo) -> list[str]:
    """The kinds of a section, if it has several."""
    for mark in field.metadata:
        if isinstance(mark, Plugin):
            return mark.kinds()
    members = [part for part in get_args(field.annotation) if hasattr(part, "model_fields")]
    return [get_args(part.model_fields["kind"].annotation)[0] for part in members]


def with_overrides(method: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Replace fields of a method, and within a section only the keys that are given."""
    if not isinstance(method, dict):
        return method
    changed = dict(method)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(changed.get(key), dict)
        changed[key] = {**changed[key], **value} if both else value
    return changed


def with_prompts(model: dict[str, Any], prompts: Prompts) -> dict[str, Any]:
    """Fill in how a model is asked, key by key; what its entry states wins, a null as well."""
    said = prompts.model_dump(exclude_none=True)
    own = model.get("prompts", {}) if isinstance(model, dict) else None
    return {**model, "prompts": {**said, **own}} if said and isinstance(own, dict) else model


def _pick(wanted: list[str], known: dict[str, Any], what: str, path: str, where: Path) -> list[str]:
    """Problems with names that ``known`` does not hold."""
    lines = []
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
            lines.append(f"{path}: unknown {what} {name!r} (not in {where}); {hint}")
    return lines


def _found(file: Path, root: Path, checkout: Path) -> Path:
    """A file of the working folder, or else of the checkout."""
    own, provided = root.joinpath(file), checkout.joinpath(file)
    return provided if provided.exists() and not own.exists() else own


def _written(
    listed: list[str | dict[str, Any]], known: dict[str, Any], path: str, where: Path, problems: list[str]
) -> dict[str, Any]:
    """The entries that a suite's list holds itself; a name that there is already is a problem."""
    found: dict[str, Any] = {}
    names = names_of(listed)
    for entry in listed:
        for name, value in entry.items() if isinstance(entry, dict) else ():
            if name in known:
                problems.append(f"{path}: {name}: {where} has an entry of this name; rename this one")
            elif names.count(name) > 1 and name not in found:
                problems.append(f"{path}: {name!r} appears twice; remove one of them")
            found[name] = value
    return found


def _validate_entries(
    kind: type[BaseModel],
    picked: dict[str, Any],
    own: dict[str, Any],
    file: Path,
    path: str,
    problems: list[str],
) -> None:
    """Validate the entries that a suite names, in ``file``, and its own."""
    _validate(kind, {name: entry for name, entry in picked.items() if name not in own}, str(file), problems)
    _validate(kind, {name: entry for name, entry in picked.items() if name in own}, path, problems)


def _entries(root: Path, checkout: Path, suite: SuiteFile) -> tuple[dict[str, Any], dict[str, Any]]:
    """All models and methods, as written; what is wrong with either file is one error."""
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for file in (suite.models_file, suite.methods_file):
        try:
            found.append(load_yaml(_found(file, root, checkout)))
            problems += text_problems(found[-1], str(file))
        except VistaError as error:
            problems.append(str(error))
    fail_if(problems, "The configuration has errors:")
    models, methods = found
    return models, methods


def with_found_files(model: Any, root: Path, checkout: Path) -> Any:
    """A model's entry with its config file of accelerate where it is: here, or else in the checkout."""
    training = model.get("training") if isinstance(model, dict) else None
    named = training.get("accelerate") if isinstance(training, dict) else None
    if not isinstance(training, dict) or not isinstance(named, str):
        return model
    file = _found(Path(named), root, checkout)
    if file == root.joinpath(named):
        return model
    return {**model, "training": {**training, "accelerate": str(file)}}


def load_suite(
    path: Path,
    value: dict[str, Any] | None = None,
    root: Path | None = None,
    checkout: Path = Path(__file__).parents[2],
) -> Suite:
    """Join a suite file with ``models.yaml`` and the methods into one resolved suite.

    Args:
        path: The suite file; named in errors, and read when ``value`` is not given.
        value: The suite as already parsed.
        root: Where ``models_file`` and ``methods_file`` are relative to; default: the working folder, and
            what is not there is looked for in the ``checkout``.
        checkout: The folder of the code, with the project's own models and methods.

    Raises:
        VistaError: lists everything that is wrong in all three files.
    """
    raw = load_yaml(path) if value is None else value
    root, checkout = (Path(), checkout) if root is None else (root, root)
    problems = list(text_problems(raw, str(path)))
    fail_if(problems, "The configuration has errors:")
    suite_file = _validate(SuiteFile, raw, str(path), problems)
    if suite_file is None:
        fail_if(problems, "The configuration has errors:")
        raise AssertionError("unreachable: a failed validation leaves a problem")
    models, methods = _entries(root, checkout, suite_file)
    own_models = _written(suite_file.models, models, f"{path}: models", suite_file.models_file, problems)
    own_methods = _written(suite_file.methods, methods, f"{path}: methods", suite_file.methods_file, problems)
    models, methods = {**models, **own_models}, {**methods, **own_methods}
    names = names_of(suite_file.models), names_of(suite_file.methods)
    problems += _pick(names[0], models, "model", f"{path}: models", suite_file.models_file)
    problems += _pick(names[1], methods, "method", f"{path}: methods", suite_file.methods_file)
    problems += _pick(
        list(suite_file.method_overrides),
        methods,
        "method",
        f"{path}: method_overrides",
        suite_file.methods_file,
    )
    picked_models = {
        name: with_prompts(with_found_files(models[name], root, checkout), suite_file.prompts)
        for name in names[0]
        if name in models
    }
    picked_methods = {
        name: with_defaults(
            with_overrides(methods[name], suite_file.method_overrides.get(name, {})),
            suite_file.method_defaults,
        )
        for name in names[1]
        if name in methods
    }
    _validate_entries(Models, picked_models, own_models, suite_file.models_file, f"{path}: models", problems)
    _validate_entries(
        Methods, picked_methods, own_methods, suite_file.methods_file, f"{path}: methods", problems
    )
    problems += default_problems(suite_file.method_defaults, str(path))
    sweeps = expand(suite_file, picked_methods, str(path), problems)
    tasks = named_tasks(suite_file, str(path), problems)
    fail_if(problems, "The configuration has errors:")
    fields = {name: getattr(suite_file, name) for name in SuiteFields.model_fields}
    endpoints = {name: entry for name, entry in picked_models.items() if entry["kind"] == "endpoint"}
    suite = Suite.model_validate(
        {
            **SuiteFields.model_validate(fields | tasks).model_dump(),
            "models": {name: entry for name, entry in picked_models.items() if name not in endpoints},
            "endpoints": endpoints,
            "methods": {**picked_methods, **sweeps.methods},
            "swept": sweeps.swept,
            "only": {**suite_file.only, **sweeps.only},
        }
    )
    if suite.pilot is not None and suite.results.name:  # a folder without a name is refused below
        suite = pilot_of(suite, suite.pilot)
    problems += results_problems(suite, str(path)) + consistency_problems(suite, str(path))
    problems += launching_problems(suite, str(path)) + reporting_problems(suite, str(path))
    problems += last_problems(suite, suite_file.up_to, str(path))
    fail_if(problems, "The configuration has errors:")
    return suite if suite_file.up_to is None else up_to(suite, suite_file.up_to)


WRITTEN_BY = "run snakemake once (-n is enough) to write it again"


def load_resolved(path: Path) -> Suite:
    """Read a resolved suite, as the Snakefile writes it to ``<results>/suite.json``."""
    try:
        suite = Suite.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VistaError(f"{path}: no such file; {WRITTEN_BY}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise VistaError(f"{path}: cannot be read ({error}); {WRITTEN_BY}") from error
    except ValidationError as error:
        fail_if(_explain(str(path), error, Suite), f"{path} is not a resolved suite; {WRITTEN_BY}:")
        raise
    fail_if(consistency_problems(suite, str(path)), f"{path} is not a resolved suite; {WRITTEN_BY}:")
    return suite


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
