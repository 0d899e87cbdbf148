"""Clones of the project whose stages are stood in for, and what two users may do in them.

Nothing here depends on the clock: a job is held at a point that the test names until the test lets it go.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.checkout import Checkout
from tests.promise import standin
from vista.config import load_suite

HERE = Path(__file__).parent
MODULES = sorted({name for names in standin.MODULES.values() for name in names})
RESULTS = "results/promise"
TABLE = f"{RESULTS}/tables/main.csv"
CONFIG = "config/promise.yaml"
# Imports all that runs here but Snakemake, and says what that was.
LOADED = f"""
import importlib, re, sys, vista.__main__, vista.cli, vista.memory, vista.training.launch, vista.verify
from pathlib import Path
for rules in [Path("Snakefile"), *Path("workflow/rules").glob("*.smk")]:
    for name in re.findall(r"^from (vista\\S*) import", rules.read_text(), re.MULTILINE):
        importlib.import_module(name)
from vista import standin
from vista.analysis import plan
from vista.config import load_suite
standin.clean(load_suite(Path("{CONFIG}")), dict.fromkeys({MODULES}, 1))
print(*(name for name in sys.modules if name.split(".")[0] == "vista"))
"""
PATIENCE = 300.0  # seconds until a test gives up on what never comes

Config = dict[str, Any]

START: Config = {
    "name": "promise",
    "results": RESULTS,
    "models": ["nano-smoke"],
    "train_sets": {"both": ["left", "right"]},
    "methods": ["zero-shot", "rest-em"],
    "method_defaults": {"initial_policy": "zero-shot", "mix_seed": False, "rollouts": {"temperature": 1.0}},
    "method_overrides": {"rest-em": {"rounds": 2}},
    "tasks": {
        "printed": {"kind": "grid", "questions": ["read"], "digits": "printed", "sizes": {"train": 64}},
        "left": {"kind": "grid", "questions": ["closed"], "sizes": {"seed": 8, "train": 8, "test": 8}},
        "right": {"kind": "grid", "questions": ["chain"], "sizes": {"seed": 8, "train": 8, "test": 8}},
    },
    "training": {
        "seed": {"learning_rate": 0.001},
        "sft": {"learning_rate": 0.001},
        "dpo": {"learning_rate": 0.001},
    },
    "eval_max_new_tokens": 80,
}


def _flip(config: Config, *path: str, values: tuple[Any, Any]) -> None:
    for name in path[:-1]:
        config = config.setdefault(name, {})
    now = config.get(path[-1], values[0])
    config[path[-1]] = values[1] if now == values[0] else values[0]


# What a user may edit, there and back.
EDITS: dict[str, Callable[[Config], None]] = {
    "learning rate": lambda c: _flip(c, "training", "sft", "learning_rate", values=(0.001, 0.009)),
    "eval_max_new_tokens": lambda c: _flip(c, "eval_max_new_tokens", values=(80, 40)),
    "order of tasks": lambda c: c["train_sets"]["both"].reverse(),
    "rounds": lambda c: _flip(c, "method_overrides", "rest-em", "rounds", values=(2, 1)),
    "max_per_query": lambda c: _flip(c, "method_overrides", "rest-em", "max_per_query", values=(None, 3)),
    "temperature": lambda c: _flip(c, "method_defaults", "rollouts", "temperature", values=(1.0, 0.9)),
    "test size": lambda c: _flip(c, "tasks", "right", "sizes", "test", values=(8, 9)),
    "train size": lambda c: _flip(c, "tasks", "left", "sizes", "train", values=(8, 9)),
    "seeds": lambda c: _flip(c, "seeds", values=([0], [1])),
    "methods": lambda c: c["methods"].reverse(),
    "threads": lambda c: _flip(c, "threads", values=(1, 2)),
}


class Broken(AssertionError):
    """The promise was not kept."""


@dataclass
class Run:
    """A Snakemake that was started, with the jobs that it started."""

    clone: Clone
    process: subprocess.Popen[bytes]
    gates: Path
    log: Path
    expected: bytes | None  # of the table, if it is to make that: what it was started for
    paused: bool = False

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def hold(self, words: str) -> None:
        """Hold the next job whose name has all these words; none if there are none."""
        temporary = self.gates / "hold.part"
        temporary.write_text(words)
        temporary.rename(self.gates / "hold")

    @property
    def held(self) -> psutil.Process | None:
        """The job that waits, if one does."""
        try:
            number = int((self.gates / "waiting").read_text().split()[0])
            job = psutil.Process(number)
            return job if job.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD} else None
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> None:
        """Until a job is held, or Snakemake has ended."""
        wait_until(lambda: self.held is not None or self.ended, self)

    def jobs(self) -> list[psutil.Process]:
        """What is left of the session that Snakemake led, itself apart."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.pid != self.process.pid and os.getsid(process.pid) == self.process.pid
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def let_go(self) -> None:
        """Let Snakemake and every job of it come to their end."""
        self.hold("")
        for process in [*self.jobs(), *([] if self.ended else [psutil.Process(self.process.pid)])]:
            try:
                process.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                continue
        self.paused = False
        wait_until(lambda: self.ended and not self.jobs(), self)

    def pause(self) -> None:
        """Stop Snakemake, and let the job that is held come to its end beside it."""
        os.kill(self.process.pid, signal.SIGSTOP)
        self.paused = True
        self.hold("")
        wait_until(lambda: not any(_is_vista(job) for job in self.jobs()), self)

    def kill_job(self) -> None:
        """``kill -9`` of the job that is held."""
        job = self.held
        assert job is not None
        self.hold("")
        job.kill()
        (self.gates / "waiting").unlink(missing_ok=True)
        wait_until(lambda: self.ended and not self.jobs(), self)

    def interrupt(self) -> None:
        """Ctrl-C, which a terminal sends to the jobs as well."""
        os.killpg(self.process.pid, signal.SIGINT)
        wait_until(lambda: self.ended and not self.jobs(), self)

    def kill(self, *, jobs: bool) -> None:
        """``kill -9`` of Snakemake, alone or with its jobs."""
        if jobs:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        wait_until(lambda: not (jobs and self.jobs()), self)


def _is_vista(process: psutil.Process) -> bool:
    """Whether a process is a job of ours, and not the one that forks them."""
    try:
        words = " ".join(process.cmdline())
        return "vista" in words and ("vista.warm" not in words or _is_fork(process))
    except psutil.Error:
        return False


def _is_fork(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and "vista.warm" in " ".join(parent.cmdline())


def wait_until(happened: Callable[[], bool], run: Run) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > end:
            raise Broken(f"it never happened:\n{run.said[-4000:]}")
        time.sleep(0.01)


@dataclass
class Clone:
    """A checkout with its own config and code, and results of its own or another's."""

    folder: Path
    config: Config = field(default_factory=lambda: copy.deepcopy(START))
    codes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODULES, 1))

    @property
    def results(self) -> Path:
        return self.folder / RESULTS

    @property
    def table(self) -> Path:
        return self.folder / TABLE

    def write_config(self) -> None:
        (self.folder / CONFIG).write_text(yaml.safe_dump(self.config, sort_keys=False))

    def edit(self, name: str) -> None:
        EDITS[name](self.config)
        self.write_config()

    def set_code(self, module: str, number: int) -> None:
        self.codes[module] = number
        path = self.folder / "vista" / f"{module.replace('.', '/')}.py"
        text, count = re.subn(r"(?m)^CODE = \d+$", f"CODE = {number}", path.read_text())
        assert count == 1, path
        temporary = path.with_suffix(".new")
        temporary.write_text(text)
        temporary.rename(path)

    def environment(self, gates: Path) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONHASHSEED": "0",
            # Python takes a module's bytecode for good if size and second of the source are as they were.
            "PYTHONDONTWRITEBYTECODE": "1",
            standin.GATES: str(gates),
        }

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        chosen = arguments or (TABLE,)
        return [
            *("snakemake", "--cores", str(cores), "--scheduler", "greedy", "--nocolor"),
            *(*chosen, "--configfile", CONFIG),
        ]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end; what it says goes to ``stdout``."""
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment(self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def clean_table(self) -> bytes:
        """The table that a clean folder with this config and code would hold."""
        key = json.dumps([self.config, self.codes])
        if key not in _CLEAN:
            _CLEAN[key] = standin.clean(load_suite(self.folder / CONFIG, root=self.folder), self.codes)
        return _CLEAN[key]

    def outputs(self) -> list[Path]:
        """Everything that has a manifest, by name."""
        found = []
        for path in self.results.rglob("*manifest.json"):
            if not any(part.startswith(".") for part in path.relative_to(self.results).parts):
                name = path.name.removesuffix("manifest.json").removesuffix(".")
                found.append(path.with_name(name) if name else path.parent)
        return sorted(found)


_CLEAN: dict[str, bytes] = {}


def make_clone(root: Path, folder: Path) -> Clone:
    """A new clone without results, in which the stages are stood in for."""
    folder.mkdir(parents=True)
    Checkout.make(root, folder)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "vista"], cwd=folder, check=True)
    for source in (HERE / "replaced").rglob("*.py"):
        replace(source, folder / "vista" / source.relative_to(HERE / "replaced"))
    replace(HERE / "standin.py", folder / "vista/standin.py")
    forget_libraries(folder / "vista/warm.py")
    clone = Clone(folder)
    clone.write_config()
    add_gates(folder / "Snakefile")
    empty_unused(clone)
    return clone


def forget_libraries(warm: Path) -> None:
    """Have jobs forked by a process that has imported nothing, since they need nothing."""
    text, found = re.subn(
        r"^((?:TABLE_)?LIBRARIES) = \(.*?^\)", r"\1 = ()", warm.read_text(), flags=re.M | re.S
    )
    assert found == 2
    warm.write_text(text)


def add_gates(snakefile: Path) -> None:
    """Have Snakemake wait, too: when it has read the rules; and when it has planned, before it begins."""
    text = snakefile.read_text()
    gate = 'standin.gate("snakemake @{}")\n'
    assert text.count("onstart:\n") == 1
    text = text.replace("onstart:\n", "onstart:\n    " + gate.format("planned"))
    assert text.count("\nPLAN.keep_code()\n") == 1
    text = text.replace("PLAN.keep_code()\n", "PLAN.keep_code()\n" + gate.format("read"))
    snakefile.write_text(f"from vista import standin\n\n{text}")


def empty_unused(clone: Clone) -> None:
    """Empty the modules that nothing here imports: to hash their code takes most of a start."""
    done = clone.run(sys.executable, "-c", LOADED)
    assert done.returncode == 0, done.stdout
    used = {*done.stdout.split(), *(f"vista.{name}" for name in MODULES)}
    # Plug-ins are packages. A module of the name hides this one, which imports pandas.
    (clone.folder / "snakemake_executor_plugin_slurm.py").touch()
    for path in (clone.folder / "vista").rglob("*.py"):
        name = ".".join(path.relative_to(clone.folder).with_suffix("").parts).removesuffix(".__init__")
        if name not in used:
            path.write_text('"""Nothing."""\n')


def replace(source: Path, target: Path) -> None:
    shutil.copy2(source, target)
    for cached in (target.parent / "__pycache__").glob(f"{target.stem}.*.pyc"):
        cached.unlink()


def put(source: Path, target: Path, *, times: bool) -> None:
    """Copy a file or folder over another, or to where none is."""
    copied = shutil.copy2 if times else shutil.copyfile
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        if target.is_dir():
            shutil.rmtree(target)
        shutil.copytree(source, target, symlinks=True, copy_function=copied)
    else:
        copied(source, target)


def copy_clone(clone: Clone, folder: Path) -> Clone:
    """A clone with everything in it, times kept."""
    shutil.copytree(clone.folder, folder, symlinks=True)
    return Clone(folder, copy.deepcopy(clone.config), dict(clone.codes))


# What errors tell the user to do, and what that is here.
REMEDIES = {
    "unlock": r"--unlock",
    "verify": r"`vista verify ",
    "wait": r"wait (for|until)",
    "again": r"(run|start|try) .{0,40}again|same command",
}


@dataclass
class World:
    """All that the users have, and what they have running.

    Attributes:
        folder: Where everything is.
        clones: The working directories.
        runs: The Snakemakes that have not come to their end with all their jobs.
        damaged: Results folders in which files were changed by hand.
    """

    folder: Path
    clones: list[Clone] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    damaged: set[Path] = field(default_factory=set)
    started: int = 0

    def new_clone(self, like: Clone) -> Clone:
        """The same code and config in a new folder, without results."""
        folder = self.folder / f"clone{len(self.clones)}"
        shutil.copytree(like.folder, folder, ignore=shutil.ignore_patterns("results", ".snakemake"))
        clone = Clone(folder, copy.deepcopy(like.config), dict(like.codes))
        self.clones.append(clone)
        return clone

    def copy(self, source: Clone, *, snakemake: bool = False, times: bool = True) -> Clone:
        """A new clone with a copy of the results, with or without ``.snakemake``."""
        target = self.new_clone(source)
        if source.results.is_dir():
            put(source.results, target.results, times=times)
        if snakemake and (source.folder / ".snakemake").is_dir():
            put(source.folder / ".snakemake", target.folder / ".snakemake", times=times)
        if source.results.resolve() in self.damaged:
            self.damaged.add(target.results.resolve())
        return target

    def share(self, source: Clone) -> Clone:
        """A new clone with the results of another."""
        target = self.new_clone(source)
        target.results.parent.mkdir()
        target.results.symlink_to(source.results.resolve())
        return target

    def touched(self, clone: Clone, *, damaged: bool = True) -> None:
        """Note that outputs were changed by hand; what runs there is held to nothing but the next rerun."""
        results = clone.results.resolve()
        if damaged:
            self.damaged.add(results)
        for run in self.runs:
            if run.clone.results.resolve() == results:
                run.expected = None

    def start(self, clone: Clone, *targets: str, hold: str = "", cores: int = 1) -> Run:
        """Start Snakemake, and wait until a job is held or it has ended."""
        self.started += 1
        gates = self.folder / f"gates{self.started}"
        gates.mkdir()
        log = gates / "said.txt"
        (gates / "hold").write_text(hold)
        with log.open("wb") as said:
            process = subprocess.Popen(
                clone.command(*targets, cores=cores),
                cwd=clone.folder,
                env=clone.environment(gates),
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        sound = targets == (TABLE,) and clone.results.resolve() not in self.damaged
        expected = clone.clean_table() if sound else None
        run = Run(clone, process, gates, log, expected)
        self.runs.append(run)
        run.wait()
        self.forget()
        return run

    def forget(self) -> None:
        """Leave out of the list what has come to its end. What ended well has made its table."""
        for run in self.runs:
            if run.process.poll() == 0 and run.expected is not None:
                if run.clone.table.read_bytes() != run.expected:
                    raise Broken(f"a wrong table at the end of a run, status 0:\n{run.said[-6000:]}")
                run.expected = None
        self.runs = [run for run in self.runs if not run.ended or run.jobs()]

    def let_all_go(self) -> None:
        for run in list(self.runs):
            run.let_go()
            self.forget()

    def kill_all(self) -> None:
        for run in self.runs:
            for process in [*run.jobs(), *([] if run.ended else [run.process])]:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            run.process.wait()
        self.runs = []

    def judge(self, clone: Clone) -> list[str]:
        """A plain rerun gives the right table, or says what to do; doing that gives it.

        Returns:
            What had to be done.
        """
        done: list[str] = []
        while True:
            told = clone.run(*clone.command())
            if told.returncode == 0:
                if clone.table.read_bytes() == clone.clean_table():
                    return done
                if clone.results.resolve() not in self.damaged:
                    raise Broken(f"a wrong table, status 0, after {done}:\n{told.stdout[-3000:]}")
                self.mend(clone, "a wrong table")
                done.append("verify")
            else:
                done.append(self.follow(clone, told.stdout))
            if len(done) > 8:
                raise Broken(f"what it says does not help: {done}\n{told.stdout[-6000:]}")

    def follow(self, clone: Clone, said: str) -> str:
        """Do what an error says."""
        if "Traceback" in said:
            raise Broken(f"a traceback:\n{said[-6000:]}")
        name = next((name for name, words in REMEDIES.items() if re.search(words, said)), None)
        if name is None:
            raise Broken(f"an error that does not say what to do:\n{said[-6000:]}")
        if name == "unlock":
            if any(not run.ended and run.clone.folder == clone.folder for run in self.runs):
                self.let_all_go()  # only whoever is sure that no other is running may unlock
                return "wait"
            unlocked = clone.run("snakemake", "--unlock", "--cores", "1", "--configfile", CONFIG)
            if unlocked.returncode != 0:
                raise Broken(f"it cannot be unlocked:\n{unlocked.stdout[-3000:]}")
        elif name == "verify":
            self.mend(clone, said)
        elif name == "wait":
            self.let_all_go()
        return name

    def mend(self, clone: Clone, said: str) -> None:
        """Run ``vista verify`` and the command that it prints."""
        verified = clone.run("vista", "verify", "--configfile", CONFIG)
        lines = [line for line in verified.stdout.splitlines() if line.startswith("  snakemake ")]
        if verified.returncode != 2 or len(lines) != 1:
            raise Broken(f"{said[-3000:]}\nbut vista verify says:\n{verified.stdout[-3000:]}")
        clone.run(*shlex.split(lines[0]))
        # What it says will be seen in the next plain rerun.
