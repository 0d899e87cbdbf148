"""Which code decides what a job computes: all that its entry point imports, found without running it.

For ``vista.dag``: the closure's checksums are one small file that the job's rule reads, so that edited
code makes stale exactly those outputs that depend on it.

* Every ``import`` in the source counts, those inside functions too; not those under ``if TYPE_CHECKING``.
* Plug-ins are imported by name only. The closure of a job has those that its method, task or model name,
  with what they import of their own distribution, or of their folder if they are not installed.
* Comments, docstrings, layout and the descriptions of settings are left out of the checksums.
* Modules that only carry values, names and messages (``CARRIERS``) are in the closure, but in no checksum,
  nor is what only they import.
* What a source says (``Said``) is kept where Python keeps compiled modules, by the SHA-256 of its bytes. Else
  each start of Snakemake would parse every module.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import packages_distributions
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import NamedTuple

import vista
from vista.errors import VistaError, writing
from vista.records import write_text

# Where the source of each package is; packages of external plug-ins are looked up when they are named.
SOURCES: dict[str, Path] = {"vista": Path(vista.__file__).parent}

# What these decide reaches a rule in another way, and would otherwise make everything stale.
CARRIERS: dict[str, str] = {
    "vista.config": "values: they are in the digests of settings that the rules have as params",
    "vista.settings": "checks of values",
    "vista.plugins": "which module a kind is; that module is in the closure",
    "vista.grid": "who depends on whom: a rule's input files and the names of its outputs",
    "vista.paths": "where files are: a rule's input files and the names of its outputs",
    "vista.reads": "what a job reads: a rule's input files",
    "vista.dag": "what the Snakefile asks",
    "vista.closure": "this module",
    "vista.__main__": "the door to vista.cli",
    "vista.cli": "what people type, and the door to vista.stages",
    "vista.stages": "which function a command calls; that function's module is the entry point",
    "vista.warm": "in which process a command runs",
    "vista.errors": "messages",
    "vista.memory": "how much memory a job may take",
    "vista.devices": "which GPUs a job may use",
    "vista.planned": "whether the code is that of the checksums",
    "vista.lock": "who is at work",
    "vista.manifest": "what is written down about an output, and whether an input is what was made",
    "vista.damage": "whether files are what was written down about them",
    "vista.versions": "a line about packages",
    "vista.engines.compiled": "where vLLM keeps what it compiled",
}


# An ``import``: how many dots it has, what it is from, and the names that it takes from there, if it does.
Import = tuple[int, str, tuple[str, ...] | None]


class Said(NamedTuple):
    """What a source says, which depends on nothing but its bytes.

    Attributes:
        code: As ``code_of``.
        imports: What it imports at run time.
        words: Every text in it that can be the name of a file.
    """

    code: str
    imports: tuple[Import, ...]
    words: frozenset[str]


def carries(module: str) -> bool:
    """Whether a module is one of ``CARRIERS``, or in such a package."""
    return any(module == name or module.startswith(f"{name}.") for name in CARRIERS)


def entry_points(command: str) -> list[str]:
    """The modules that a command of ``vista.stages`` calls: what its function imports.

    Raises:
        KeyError: there is no such command.
    """
    source = _source("vista.stages")
    return sorted(set(_known(_by_function(source.read_bytes(), source)[command], "vista.stages")))


@lru_cache(maxsize=2)
def _by_function(source: bytes, path: Path) -> dict[str, list[Import]]:
    """What each function of a module imports; kept, since every command asks for it."""
    functions = (node for node in _parse(source, path).body if isinstance(node, ast.FunctionDef))
    return {node.name: list(_imported(node)) for node in functions}


def closure(entries: Iterable[str], deciding: bool = False) -> list[str]:
    """Every module of this package, and of the packages of plug-ins, that ``entries`` import, sorted.

    Args:
        entries: Names of modules.
        deciding: Only those that decide what is computed: without ``CARRIERS``, and what only they import.

    Raises:
        VistaError: a module of ``entries`` has no source file.
    """
    found: set[str] = set()
    wanted = list(entries)
    while wanted:
        name = wanted.pop()
        if name in found or (deciding and carries(name)):
            continue
        found.add(name)
        wanted += [each for each in _imports(name) if each not in found]
    return sorted(found)


def checksums(entries: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each module that decides what ``entries`` compute, and of the data files that it names."""
    found: dict[str, str] = {}
    for module in closure(entries, deciding=True):
        found[module] = _code(module)
        found.update(data_of(module))
    return found


def checksums_text(entries: Iterable[str]) -> str:
    """The content of a file with the checksums of what ``entries`` compute with.

    Raises:
        VistaError: a module has no source file.
    """
    return json.dumps(checksums(entries), indent=2, sort_keys=True) + "\n"


def sources(named: Iterable[str]) -> dict[str, tuple[str, str]]:
    """SHA-256 of each module's file and of its code: of this package, and of ``named`` and their imports.

    Raises:
        VistaError: a module has no source file, or is not Python.
    """
    root = SOURCES["vista"]
    parts = [path.relative_to(root.parent).with_suffix("").parts for path in root.rglob("*.py")]
    own = [".".join(each[:-1] if each[-1] == "__init__" else each) for each in parts]
    modules = sorted({*own, *closure(named)})
    found = {name: (hashlib.sha256(_source(name).read_bytes()).hexdigest(), _code(name)) for name in modules}
    _keep({source for source, _ in found.values()})
    return found


def update(file: Path, text: str) -> None:
    """Write ``text`` to a file that the Snakefile keeps, if it holds anything else.

    Several ``snakemake`` may do so at once: only later does one of them lock the folder.

    Raises:
        VistaError: the disk is full, read-only or not writable by this user.
    """
    with writing(file):
        if not file.exists() or file.read_bytes() != text.encode():
            write_text(file, text, shared=True)


def source_file(module: str) -> Path | None:
    """The source file of a module of a known package; ``None`` if there is none."""
    top, *parts = module.split(".")
    if top not in SOURCES and (found := _located(top)) is not None:
        SOURCES[top] = found
    root = SOURCES.get(top)
    if root is None or (root.is_file() and parts):
        return None
    if root.is_file():
        return root
    package = root.joinpath(*parts, "__init__.py")
    module_file = root.joinpath(*parts).with_suffix(".py") if parts else package
    return next((path for path in (package, module_file) if path.is_file()), None)


def _located(top: str) -> Path | None:
    """The folder of somebody else's package, with or without ``__init__.py``, or the file of a module."""
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not (spec.submodule_search_locations or spec.has_location):
        return None
    folders = list(spec.submodule_search_locations or [])
    return Path(folders[0]) if folders else Path(str(spec.origin))


@cache
def _beside(top: str) -> frozenset[str]:
    """What comes with somebody else's ``top``: the modules and packages of its distribution.

    If it is installed nowhere, those in its folder, which may be the working directory.
    """
    distributions = packages_distributions()
    if own := set(distributions.get(top, [])):
        return frozenset(name for name, others in distributions.items() if own & set(others))
    root = SOURCES.get(top)
    if root is None or any(root.parent.glob("*.dist-info")):
        return frozenset()
    return frozenset(path.stem for path in root.parent.iterdir() if path.suffix == ".py" or path.is_dir())


def _source(module: str) -> Path:
    path = source_file(module)
    if path is None:
        raise VistaError(f"module {module} has no source file, so nobody can tell when it changes")
    return path


def _imports(module: str) -> list[str]:
    path = _source(module)
    return _imports_of(module, path, path.stat().st_mtime_ns)


@cache
def _imports_of(module: str, path: Path, changed: int) -> list[str]:
    parents = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]
    parents = [name for name in parents if source_file(name) is not None]
    return [*parents, *dict.fromkeys(_known(_said(path, changed).imports, module))]


def _known(imports: Iterable[Import], module: str) -> Iterator[str]:
    """The modules of known packages among the imports of a module."""
    top = module.split(".")[0]
    known = {top, *SOURCES, *(_beside(top) if top != "vista" else ())}
    for level, source, taken in imports:
        base = _absolute(level, source, module)
        names = [base, *(f"{base}.{name}" for name in taken or ())]
        yield from (name for name in names if name.split(".")[0] in known and source_file(name) is not None)


def _imported(tree: ast.AST) -> Iterator[Import]:
    """What is imported anywhere below ``tree``, at run time."""
    for node in _statements(tree, at_run_time=True):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)


# Where a statement holds others; imports, and what has a docstring, are in none of their expressions.
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _statements(tree: ast.AST, at_run_time: bool = False) -> Iterator[ast.AST]:
    """A module and all its statements; with ``at_run_time``, those that type checkers alone read left out."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        is_unseen = at_run_time and isinstance(node, ast.If) and _named(node.test) == "TYPE_CHECKING"
        for block in BLOCKS[1:] if is_unseen else BLOCKS:
            waiting += getattr(node, block, ())


def _named(node: ast.expr) -> str:
    """The name that an expression is, without what it is a name in."""
    return getattr(node, "attr", "") or getattr(node, "id", "")


def _absolute(level: int, source: str, module: str) -> str:
    if not level:
        return source
    file = source_file(module)
    is_package = file is not None and file.name == "__init__.py"
    parts = module.split(".")
    parts = parts[: len(parts) - level + is_package]
    return ".".join([*parts, *([source] if source else [])])


@cache
def _said(path: Path, changed: int) -> Said:
    """What a module's file says."""
    source = path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    if digest not in _kept():
        tree = _parse(source, path)
        imports = tuple(_imported(tree))
        texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        words = (each for each in texts if isinstance(each, str) and len(each) < 256 and "/" not in each)
        _kept()[digest] = Said(code_of(source, path), imports, frozenset(words))
    return _kept()[digest]


def _cache_file() -> Path:
    """Beside the compiled code of this module, and like it one for each version of Python."""
    return Path(cache_from_source(__file__)).with_suffix(".json")


@cache
def _kept() -> dict[str, Said]:
    """What sources say, by the SHA-256 of their bytes, as it was last kept; nothing if that is damaged."""
    found: dict[str, Said] = {}
    with suppress(OSError, ValueError, IndexError):
        heading, text = _cache_file().read_text(encoding="utf-8").split("\n", 1)
        if heading == _heading(text):
            for digest, (code, imports, words) in json.loads(text).items():
                taken = ((level, base, names and tuple(names)) for level, base, names in imports)
                found[digest] = Said(code, tuple(taken), frozenset(words))
    return found


def _heading(text: str) -> str:
    """Stands for what is kept and for the code that found it."""
    return hashlib.sha256(Path(__file__).read_bytes() + text.encode()).hexdigest()


def _keep(digests: set[str]) -> None:
    """Keep what these sources say, where Python could keep compiled code."""
    if sys.dont_write_bytecode:
        return
    rows = {digest: [*said[:2], sorted(said.words)] for digest, said in _kept().items() if digest in digests}
    text = json.dumps(rows, sort_keys=True)
    content, file = f"{_heading(text)}\n{text}", _cache_file()
    with suppress(OSError, VistaError):  # nobody may write there: the next start parses again
        update(file, content)


def _parse(source: bytes, path: Path) -> ast.Module:
    try:
        return ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise VistaError(f"{path}: not Python ({error}); correct it") from error


def _code(module: str) -> str:
    path = _source(module)
    return _said(path, path.stat().st_mtime_ns).code


def code_of(source: bytes, path: Path) -> str:
    """SHA-256 of a module's syntax tree, without what is only read by people.

    Raises:
        VistaError: the source is not Python.
    """
    tree = _parse(source, path)
    for node in _statements(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    for node in ast.walk(tree) if b"Field" in source else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [each for each in node.keywords if each.arg != "description"]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def data_of(module: str) -> dict[str, str]:
    """SHA-256 of the data files below a module's folder that it names in its source.

    Of a module in no package, those beside it: below may be the results, or all that is installed.
    """
    path = _source(module)
    alone = SOURCES.get(module) == path
    files = _data_files(path.parent, below=not alone)
    words = _said(path, path.stat().st_mtime_ns).words if files else frozenset()
    named = [file for file in files if file.name in words]
    return {f"{module}: {file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in named}


@cache
def _data_files(folder: Path, below: bool) -> list[Path]:
    found = folder.rglob("*") if below else folder.iterdir()
    files = sorted(file for file in found if file.is_file())
    return [file for file in files if file.suffix != ".py" and "__pycache__" not in file.parts]
