"""All checks that can be made before a run; ``vista doctor``.

Every check runs, whatever the others find. Nothing is downloaded. Endpoints of models are asked for the
names of the models there, which costs nothing; a teacher is not contacted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from vista import grid
from vista.config import (
    AnnotatedRationales,
    BuiltModel,
    Decoder,
    HubModel,
    LocalModel,
    SeedMethod,
    Suite,
    TeacherRationales,
)
from vista.engines.endpoint import address_file
from vista.engines.folders import folder_problems, read_object
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.paths import Paths, manifest_of
from vista.planning import own_data
from vista.planning.assumptions import Assumptions
from vista.planning.endpoints import check_endpoints
from vista.planning.environment import (
    check_commands,
    check_driver,
    check_gpus,
    check_memory,
    check_slurm,
)
from vista.planning.estimate import train_queries
from vista.planning.external import check_external
from vista.planning.findings import Finding, fail, ok, warn
from vista.planning.own_tasks import look, what_and_remedy
from vista.planning.plan import make_plan
from vista.task_kinds.benchmarks import BenchmarkSettings, HubFiles, LocalFiles
from vista.task_kinds.lmms_eval import LmmsEvalSettings
from vista.task_kinds.own.files import TableFiles
from vista.task_kinds.table import TableSettings

LOCK = Path(__file__).parents[2] / "requirements.lock"
DATA = ("*.parquet", "*.json", "*.jsonl", "*.csv", "*.arrow", "*.zip")
CHECKED = (
    *("torch", "torchvision", "transformers", "trl", "accelerate", "peft", "datasets", "lmms-eval"),
    *("numpy", "pandas", "snakemake", "snakemake-executor-plugin-slurm"),
)
GIGABYTE = 1e9


def examine(suite: Suite, assumptions: Assumptions, lock: Path = LOCK) -> list[Finding]:
    """Run all checks.

    Args:
        suite: The resolved suite.
        assumptions: What the estimate of disk and memory is made from.
        lock: The file with the versions that this project is tested with.
    """
    checks: dict[str, Callable[[], list[Finding]]] = {
        "models": lambda: check_models(suite),
        "checks of models": lambda: check_fitness(suite),
        "words": lambda: own_data.check_words(suite),
        "endpoints": lambda: check_endpoints(suite),
        "external methods": lambda: check_external(suite),
        "data": lambda: check_data(suite),
        "seed rationales": lambda: check_rationales(suite),
        "GPUs": lambda: check_gpus(suite, assumptions),
        "driver": lambda: check_driver(suite),
        "memory": lambda: check_memory(suite),
        "disk": lambda: check_disk(suite, assumptions),
        "versions": lambda: check_versions(lock),
        "commands": lambda: check_commands(suite),
        "Slurm": check_slurm,
        "results": lambda: check_results(suite),
        "git": check_git,
    }
    return [finding for subject, check in checks.items() for finding in _guarded(subject, check)]


def _guarded(subject: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Run a check; one that raises is reported as a finding and does not stop the others."""
    try:
        return check()
    except VistaError as error:
        return [fail(subject, str(error), "see the message")]
    except (OSError, ValueError, KeyError, ImportError) as error:
        return [
            fail(
                subject,
                f"could not be checked: {type(error).__name__}: {error}",
                "fix this first, then run the doctor again",
            )
        ]


# --- what the suite reads ---


def check_models(suite: Suite) -> list[Finding]:
    """Every model: pinned, available, and a complete checkpoint."""
    found = []
    for name, spec in suite.models.items():
        if isinstance(spec, LocalModel | HubModel):
            found += _model(f"model {name}", spec)
        if isinstance(spec, BuiltModel) and spec.decoder is not None:
            found.append(_decoder(name, spec.decoder))
    return found or [ok("models", "all are built by the DAG, or at endpoints")]


def _decoder(name: str, decoder: Decoder) -> Finding:
    """Whether the pretrained decoder of a built model is installed, and is the one that is meant."""
    from vista.models.decoder import weights_of  # which loads torch: other suites have no use for it

    subject = f"model {name}"
    try:
        return ok(subject, f"built by the DAG, with the decoder {weights_of(decoder, name)}")
    except VistaError as error:
        return fail(subject, *what_and_remedy(error))


def check_fitness(suite: Suite) -> list[Finding]:
    """What the last check of every base checkpoint that is not built here found."""
    models = [name for name, spec in suite.models.items() if isinstance(spec, LocalModel | HubModel)]
    return [finding for model in models for finding in _fitness(suite, model)]


def _fitness(suite: Suite, model: str) -> list[Finding]:
    """What the last check of a base checkpoint found, if it was of this checkpoint and asked the same."""
    layers = suite.scoring.layers if grid.reads_attention(suite) else None
    scoring = {"layers": layers, "linear_layers": suite.scoring.linear_layers}
    paths, subject = Paths(suite.results), f"check of {model}"
    base = paths.base(model)
    for file in (paths.failed_check(model), paths.check(model)):
        if not (file.is_file() and manifest_of(base).is_file()):
            continue
        report = read_object(file)
        asked = {"checkpoint": read_manifest(base).checksums, "scoring": scoring}
        asked["system"] = grid.asks_system(suite, model)
        if asked.items() <= report.items():
            return [_verdict(subject, verdict, file) for verdict in report.get("verdicts", [])]
    return [ok(subject, "made before anything is spent, as soon as the checkpoint is there (vista check)")]


def _verdict(subject: str, found: dict[str, str], file: Path) -> Finding:
    """One verdict of a check."""
    said = f"{found['check']}: {found['measured']} {found['tolerance']}".rstrip()
    if found["verdict"] != "fail":
        return ok(subject, said)
    return fail(subject, said, f"see {file.with_suffix('.log')}; once corrected, run the check again")


def _model(subject: str, spec: LocalModel | HubModel) -> list[Finding]:
    if spec.path is not None:
        return _folder(subject, spec.path)
    if spec.revision is None:
        return [_unpinned(subject, spec.repo, f"https://huggingface.co/{spec.repo}", "models.yaml")]
    folder = _cached(spec.repo, spec.revision, "model")
    if folder is None:
        return [_not_cached(subject, f"hf download {spec.repo} --revision {spec.revision}")]
    return _folder(subject, folder)


def _folder(subject: str, folder: Path) -> list[Finding]:
    """Why the engines would refuse a checkpoint folder: for each reason, what is wrong, then the remedy."""
    told = [problem.partition("; ") for problem in folder_problems(folder)]
    found = [fail(subject, what, remedy or "see the message") for what, _, remedy in told]
    return found or [ok(subject, f"{folder}: has weights, processor and chat template")]


def check_data(suite: Suite) -> list[Finding]:
    """What can be known of every task's data before a run.

    Benchmarks: pinned and available. Data of the user's own: read, and shown. Tasks of lmms-eval: can be
    asked and scored.
    """
    found = []
    for name, task in suite.tasks.items():
        if isinstance(task, LmmsEvalSettings):
            found.append(Finding(f"task {name}", *look(task)))
        if isinstance(task, BenchmarkSettings | TableSettings):
            missing, folder = _source(name, task.source)
            if isinstance(task, TableSettings):
                found += missing or _own_data(name, task)
            else:
                found += missing or [_data_folder(f"task {name}", folder)]
    return found or [ok("data", "all tasks are generated by the DAG")]


def _source(name: str, source: HubFiles | LocalFiles | TableFiles) -> tuple[list[Finding], Path]:
    """Why a task's data set is not there, and the folder where it is or should be."""
    if not isinstance(source, HubFiles):
        return [], getattr(source, "path", Path())
    if source.revision is None:
        url = f"https://huggingface.co/datasets/{source.repo}"
        return [_unpinned(f"task {name}", source.repo, url, f"tasks.{name}.source")], Path()
    if folder := _cached(source.repo, source.revision, "dataset"):
        return [], folder
    command = f"hf download --repo-type dataset {source.repo} --revision {source.revision}"
    return [_not_cached(f"task {name}", command)], Path()


def _own_data(name: str, task: TableSettings) -> list[Finding]:
    """What the jobs that make the task's queries will find in its files."""
    try:
        told = list(own_data.findings(name, task))
    except VistaError as error:
        return [fail(f"task {name}", str(error), "see the message")]
    return [Finding(what, "warn" if remedy else "ok", message, remedy) for what, message, remedy in told]


def _data_folder(subject: str, folder: Path) -> Finding:
    if not folder.is_dir():
        return fail(
            subject, f"{folder}: no such folder", "correct source.path, or copy the published files there"
        )
    count = sum(1 for pattern in DATA for _ in folder.rglob(pattern))
    if not count:
        wanted = ", ".join(DATA)
        return fail(
            subject, f"{folder}: no data files ({wanted})", "copy the published files there, unchanged"
        )
    return ok(subject, f"{folder}: {count} data files")


def _unpinned(subject: str, repo: str, url: str, where: str) -> Finding:
    return fail(
        subject,
        f"{repo} is not pinned (revision: null)",
        f"write the commit that `git ls-remote {url} HEAD` prints as `revision` in {where}",
    )


def _not_cached(subject: str, command: str) -> Finding:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    message, remedy = (
        "not in the local cache",
        f"{command} (after `hf auth login` if the repository is gated)",
    )
    if offline:
        return fail(
            subject, f"{message}, and HF_HUB_OFFLINE is set", f"unset HF_HUB_OFFLINE and run {remedy}"
        )
    return warn(subject, f"{message}; the job will download it if it has network access", remedy)


def _cached(repo: str, revision: str, kind: str) -> Path | None:
    try:
        return Path(snapshot_download(repo, repo_type=kind, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def check_rationales(suite: Suite) -> list[Finding]:
    """Where the seed split's rationales come from."""
    subject, settings = "seed rationales", suite.seed_rationales
    if not any(isinstance(method, SeedMethod) for method in suite.methods.values()):
        return [ok(subject, "no method trains only on the seed split")]
    if isinstance(settings, AnnotatedRationales):
        missing = [f"{task}: {path}" for task, path in settings.files.items() if not path.is_file()]
        if missing:
            remedy = "correct seed_rationales.files, or copy the files there"
            return [fail(subject, f"no such file: {', '.join(missing)}", remedy)]
        return [
            ok(
                subject,
                f"annotated in {len(settings.files)} files" if settings.files else "come with the tasks",
            )
        ]
    if isinstance(settings, TeacherRationales):
        return _teacher(subject, suite, settings)
    return [ok(subject, "sampled from the base model")]


def _teacher(subject: str, suite: Suite, settings: TeacherRationales) -> list[Finding]:
    found = [
        warn(
            subject,
            f"{settings.endpoint or 'a server of your own'} is not contacted by the doctor",
            f"make sure it serves {settings.model}"
            + ("" if settings.endpoint else f" and {address_file(settings.cache)} holds its address"),
        )
    ]
    if not os.environ.get(settings.api_key_variable):
        found.append(
            fail(
                subject,
                f"the environment variable {settings.api_key_variable} is not set",
                f"export {settings.api_key_variable}=… (any text if the server needs no key)",
            )
        )
    sets = {run.train_set for run in grid.runs(suite)}
    most = max(train_queries(suite, train_set, "seed") for train_set in sets)
    if settings.max_requests < most:
        remedy = f"raise seed_rationales.max_requests; {most * settings.attempts} is always enough"
        found.append(warn(subject, f"{settings.max_requests} requests for up to {most} queries", remedy))
    return found


# --- what the suite runs on ---


def check_disk(suite: Suite, assumptions: Assumptions) -> list[Finding]:
    """Free disk against the plan's estimate."""
    try:
        plan = make_plan(suite, assumptions)
    except VistaError as error:  # nobody knows how many queries a task has
        return [warn("disk", *what_and_remedy(error))]
    need = plan.disk_bytes
    folder = _existing(suite.results)
    free = shutil.disk_usage(folder).free
    message = f"{folder}: {free / GIGABYTE:,.0f} GB free; the plan needs about {need / GIGABYTE:,.0f} GB"
    if free < need:
        remedy = (
            "move `results` to a larger disk, or run fewer models or methods (`vista plan` shows the largest)"
        )
        return [fail("disk", message, remedy)]
    return [ok("disk", message)]


def check_versions(lock: Path) -> list[Finding]:
    """Installed packages against ``requirements.lock``."""
    if not lock.is_file():
        return [warn("versions", f"{lock}: no such file", "run the doctor in the checkout")]
    locked = dict(
        re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    )
    found = []
    for name in CHECKED:
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(fail("versions", f"{name} is not installed", "make install"))
            continue
        if name in locked and installed.split("+")[0] != locked[name]:
            message = f"{name} {installed} is installed, {locked[name]} is locked"
            found.append(warn("versions", message, "make install, unless the difference is intended"))
    return found or [ok("versions", f"{len(CHECKED)} packages match {lock.name}")]


def check_results(suite: Suite) -> list[Finding]:
    """A results folder that can be written, and the file of reported numbers."""
    folder = _existing(suite.results)
    found = [
        ok("results", f"{folder} can be written")
        if os.access(folder, os.W_OK | os.X_OK)
        else fail(
            "results", f"{folder} cannot be written", "change its permissions, or `results` in the suite file"
        )
    ]
    if suite.reported is not None and not suite.reported.is_file():
        found.append(
            fail("reported", f"{suite.reported}: no such file", "correct `reported` in the suite file")
        )
    return found


def check_git() -> list[Finding]:
    """Whether results can be traced to a commit."""
    git = ["git", "-C", str(Path(__file__).parent)]
    asked = [*git, "status", "--porcelain"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    if done.returncode:
        return [
            warn("git", "not a git checkout", "run from a clone, so that results can be traced to a commit")
        ]
    if done.stdout.strip():
        changed = len(done.stdout.strip().splitlines())
        return [warn("git", f"{changed} uncommitted files", "commit them before a long run")]
    return [ok("git", "no uncommitted changes")]


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
