"""Plug-ins: how a ``kind`` in a config becomes a settings class, and settings the class that does the work.

A plug-in is one module with a settings class, whose ``kind`` is a ``Literal``, and a class that is generic in
it: ``class Brevity(ScoreFilter[BrevitySettings])``. It is found by its kind, and imported only if a config
names it:

* in a folder of this package (``vista/filters/random_drop.py`` is the filter ``random-drop``; a module whose
  name begins with ``_`` only helps others);
* as an entry point of an installed package, in the group that the folder is named after (``vista.filters``);
* in a module that the suite names (``plugins: [my_lab.vista]``).

Does not import torch, since the config does not. A plug-in that needs torch imports it inside its functions.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from vista.errors import VistaError
from vista.settings import Strict

_named: list[str] = []  # modules that the suite names


def name_modules(modules: Sequence[str]) -> None:
    """Also look for plug-ins in these modules: the ``plugins`` of the suite that is being read.

    Modules in the working directory that are not installed are found as well.

    Raises:
        VistaError: a module cannot be imported; names it and says why.
    """
    _named.clear()
    if modules and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    for name in modules:
        _import(name, f"plugins: {name}")
        _named.append(name)


@dataclass(frozen=True)
class Plugin:
    """Annotates a field that takes any plug-in of one family: ``Annotated[FilterSettings, Plugin(…)]``.

    The value's ``kind`` chooses the settings class, which then validates it.

    Args:
        noun: What such a plug-in is called: ``filter``.
        base: The base class of its settings. Built-in plug-ins are modules beside it.
        group: Of the entry points.
    """

    noun: str
    base: type[Strict]
    group: str

    def kinds(self) -> list[str]:
        """Every kind that there is, found without importing any."""
        installed = [point.name for point in _entry_points(self.group)]
        named = [kind for module in _named for kind in self._kinds_in(sys.modules[module])]
        return list(dict.fromkeys([*_built_in(self.base), *installed, *named]))

    def settings(self, kind: str) -> type[Strict]:
        """The settings class of a kind.

        Raises:
            KeyError: there is no such kind.
            VistaError: its module cannot be imported, or does not define it; or two define it.
        """
        module = f"{self.base.__module__}.{kind.replace('-', '_')}"
        found = [(module, f"{self.noun} {kind!r}")] if kind in _built_in(self.base) else []
        for point in _entry_points(self.group):
            if point.name == kind:
                found.append((point.module, f"{self.noun} {kind!r} of package {_distribution(point)}"))
        for name in _named:
            if kind in self._kinds_in(sys.modules[name]):
                found.append((name, f"{self.noun} {kind!r} of plugins: {name}"))
        if not found:
            raise KeyError(kind)
        classes = {self._settings_in(_import(name, what), kind, what) for name, what in found}
        if len(classes) > 1:
            listed = " and ".join(what for _, what in found)
            raise VistaError(f"{listed}: both are called {kind!r}; rename one of them")
        return classes.pop()

    def _settings_in(self, module: ModuleType, kind: str, what: str) -> type[Strict]:
        for each in self._classes_in(module):
            if kind in _kinds_of(each):
                return each
        raise VistaError(
            f"{what}: module {module.__name__} defines no subclass of {self.base.__name__} with "
            f'`kind: Literal["{kind}"]`; add it, or correct the entry point in group {self.group}'
        )

    def _kinds_in(self, module: ModuleType) -> list[str]:
        return [kind for each in self._classes_in(module) for kind in _kinds_of(each)]

    def _classes_in(self, module: ModuleType) -> Iterator[type[Strict]]:
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, self.base) and "kind" in each.model_fields:
                yield each

    def _validate(self, value: Any) -> Any:
        if isinstance(value, self.base):
            return value
        if not isinstance(value, dict):
            raise PydanticKnownError("dict_type")
        kind = value.get("kind")
        if kind is None:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "'kind'"})
        try:
            settings = self.settings(str(kind))
        except KeyError:
            raise PydanticCustomError("plugin", "{reason}", {"reason": self._unknown(str(kind))}) from None
        except VistaError as error:
            raise PydanticCustomError("plugin", "{reason}", {"reason": str(error)}) from error
        found = settings.model_validate(value)
        if not module_of(found).startswith("vista."):
            try:
                implementation(found)  # somebody else's may be half written; say so before any job starts
            except VistaError as error:
                raise PydanticCustomError("plugin", "{reason}", {"reason": str(error)}) from error
        return found

    def _unknown(self, kind: str) -> str:
        close = difflib.get_close_matches(kind, self.kinds(), n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        return (
            f"there is no {self.noun} of kind {kind!r}; {meant}to use your own, install its package here, "
            f"with an entry point of this name in the group {self.group}, or name its module under the "
            f"suite's plugins; known: {', '.join(self.kinds())}"
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by the class of the value's kind; write all of its fields."""
        return core_schema.no_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value, info: value.model_dump(mode=info.mode), info_arg=True
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """One of all kinds that are installed here; those that cannot be imported are left out."""
        found: dict[str, type[Strict]] = {}
        for kind in self.kinds():
            with contextlib.suppress(VistaError):
                found[kind] = self.settings(kind)
        kinds = {kind: handler(each.__pydantic_core_schema__) for kind, each in found.items()}
        mapping = {kind: reference["$ref"] for kind, reference in kinds.items() if "$ref" in reference}
        return {
            "discriminator": {"mapping": mapping, "propertyName": "kind"},
            "oneOf": list(kinds.values()),
        }


def implementation(settings: Strict) -> type[Any]:
    """The class that does what ``settings`` ask for: the one in their module that is generic in their class.

    Raises:
        VistaError: the module has none, or several.
    """
    wanted = type(settings)
    module = sys.modules[wanted.__module__]
    generic = [
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and each.__module__ == module.__name__
        and any(wanted in get_args(base) for base in each.__dict__.get("__orig_bases__", ()))
    ]
    found = [each for each in generic if not inspect.isabstract(each)]
    if len(generic) == 1 and not found:
        lacking = ", ".join(sorted(getattr(generic[0], "__abstractmethods__", ())))
        raise VistaError(f"module {module.__name__}: class {generic[0].__name__} lacks {lacking}; define it")
    if len(found) != 1:
        listed = ", ".join(each.__name__ for each in found) or "none"
        raise VistaError(
            f"module {module.__name__}: expected one class that is generic in {wanted.__name__}, such as "
            f"`class Name(Base[{wanted.__name__}])`; found {listed}"
        )
    return found[0]


def make(settings: Strict, *args: Any) -> Any:
    """What ``settings`` ask for, ready to work; ``args`` come before the settings."""
    return implementation(settings)(*args, settings)


def module_of(settings: Strict) -> str:
    """The module of a plug-in: its code decides what the jobs that name it compute."""
    return type(settings).__module__


def origin(settings: Strict) -> dict[str, str] | None:
    """Where a plug-in from outside comes from, for a manifest; ``None`` for one of this package.

    Returns:
        Kind, module, SHA-256 of its file, and name and version of its package if it is installed.
    """
    name = module_of(settings)
    top = name.partition(".")[0]
    if top == "vista":
        return None
    file = sys.modules[name].__file__
    packages = packages_distributions().get(top, [])
    return {
        "kind": str(getattr(settings, "kind", "")),
        "module": name,
        "sha256": hashlib.sha256(Path(str(file)).read_bytes()).hexdigest(),
        **({"package": packages[0], "version": version(packages[0])} if packages else {}),
    }


def origins(*settings: Strict) -> dict[str, list[dict[str, str]]]:
    """What a manifest's settings say of plug-ins from outside: ``plugins``; nothing if there are none."""
    found = [place for each in settings if (place := origin(each)) is not None]
    return {"plugins": found} if found else {}


def _kinds_of(settings: type[Strict]) -> tuple[str, ...]:
    return get_args(settings.model_fields["kind"].annotation)


def _import(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever somebody else's module does when it is imported
        *_, last = traceback.extract_tb(error.__traceback__)
        where = "" if last.filename.startswith("<frozen") else f", {last.filename}, line {last.lineno}"
        raise VistaError(
            f"{what}: module {name} cannot be imported ({type(error).__name__}: {error}{where}); "
            "install its package here, or correct it"
        ) from error


def _built_in(base: type[Strict]) -> list[str]:
    """The kinds of this package, whose modules are beside the base class of their settings."""
    modules = pkgutil.iter_modules(sys.modules[base.__module__].__path__)
    names = [name for _, name, is_package in modules if not is_package]
    return [name.replace("_", "-") for name in names if not name.startswith("_")]


@cache
def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module
