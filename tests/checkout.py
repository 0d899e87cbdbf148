"""A copy of the project in which a suite can be run for real, and spoilt."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unittest.mock import patch

from vista import cli, verify
from vista.config import Suite, load_resolved
from vista.dag import Dag
from vista.manifest import SUFFIX, find_outputs, read_manifest
from vista.paths import TABLE_SUFFIXES, manifest_of

# A dry run that names every job, not only the first of each rule.
EVERY_JOB = ("--dry-run", "--quiet", "host")
COPIED = ("Snakefile", "environment.yml", "models.yaml", "config", "profiles", "vista", "workflow")


@dataclass(frozen=True)
class Checkout:
    """A copy of the project in a folder of its own, with its own results."""

    folder: Path

    @classmethod
    def make(cls, root: Path, folder: Path) -> Checkout:
        for name in COPIED:
            source = root / name
            if source.is_dir():
                # Compiled code goes along, but not what somebody is writing just now.
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("*.pyc.*", "*.part"))
            else:
                shutil.copy2(source, folder / name)
        return cls(folder)

    def copy(self, folder: Path, name: str = "copy") -> Checkout:
        """A copy below ``folder``, times kept, results included."""
        shutil.copytree(self.folder, folder / name, symlinks=True)
        return Checkout(folder / name)

    @property
    def results(self) -> Path:
        return self.folder / "results/smoke"

    @property
    def main_csv(self) -> Path:
        return self.results / "tables/main.csv"

    @property
    def environment(self) -> dict[str, str]:
        # The copy's package, and the commands of the environment that the tests run in.
        return {
            **os.environ,
            "PYTHONPATH": ":".join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def command(self, *arguments: str) -> list[str]:
        return [
            *("snakemake", "--cores", "2"),
            *(arguments or ("results/smoke/tables/main.csv", "results/smoke/tables/cost.csv")),
            *("--configfile", "config/smoke.yaml"),
        ]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end and return what it said."""
        return subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on the suite."""
        return self.run(*self.command(*arguments))

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start Snakemake in a session of its own; what it says goes to ``log``."""
        with log.open("wb") as said:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def suite(self) -> Suite:
        """The resolved suite, with its results where they lie."""
        return load_resolved(self.results / "suite.json").model_copy(update={"results": self.results})

    def remove(self, *outputs: str) -> list[Path]:
        """Remove outputs with everything made from them, manifests first."""
        inputs = {
            str(output.relative_to(self.results)): list(read_manifest(output).inputs)
            for output in find_outputs(self.results, verify.FOLDERS)
        }
        assert set(outputs) <= set(inputs)
        follow = made_from(outputs, inputs, jobs_of(self.suite()))
        removed = []
        for name in [*outputs, *sorted(follow - set(outputs))]:
            output = self.results / name
            manifest_of(output).unlink(missing_ok=True)
            if output.name == "predictions.parquet":  # else its tasks would not be asked again
                shutil.rmtree(output.parent / ".tasks", ignore_errors=True)
            if output.is_dir() and not output.is_symlink():
                shutil.rmtree(output)
            else:
                output.unlink(missing_ok=True)
            removed.append(output)
        return removed

    def vista(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the command line here, in this process: with the code that was copied."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            patch.object(sys, "argv", ["vista", *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                cli.main()
                status = 0
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def jobs_of(suite: Suite) -> Callable[[str], list[str]]:
    """Tell, of an output, which outputs the same job makes: Snakemake makes all of them or none."""
    dag, results = Dag(suite), suite.results
    jobs = [dag.table_outputs("results"), dag.table_outputs("ablation"), dag.gallery()]
    known: dict[str, list[str]] = {}
    for files in jobs:
        names = [str(Path(file).relative_to(results)) for file in files if not file.endswith(SUFFIX)]
        known.update(dict.fromkeys(names, names))

    def together(output: str) -> list[str]:
        path = PurePosixPath(output)
        if output in known:
            return known[output]
        if path.parts[0] == "tables":
            return [str(path.with_suffix(f".{suffix}")) for suffix in TABLE_SUFFIXES]
        if path.parts[0] == "figures":
            return [str(path.with_suffix(suffix)) for suffix in (".pdf", ".png")]
        if path.parts[0] == "rollouts" and path.parts[-3] in {"critical", "resamples"}:
            kinds = ("critical", "resamples")
            return [str(path.parents[2].joinpath(kind, *path.parts[-2:])) for kind in kinds]
        return [output]

    return together


def made_from(
    names: Iterable[str], inputs: Mapping[str, list[str]], together: Callable[[str], list[str]]
) -> set[str]:
    """``names``, what the same jobs made, and all that was made from them, directly or not.

    Args:
        names: Outputs, relative to the results folder.
        inputs: Of every output, the paths that its manifest names as inputs, wherever the results
            folder lay when it was made.
        together: As from ``jobs_of``.
    """
    users: dict[str, list[str]] = {}
    for output, read in inputs.items():
        for path in read:
            users.setdefault(_output_named(path, inputs), []).append(output)
    found: set[str] = set()
    queue = list(names)
    while queue:
        for name in together(queue.pop()):
            if name not in found:
                found.add(name)
                queue += users.get(name, [])
    return found & {*inputs, *names}


def _output_named(path: str, outputs: Mapping[str, object]) -> str:
    """Which output an input's path names: the one with the longest of the path's tails as its name."""
    parts = PurePosixPath(path).parts
    tails = (str(PurePosixPath(*parts[start:])) for start in range(len(parts)))
    return next((tail for tail in tails if tail in outputs), path)
