"""A copy of the project in which a suite can be run for real, and spoilt."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
            "PYTHONPATH": str(self.folder),
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
