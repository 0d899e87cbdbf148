"""Sweeps of a suite, written out as ordinary methods; part of ``load_suite``.

A sweep varies one setting of one method. Each value becomes a separate method, named
``<method>+<sweep>=<value>``, which the grid, the stages and the tables treat like any other.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from vista.config.methods import Improving, Method
from vista.config.suites import Only, SuiteFile, Sweep, Swept, names_of
from vista.settings import Name, spelled

METHOD: TypeAdapter[Method] = TypeAdapter(Method)
NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass
class Expansion:
    """What the sweeps of a suite add to it."""

    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    swept: dict[str, Swept] = field(default_factory=dict)
    only: dict[str, Only] = field(default_factory=dict)


def expand(suite: SuiteFile, methods: dict[str, Any], path: str, problems: list[str]) -> Expansion:
    """Write out the sweeps of ``suite``.

    Args:
        suite: The suite as written.
        methods: The methods that it names, with defaults and overrides applied; one that is not
            valid is left out here and reported elsewhere.
        path: The suite file, named in problems.
        problems: Gets one line for everything that is wrong.
    """
    found = Expansion()
    for name, sweep in suite.sweeps.items():
        where = f"{path}: sweeps.{name}"
        if sweep.method not in (known := names_of(suite.methods)):
            problems.append(f"{where}.method: {_unknown(sweep.method, known, 'method of the suite')}")
        elif (base := _valid(methods.get(sweep.method))) is not None:
            _expand_one(found, suite, name, sweep, base, where, problems)
    return found


def _expand_one(
    found: Expansion, suite: SuiteFile, name: str, sweep: Sweep, base: Method, where: str, problems: list[str]
) -> None:
    plain = base.model_dump(mode="json")
    settings = [path for path in _settings(plain) if path.split(".")[-1] != "kind"]
    if sweep.set not in settings:
        problems.append(f"{where}.set: {_unknown(sweep.set, settings, f'setting of {sweep.method}')}")
        return
    if sweep.rounds is not None and not isinstance(base, Improving):
        problems.append(f"{where}.rounds: {sweep.method} (kind: {base.kind}) has no rounds; remove it")
        return
    for value in sweep.values:
        label = f"{sweep.method}+{name}={slug(value)}"
        method = _varied(plain, sweep.set, value, where, problems)
        if method is None:
            continue
        if method == base:
            problems.append(
                f"{where}.values: {value!r} is already the {sweep.set} of {sweep.method}; remove it"
            )
        elif not _is_name(label):
            problems.append(f"{where}.values: {value!r} does not give a valid method name ({label!r})")
        elif label in found.methods or label in names_of(suite.methods):
            problems.append(f"{where}.values: {value!r} gives a second method {label!r}; rename the sweep")
        else:
            changed = {} if sweep.rounds is None else {"rounds": sweep.rounds}
            found.methods[label] = method.model_dump(mode="json") | changed
            found.swept[label] = Swept(sweep=name, of=sweep.method, set=sweep.set, value=value)
            found.only[label] = _within(suite.only.get(sweep.method, Only()), sweep.only)


def _within(method: Only, sweep: Only) -> Only:
    """Where a sweep runs: as its own ``only`` says, else where its method runs."""
    return Only(models=sweep.models or method.models, seeds=sweep.seeds or method.seeds)


def _is_name(label: str) -> bool:
    try:
        NAME.validate_python(label)
    except ValidationError:
        return False
    return True


def _is_number(text: str) -> bool:
    """Whether a text spells a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _varied(
    plain: dict[str, Any], setting: str, value: Any, where: str, problems: list[str]
) -> Method | None:
    """The method with another value of one setting, or nothing and a problem."""
    *sections, last = setting.split(".")
    changed = dict(plain)
    part = changed
    for section in sections:
        part[section] = dict(part[section])
        part = part[section]
    if isinstance(value, str) and isinstance(part[last], int | float) and _is_number(value):
        problems.append(f"{where}.values: {value!r} is text, not a number; write it without quotes")
        return None
    part[last] = value
    try:
        return METHOD.validate_python(changed)
    except ValidationError as error:
        reasons = "; ".join(dict.fromkeys(item["msg"] for item in error.errors()))
        problems.append(f"{where}.values: {value!r} is not a valid {setting}: {reasons}")
        return None


def _valid(method: Any) -> Method | None:
    try:
        return METHOD.validate_python(method)
    except ValidationError:
        return None


def _settings(plain: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every setting of a method, sections as well: ``filter``, ``filter.tau`` …"""
    for key, value in plain.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _settings(value, f"{prefix}{key}.")


def _unknown(name: str, known: list[str], what: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
    return f"{name!r} is not a {what}; {hint}"


def slug(value: Any) -> str:
    """A value as a part of a method's name: ``-0.5``, ``0.34``, ``original``, ``0+0.67``, ``true``."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return "+".join(f"{slug(key)}-{slug(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return "+".join(slug(each) for each in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return spelled(value)
    return re.sub(r"[^a-z0-9.]+", "-", str(value).lower()).strip("-")
