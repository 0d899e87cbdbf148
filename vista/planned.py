"""What a job was planned with: the suite and the code that ``snakemake`` had when it started.

``snakemake`` writes both to one file, ``<results>/.plans/DIGEST.json``, and hands its jobs the path. A job
takes the suite from there, whatever has become of the config since, and refuses to run on other code: each
module is compared as it is imported. So neither a second config, nor an edit during a run, nor a branch that
is looked at for a moment gives an output that passes for another's.

A suite alone (``<results>/suite.json``) will do for commands that are run by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from vista import closure, devices, lock
from vista.config import Suite, load_resolved
from vista.errors import VistaError, writing
from vista.manifest import ORIGIN, fingerprint
from vista.records import write_text

PLAN = "VISTA_PLAN"  # environment variable: where the processes that snakemake starts find their plan
HANDED = (PLAN, lock.START)
FOLDER = ".plans"
DOUBTFUL = 2  # seconds after an edit in which compiled code may be of the source before it
AGAIN = "when this run has ended, run the same command again"
EDITED = (
    "was edited since snakemake started, so the output would not be made by the code that it is recorded "
    f"under; {AGAIN}. (With `snapshot: true` in the suite, jobs run a copy of the code)"
)
AT_END: list[Callable[[], None]] = []  # says of each job that this process began that it has ended


@dataclass(frozen=True)
class Plan:
    """The suite and the code of one start of ``snakemake``.

    Attributes:
        suite: The resolved suite, as JSON.
        sources: By module, SHA-256 of its file, and of its code as ``vista.closure`` sees it.
        data: By module, SHA-256 of the data files that it names, where there are any.
        checksums: By name of a file of checksums (``vista.dag``), its SHA-256.
        commit: Git commit of the code; ``unknown`` outside a checkout.
        dirty: Whether the checkout had uncommitted changes.
    """

    suite: str
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    commit: str = "unknown"
    dirty: bool | None = None

    @property
    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), sort_keys=True) + "\n"

    def file(self, results: Path) -> Path:
        """Where it is written: its name says what is in it."""
        return results / FOLDER / _name(self.text)

    def write(self, results: Path) -> None:
        """Write it, and remove those of earlier starts.

        Raises:
            VistaError: the disk cannot be written.
        """
        file = self.file(results)
        write_text(file, self.text)
        for other in file.parent.glob("*.json"):
            if other != file:
                other.unlink(missing_ok=True)

    def copy_code(self, results: Path) -> Path:
        """Copy the packages that jobs import to a folder of its own, whose path is returned.

        Raises:
            VistaError: a module was edited since the plan was made; the disk cannot be written.
        """
        folder = results / FOLDER / "code"
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            for top in sorted({name.split(".")[0] for name in self.sources}):
                source = closure.SOURCES[top]
                if source.is_dir():
                    skipped = shutil.ignore_patterns("__pycache__", ".*")
                    shutil.copytree(source, folder / top, ignore=skipped)
                else:
                    folder.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, folder)
        for name in self.sources:
            if (original := closure.source_file(name)) is not None:
                top = name.split(".")[0]
                beside = closure.SOURCES[top].parent
                self.compare(name, folder / original.relative_to(beside))
        return folder

    def compare(self, module: str, file: Path) -> None:
        """Refuse a module's file that has other code than the plan.

        Raises:
            VistaError: it has; it was not there when ``snakemake`` started; it is gone.
        """
        if module not in self.sources:
            raise VistaError(f"{file}: was not there when snakemake started; {AGAIN}")
        source, code = self.sources[module]
        try:
            found = file.read_bytes()
        except OSError as error:
            said = f"cannot be read ({error.strerror}); put it back, then {AGAIN}"
            raise VistaError(f"{file}: {said}") from error
        if hashlib.sha256(found).hexdigest() != source and closure.code_of(found, file) != code:
            raise VistaError(f"{file}: {EDITED}")


def _name(text: str) -> str:
    """What a plan's file is called."""
    return f"{fingerprint(text)[:32]}.json"


def make(suite: Suite, texts: Mapping[str, str], named: Iterable[str], **commit: Any) -> Plan:
    """A plan of the code as it is now.

    Args:
        suite: The resolved suite.
        texts: By name of a file of checksums, what it holds.
        named: Modules of plug-ins, with all that they import.
        commit: The plan's ``commit`` and ``dirty``.

    Raises:
        VistaError: a module is not Python, or was edited since its checksum was taken: outputs would be made
            by other code than they are recorded under.
    """
    sources = closure.sources(named)
    data: dict[str, dict[str, str]] = defaultdict(dict)
    for text in texts.values():
        for name, checksum in json.loads(text).items():
            module, is_data, _ = name.partition(": ")
            if is_data:
                data[module][name] = checksum
            elif sources[module][1] != checksum:
                file = closure.source_file(module)
                raise VistaError(f"{file}: was edited while snakemake started; run the same command again")
    checksums = {name: fingerprint(text) for name, text in texts.items()}
    return Plan(suite.model_dump_json(), sources, dict(data), checksums, **commit)


def read(path: Path) -> tuple[Suite, Plan | None]:
    """The suite of a job, and its plan if ``path`` is one.

    Raises:
        VistaError: the file is missing, or is neither a plan as it was written nor a resolved suite.
    """
    if path.parent.name != FOLDER:
        return load_resolved(path), None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VistaError(f"{path}: cannot be read ({error}); the snakemake of this job has ended") from error
    if _name(text) != path.name:
        raise VistaError(f"{path}: is not what snakemake wrote; start snakemake again")
    plan = Plan(**json.loads(text))
    return Suite.model_validate_json(plan.suite), plan


def start(path: Path, command: str, *arguments: str) -> tuple[Suite, Plan | None]:
    """Begin a job: read what it was planned with, say that it is at work, and hold it to its code.

    Args:
        path: The plan that ``snakemake`` handed it; or a resolved suite, by hand.
        command: The job's command.
        arguments: What it is called with besides the suite.

    Raises:
        VistaError: as ``read``; the same job is at work already; modules have other code than planned.
    """
    suite, plan = read(path)
    what = " ".join(["vista", command, *arguments])
    name = f"{command}-{fingerprint(what)[:16]}"
    if rank := os.environ.get("RANK"):  # of several processes that train together
        name = f"{name}-rank{rank}"
    AT_END.append(lock.join(suite.results, name, what))
    ORIGIN.results = suite.results
    if plan is not None:
        Guard(plan).install()
        ORIGIN.code = {"commit": plan.commit, "dirty": plan.dirty}
    return suite, plan


def held_to() -> Path | None:
    """The plan whose code this process is held to, for a process that it starts; ``None`` by hand."""
    plans = [finder.plan for finder in sys.meta_path if isinstance(finder, Guard)]
    return plans[0].file(ORIGIN.results) if plans and ORIGIN.results is not None else None


def hold_to(path: Path) -> None:
    """Hold a process that a job started to the code of its plan.

    Raises:
        VistaError: as ``read``; modules have other code than planned.
    """
    plan = read(path)[1]
    if plan is not None:
        Guard(plan).install()


def end() -> None:
    """End what ``start`` began, in this process."""
    while AT_END:
        AT_END.pop()()
    ORIGIN.digests, ORIGIN.code, ORIGIN.results = dict, {}, None


def start_figure(path: Path | None, figure: str) -> None:
    """Begin to draw a figure, which needs no suite: hold it to the code that it was planned with.

    Args:
        path: The plan that ``snakemake`` handed it, if it did.
        figure: The name of its module.

    Raises:
        VistaError: as ``start``.
    """
    plan = start(path, "figure", figure)[1] if path is not None else None
    if plan is not None:
        known = {"code": plan.checksums[f"figure-{figure}.json"]}
        ORIGIN.digests = known.copy


class Guard(MetaPathFinder):
    """Compares each module of the plan's packages with it as it is imported."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tops = {name.split(".")[0] for name in plan.sources}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as Python would, and refuse it if it has other code than planned."""
        if name.split(".")[0] not in self.tops:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None:
                self.check(name, spec)
                return spec
        return None

    def check(self, name: str, spec: ModuleSpec | None) -> None:
        """Refuse a module of the plan's packages that has other code than planned."""
        if spec is None or not spec.has_location or name.split(".")[0] not in self.tops:
            return
        file = Path(str(spec.origin))
        self.plan.compare(name, file)
        if name in self.plan.data and closure.data_of(name) != self.plan.data[name]:
            raise VistaError(f"{file}: a data file beside it {EDITED}")
        _forget_doubtful(spec)

    def install(self) -> None:
        """Compare what has been imported already, and from now on each import."""
        sys.meta_path.insert(0, self)
        for name, module in list(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            self.check(name if spec is None else spec.name, spec)


def _forget_doubtful(spec: ModuleSpec) -> None:
    """Remove compiled code that may be of other source: Python compares whole seconds and sizes.

    What was compiled right after an edit looks like that of another edit in the same second.
    """
    with suppress(OSError, TypeError):
        compiled = Path(str(spec.cached))
        if compiled.stat().st_mtime < Path(str(spec.origin)).stat().st_mtime + DOUBTFUL:
            compiled.unlink()


def hand_down(file: Path) -> None:
    """Tell the processes that this ``snakemake`` will start where their plan is, and that they are its own.

    Those on other machines have an environment of their own.
    """
    os.environ[PLAN] = str(file)
    os.environ[lock.START] = secrets.token_hex(8)


def forget_inherited() -> None:
    """Have this ``snakemake`` make a plan of its own, whoever started it."""
    for name in (*HANDED, devices.OFFERED):
        os.environ.pop(name, None)


def inherited() -> Path | None:
    """The plan of the ``snakemake`` that started this process, if one did."""
    return Path(os.environ[PLAN]) if os.environ.get(PLAN) else None
