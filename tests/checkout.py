"""A copy of the project in which a suite can be run for real, and spoilt."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vista import verify
from vista.config import Suite, load_resolved
from vista.manifest import read_manifest

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
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, folder / name)
        return cls(folder)

    def copy(self, folder: Path) -> Checkout:
        """A copy below ``folder``, times kept, results included."""
        shutil.copytree(self.folder, folder / "copy", symlinks=True)
        return Checkout(folder / "copy")

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

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end and return what it said."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

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
        """Remove outputs with all that was made from them."""
        suite = self.suite()
        inputs = {
            str(output.relative_to(self.results)): list(read_manifest(output).inputs)
            for output in verify.find_outputs(self.results)
        }
        assert set(outputs) <= set(inputs)
        follow = verify.made_from(outputs, inputs, verify.jobs_of(suite))
        report = verify.Report(damaged={name: [] for name in outputs}, follow=sorted(follow - set(outputs)))
        return verify.remove(suite, report)

    def vista(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the command line."""
        return subprocess.run(
            ["vista", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
