"""What stands in for the work of every stage: each output is a hash of all that decides it.

A job here takes half a second, nearly all of it Python's start. What decides an output is what decides the
real one: settings, the bytes of its inputs in the order in which they are read, and the ``CODE`` of the
modules that do the work. It is stated here once more, apart from ``vista.dag``, which the fuzzer holds to it.

In a checkout under test this module is ``vista.standin``; in the test's own process it computes what a clean
folder would hold.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vista import grid
from vista.config import BuiltModel, SelfImprovement, Suite
from vista.grid import Run
from vista.manifest import Recorder, read_manifest, withdraw
from vista.paths import TABLE_SUFFIXES, Paths
from vista.reads import Reads
from vista.records import write_text

CODE = 1

# The modules whose `CODE` decides what a command makes.
MODULES = {
    "tasks": ("standin", "tasks.generate"),
    "models": ("standin", "models.build"),
    "sample": ("standin", "rollouts.sample", "engines.hf"),
    "curate": ("standin", "curation.curate"),
    "train": ("standin", "training.train", "training.fit"),
    "evaluate": ("standin", "evaluation.evaluate", "engines.hf"),
    "collect": ("standin", "analysis.collect"),
    "tables": ("standin", "analysis.tables"),
}
WEIGHTS = "weights.json"  # the one file of a checkpoint
GATES = "VISTA_GATES"  # names the folder in which jobs are held


@dataclass(frozen=True)
class Work:
    """One output and all that decides it, but the code.

    Attributes:
        command: Of ``vista.stages``.
        stage: The stage.
        output: A file, or a checkpoint's folder.
        settings: What of the suite it depends on.
        inputs: Files and checkpoints, in the order in which they are read.
    """

    command: str
    stage: str
    output: Path
    settings: Any
    inputs: list[Path]

    @property
    def is_folder(self) -> bool:
        return self.stage in {"models", "training"}

    @property
    def name(self) -> str:
        """What the test calls the job."""
        return f"{self.command} {self.output}"


def number_of(content: bytes) -> int:
    """The count that an output's manifest has of it."""
    return int.from_bytes(hashlib.sha256(content).digest()[:3], "big")


def content(work: Work, codes: Mapping[str, int], read: Callable[[Path], bytes]) -> bytes:
    """What the work makes of what ``read`` finds under the names of its inputs."""
    made = [hashlib.sha256(read(path)).hexdigest() for path in work.inputs]
    said = {"settings": work.settings, "inputs": made, "codes": dict(sorted(codes.items()))}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return f"{digest}\n".encode()


def tasks(suite: Suite, paths: Paths, task: str, split: str) -> Work:
    spec = suite.tasks[task]
    settings = [task, split, spec.model_dump(mode="json", exclude={"sizes"}), getattr(spec.sizes, split)]
    return Work("tasks", "tasks", paths.queries(task, split), settings, [])


def models(suite: Suite, paths: Paths, model: str) -> Work:
    entry = suite.models[model]
    assert isinstance(entry, BuiltModel)
    settings = [entry.model_dump(mode="json", include={"steps", "seed"}), suite.wording.hint]
    return Work("models", "models", paths.base(model), settings, [paths.queries(entry.corpus, "train")])


def sample(suite: Suite, paths: Paths, policy: Run, name: str, shard: int) -> Work:
    reads = Reads(suite, paths)
    settings = [policy.id, grid.sampling_named(suite, name).model_dump(mode="json")]
    inputs = [reads.checkpoint(policy), *reads.queries(policy, "train")]
    return Work("sample", "rollouts", reads.shard(policy, "samples", name, shard), settings, inputs)


def curate(suite: Suite, paths: Paths, run: Run) -> Work:
    method = suite.methods[run.method]
    assert isinstance(method, SelfImprovement)
    settings = [run.seed, run.round, method.max_per_query, method.dedupe]
    inputs = Reads(suite, paths).curation(run).every_file
    return Work("curate", "curation", paths.training_set(run.id), settings, inputs)


def train(suite: Suite, paths: Paths, run: Run) -> Work:
    settings = [run.seed, suite.training.sft.model_dump(mode="json")]
    inputs = [paths.training_set(run.id), Reads(suite, paths).start(run)]
    return Work("train", "training", paths.trained(run.id), settings, inputs)


def evaluate(suite: Suite, paths: Paths, run: Run) -> Work:
    reads = Reads(suite, paths)
    settings = [suite.evaluated_tasks, suite.eval_max_new_tokens]
    inputs = [reads.checkpoint(run), *reads.test_queries()]
    return Work("evaluate", "evaluation", paths.predictions(run.id), settings, inputs)


def collect(suite: Suite, paths: Paths) -> Work:
    runs = grid.runs(suite)
    inputs = [paths.predictions(run.id) for run in runs]
    return Work("collect", "analysis", paths.long, [run.id for run in runs], inputs)


def table(suite: Suite, paths: Paths, name: str, suffix: str, counted: Callable[[Path], int]) -> Work:
    """A table also shows what manifests count."""
    trained = [run.id for run in grid.runs(suite) if grid.is_trained(suite, run)]
    counts = {run: counted(paths.training_set(run)) for run in trained}
    settings = [name, suffix, suite.train_sets, suite.evaluated_tasks, counts]
    return Work("tables", "analysis", paths.table(name, suffix), settings, [paths.long])


def gate(name: str) -> None:
    """Wait here while the test holds this job at this point. It says so by a file."""
    folder = Path(os.environ[GATES])
    hold, waiting = folder / "hold", folder / "waiting"
    if _held(hold, name):
        temporary = folder / f"{os.getpid()}.part"
        temporary.write_text(f"{os.getpid()} {name}")
        temporary.rename(waiting)
        while _held(hold, name):
            time.sleep(0.01)
        waiting.unlink()


def _held(hold: Path, name: str) -> bool:
    """Whether all words of the file are in the job's name, point included."""
    try:
        words = hold.read_text().split()
    except FileNotFoundError:
        return False
    return bool(words) and all(word in name for word in words)


def do(work: Work, codes: Callable[[], Mapping[str, int]]) -> None:
    """Do the work as a stage does, and wait wherever the test holds it.

    Args:
        work: What is to be made.
        codes: The ``CODE`` of the modules that do it, which may import some of them only now.
    """
    recorder = Recorder(work.stage, {"settings": work.settings}, work.inputs)
    gate(f"{work.name} @begin")
    made = content(work, codes(), _content_of)
    gate(f"{work.name} @made")
    if work.is_folder:
        temporary = work.output.with_name(f".{work.output.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        (temporary / WEIGHTS).write_bytes(made)
        if work.output.exists():
            withdraw(work.output)
            shutil.rmtree(work.output)
        temporary.rename(work.output)
    else:
        write_text(work.output, made.decode())
    if work.stage == "training":
        history = work.output.with_name(f"{work.output.name}.history.csv")
        write_text(history, "step\n")
        recorder.write(history, {})
    gate(f"{work.name} @written")
    recorder.write(work.output, {"number": number_of(made)})


def do_tables(suite: Suite, paths: Paths, codes: Callable[[], Mapping[str, int]]) -> None:
    """Every table of ``vista tables``."""
    from vista.analysis.plan import results_names

    def counted(output: Path) -> int:
        return int(read_manifest(output).counts["number"])

    for name in results_names(suite):
        for suffix in TABLE_SUFFIXES:
            do(table(suite, paths, name, suffix, counted), codes)


def _content_of(path: Path) -> bytes:
    return (path / WEIGHTS if path.is_dir() else path).read_bytes()


def clean(suite: Suite, codes: Mapping[str, int]) -> bytes:
    """The main table that a clean folder would hold.

    Args:
        suite: The resolved suite.
        codes: By module, as in ``MODULES``, its ``CODE``.
    """
    paths, known = Paths(suite.results), dict[Path, bytes]()

    def make(work: Work) -> None:
        own = {name: codes[name] for name in MODULES[work.command]}
        known[work.output] = content(work, own, known.__getitem__)

    for model in suite.models.values():
        assert isinstance(model, BuiltModel)
        make(tasks(suite, paths, model.corpus, "train"))
    for task in suite.trained_tasks:
        make(tasks(suite, paths, task, "train"))
    for task in suite.evaluated_tasks:
        make(tasks(suite, paths, task, "test"))
    for name in suite.models:
        make(models(suite, paths, name))
    for run in grid.runs(suite):
        if grid.is_trained(suite, run):
            for policy, files in grid.sources(suite, run).policies:
                for shard in range(suite.shards):
                    make(sample(suite, paths, policy, files.samples, shard))
            make(curate(suite, paths, run))
            make(train(suite, paths, run))
        make(evaluate(suite, paths, run))
    make(collect(suite, paths))
    main = table(suite, paths, "main", "csv", lambda output: number_of(known[output]))
    make(main)
    return known[main.output]
