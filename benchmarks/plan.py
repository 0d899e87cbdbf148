"""Seconds that Snakemake takes to plan the paper's grid, and what the plan holds.

Run: ``python benchmarks/plan.py`` in the checkout. A plan must stay under ten seconds on two cores;
CPU time is the steadier figure where the machine is shared.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("Snakefile", "models.yaml", "config", "workflow", "vista", "environment.yml", "profiles")


def plan(folder: Path, config: str, target: str) -> tuple[float, float, str]:
    command = [sys.executable, "-m", "snakemake", "-n", "--configfile", config, "--", target]
    before, wall = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - own words
    after = os.times()
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    jobs = re.findall(r"^total +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return time.perf_counter() - wall, cpu, jobs[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="config/paper.yaml")
    parser.add_argument("--target", default="results/paper/tables/main.csv")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:  # without results, so that everything is planned
        for name in LINKED:
            (Path(folder) / name).symlink_to(ROOT / name)
        for turn in range(options.turns):
            wall, cpu, jobs = plan(Path(folder), options.config, options.target)
            print(f"turn {turn + 1}: {jobs} jobs, {wall:6.2f} s wall, {cpu:6.2f} s CPU")


if __name__ == "__main__":
    main()
