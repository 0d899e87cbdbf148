"""The files that say what a task of lmms-eval is: found by its name, and read without importing lmms-eval.

A task is a YAML file, with those that it includes and the Python modules whose functions it names
(``!function utils.score``). The config is read and jobs are planned with this alone.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from vista import closure
from vista.errors import VistaError

# What the file of a task or a group begins a line with; of a group, the tasks are a list.
NAMED = re.compile(r"^(?:task|group):[ \t]*[\"']?([^\"'\s#\[]+)", re.MULTILINE)
# Builders of `datasets` that read the user's own files; lmms-eval looks for them beside the task's file.
LOCAL_BUILDERS = ("csv", "json", "parquet", "text", "pandas", "arrow")


@dataclass(frozen=True)
class Function:
    """A function that a task file names."""

    name: str  # as written: `utils.score`
    folder: Path  # of the file that names it

    @property
    def files(self) -> list[Path]:
        """The file of its module, if that is beside the task's file or among lmms-eval's tasks."""
        return _sources(self.name.rpartition(".")[0], self.folder)


@dataclass(frozen=True)
class TaskFile:
    """A task as its files say."""

    name: str
    path: Path
    config: Mapping[str, Any]  # with what it includes

    @property
    def data_files(self) -> list[Path]:
        """The user's own files that its documents are read from."""
        if self.config.get("dataset_path") not in LOCAL_BUILDERS:
            return []
        stated = _texts((self.config.get("dataset_kwargs") or {}).get("data_files"))
        places = [(self.path.parent / text, Path(text)) for text in stated]
        return [next(place for place in each if place.is_file()) for each in places if _is_there(each)]

    def digest(self) -> str:
        """A fingerprint of how it is asked and scored: of its settings, and of the code that these name.

        Of lmms-eval's code, only that of tasks; the rest is known by the version of the package.

        Raises:
            VistaError: a module is not Python.
        """
        code: dict[str, str] = {}
        wanted = [file for function in _functions(self.config) for file in function.files]
        while wanted:
            file = wanted.pop()
            name = str(file.relative_to(_package())) if file.is_relative_to(_package()) else file.name
            if name not in code:
                source = file.read_bytes()
                code[name] = closure.code_of(source, file)
                wanted += [each for module in _imported(source) for each in _sources(module, file.parent)]
        stated = json.dumps([self.config, code], sort_keys=True, default=_plain)
        return hashlib.sha256(stated.encode()).hexdigest()[:16]


def find(name: str, include_path: Path | None) -> TaskFile:
    """The task called ``name``: in ``include_path`` if that is given, otherwise among lmms-eval's own.

    Raises:
        VistaError: there is none, or it is a group of tasks; names those that are meant.
    """
    folder = _package() if include_path is None else include_path
    where = "lmms-eval" if include_path is None else f"include_path {include_path}"
    if not folder.is_dir():
        raise VistaError(f"{where}: no such folder; correct include_path")
    known = _installed() if include_path is None else _index(folder)
    if name not in known:
        if members := _tagged(known, name):
            raise VistaError(_is_group(name, members))
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else _listed(known, include_path)
        raise VistaError(f"{where} has no task {name!r}; {hint}")
    path = known[name]
    config = _load(path)
    if not isinstance(config.get("task"), str):
        listed = [each for each in config.get("task") or [] if isinstance(each, str)]
        members = [member for each in listed for member in _tagged(known, each) or [each]]
        raise VistaError(_is_group(name, members))
    return TaskFile(name, path, config)


def _is_group(name: str, members: list[str]) -> str:
    return f"{name!r} is a group of lmms-eval's tasks; name those that you mean: {', '.join(members)}"


def _listed(known: Mapping[str, Path], include_path: Path | None) -> str:
    if include_path is None:
        return "`python -m lmms_eval --tasks list` lists those that there are"
    return f"its files define {', '.join(sorted(known)) or 'none'}"


@cache
def _package() -> Path:
    """The folder of lmms-eval's own tasks.

    Raises:
        VistaError: it is not installed.
    """
    spec = find_spec("lmms_eval")
    if spec is None or not spec.submodule_search_locations:
        raise VistaError("lmms-eval is not installed; make install")
    return Path(spec.submodule_search_locations[0]) / "tasks"


@cache
def _installed() -> dict[str, Path]:
    return _index(_package())


def _index(folder: Path) -> dict[str, Path]:
    """Every task and group below a folder, with its file."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.yaml")):
        for name in NAMED.findall(path.read_text(encoding="utf-8", errors="replace")):
            found.setdefault(name, path)
    return found


def _tagged(known: Mapping[str, Path], tag: str) -> list[str]:
    """The tasks that carry a tag."""
    found = []
    for name, path in known.items():
        if tag in path.read_text(encoding="utf-8", errors="replace"):
            stated = _read(path).get("tag")
            if stated == tag or (isinstance(stated, list) and tag in stated):
                found.append(name)
    return found


def _read(path: Path) -> dict[str, Any]:
    """One file, as it is.

    Raises:
        VistaError: it cannot be read, or is no YAML mapping.
    """

    class Loader(yaml.SafeLoader):
        """Knows the functions that a task file names, and imports none."""

        def function(self, node: yaml.ScalarNode) -> Function:
            return Function(str(self.construct_scalar(node)), path.parent)

    Loader.add_constructor("!function", Loader.function)
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a safe loader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise VistaError(f"{path}: not a task file of lmms-eval ({reason}); correct it") from error
    if not isinstance(found, dict):
        raise VistaError(f"{path}: not a task file of lmms-eval: expected a mapping; correct it")
    return found


def _load(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """One file with what it includes, which its own keys win over; of several, the first wins.

    Raises:
        VistaError: a file cannot be read, or includes itself.
    """
    if path in above:
        raise VistaError(f"{path}: includes itself; correct it")
    own = _read(path)
    included = own.pop("include", [])
    merged: dict[str, Any] = {}
    for each in reversed([included] if isinstance(included, str) else included):
        there = Path(each)
        merged |= _load(there if there.is_file() else path.parent / each, (*above, path))
    return merged | own


def _functions(value: Any) -> Iterator[Function]:
    if isinstance(value, Function):
        yield value
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _functions(each)


def _texts(value: Any) -> list[str]:
    """Every text in a value, however deep."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for each in parts for text in _texts(each)]


def _is_there(places: tuple[Path, Path]) -> bool:
    return any(place.is_file() for place in places)


def _plain(value: Any) -> str:
    """A value of a task file that JSON has no form for."""
    return value.name if isinstance(value, Function) else str(value)


def _sources(module: str, folder: Path) -> list[Path]:
    """The file of a module that is in a folder, or among lmms-eval's tasks."""
    inner = module.removeprefix("lmms_eval.tasks.")
    base = folder if inner == module else _package()
    file = base.joinpath(*inner.split(".")).with_suffix(".py")
    return [file] if module and file.is_file() else []


def _imported(source: bytes) -> Iterator[str]:
    """The names of the modules that a module may import, without where relative ones start."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            yield from (*base, *(".".join([*base, alias.name]) for alias in node.names))
