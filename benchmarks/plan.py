"""CPU seconds and memory that ``snakemake -n`` takes for more and more jobs, beside Snakemake alone.

Run: ``python benchmarks/plan.py`` in the checkout, or with ``--config`` for one suite of yours.

The grids have every method of the full testbed on more and more models, train sets and seeds. Snakemake alone
plans *the same jobs and files* from a Snakefile whose rules say only what they read and write, and, for
scale, as many jobs in chains of six with one input and one output each. All three take turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("Snakefile", "models.yaml", "config", "workflow", "vista", "environment.yml", "profiles")
GRIDS = {500: (1, 1, 3), 2000: (2, 2, 3), 8000: (3, 3, 5), 20000: (4, 4, 7)}  # models, train sets, seeds
TARGET = "results/{name}/tables/main.csv"
# Writes what every job of a dry run reads and makes, by rule.
GRAPH = """
import json, sys
from snakemake import cli
from snakemake.workflow import Workflow
plan = Workflow.execute
def execute(workflow, *arguments, **options):
    plan(workflow, *arguments, **options)
    jobs = [[job.rule.name, dict(job.wildcards_dict), list(map(str, job.input)), list(map(str, job.output))]
            for job in workflow.dag.jobs]
    with open("jobs.json", "w") as file:
        json.dump(jobs, file)
Workflow.execute = execute
cli.main(sys.argv[1:])
"""
CHAIN = "rule step{n}:\n    input: {read!r}\n    output: 'step{n}/{{i}}'\n    shell: 'touch {{output}}'\n"
RULE = (
    "rule {name}:\n    input: lambda w: READ[{first!r}.format(**w)]\n    output: {made}\n"
    "    wildcard_constraints: run='[^/]+(/[^/]+){{4}}', name='[^/]+', task='[^/]+', model='[^/]+'\n"
    "    shell: 'touch {{output}}'\n"
)
STEPS = 6


def grid(models: int, train_sets: int, seeds: int) -> str:
    """The config of every method on so many models, train sets and seeds."""
    suite = yaml.safe_load((ROOT / "config/testbed-full.yaml").read_text(encoding="utf-8"))
    tasks = next(iter(suite["train_sets"].values()))
    model = {"kind": "built", "architecture": "qwen2.5-vl", "corpus": "printed"}
    del suite["only"], suite["sweeps"]
    suite |= {
        "name": "grown",
        "results": "results/grown",
        "models": [{f"model{number}": model} for number in range(models)],
        "train_sets": {f"set{number}": tasks for number in range(train_sets)},
        "seeds": list(range(seeds)),
    }
    return yaml.safe_dump(suite, sort_keys=False)


def cost(folder: Path, words: Sequence[str]) -> tuple[float, int, str]:
    """CPU seconds and peak MB of a command, and what it printed."""
    with (folder / "said").open("w+") as said:
        started = subprocess.Popen(words, cwd=folder, stdout=said, stderr=subprocess.STDOUT)  # noqa: S603
        _, status, used = os.wait4(started.pid, 0)
        said.seek(0)
        text = said.read()
    if status:
        sys.exit(text[-3000:])
    return used.ru_utime + used.ru_stime, used.ru_maxrss // 1024, text


def dry_run(folder: Path, *words: str) -> tuple[float, int, str]:
    """The same of a dry run."""
    return cost(folder, [sys.executable, "-m", "snakemake", "-n", "--cores", "1", *words])


def ours(folder: Path) -> None:
    """A checkout without results, so that everything is planned."""
    folder.mkdir()
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)


def same_files(folder: Path, jobs: list[tuple[str, dict[str, str], list[str], list[str]]]) -> None:
    """A Snakefile of trivial rules that make the same files from each other."""
    folder.mkdir()
    made = {file for *_, outputs in jobs for file in outputs}
    read = {outputs[0]: [file for file in inputs if file in made] for _, _, inputs, outputs in jobs}
    (folder / "read.json").write_text(json.dumps(read), encoding="utf-8")
    rules = {name: (wildcards, outputs) for name, wildcards, _, outputs in jobs}
    text = "import json\nREAD = json.load(open('read.json'))\n"
    for name, (wildcards, outputs) in rules.items():
        patterns = [pattern(file, wildcards) for file in outputs]
        text += RULE.format(name=name, first=patterns[0], made=", ".join(map(repr, patterns)))
    (folder / "Snakefile").write_text(text, encoding="utf-8")


def pattern(file: str, wildcards: dict[str, str]) -> str:
    """A job's output as its rule declares it."""
    for name, value in wildcards.items():
        file = re.sub(rf"(?<=/){re.escape(value)}(?=[/.-])", f"{{{name}}}", file, count=1)
    return file


def chains(folder: Path, jobs: int) -> None:
    """A Snakefile of as many jobs in chains."""
    folder.mkdir()
    text = f"rule all:\n    input: expand('step{STEPS - 1}/{{i}}', i=range({jobs // STEPS}))\n"
    for number in range(STEPS):
        text += CHAIN.format(n=number, read=[f"step{number - 1}/{{i}}"] if number else [])
    (folder / "Snakefile").write_text(text, encoding="utf-8")


def compare(folder: Path, config: str, target: str, turns: int) -> dict[str, tuple[float, int]]:
    """Plan one suite in every way; print and return the medians."""
    ours(folder / "ours")
    words = ["--configfile", config, "--", target]
    cost(folder / "ours", [sys.executable, "-c", GRAPH, "-n", "--cores", "1", *words])
    jobs = json.loads((folder / "ours/jobs.json").read_text(encoding="utf-8"))
    same_files(folder / "same", jobs)
    chains(folder / "chains", len(jobs))
    found: dict[str, list[tuple[float, int]]] = {"ours": [], "same files": [], "chains": []}
    for _ in range(turns):
        found["ours"].append(dry_run(folder / "ours", *words)[:2])
        found["same files"].append(dry_run(folder / "same", "--", target)[:2])
        found["chains"].append(dry_run(folder / "chains")[:2])
    each = {
        name: (statistics.median(one for one, _ in turns_), max(most for _, most in turns_))
        for name, turns_ in found.items()
    }
    cells = [f"{name} {seconds:6.2f} s {most:5} MB" for name, (seconds, most) in each.items()]
    mine = each["ours"][0]
    ratios = [f"{mine / each[name][0]:.2f} × {name}" for name in ("same files", "chains")]
    print(f"{len(jobs):6} jobs: {' | '.join(cells)} | {', '.join(ratios)}", flush=True)
    return {**each, "jobs": (len(jobs), 0)}


def main() -> None:
    """Plan every grid, or one suite."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", help="a suite, in place of the grids (config/paper.yaml)")
    parser.add_argument("--target", help="what to plan; default: the main table")
    parser.add_argument("--sizes", type=int, nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--turns", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.config:
            said = yaml.safe_load(Path(options.config).read_text(encoding="utf-8"))
            target = options.target or f"{said.get('results', 'results')}/tables/main.csv"
            (Path(name) / "one").mkdir()
            compare(Path(name) / "one", str(Path(options.config).resolve()), target, options.turns)
            return
        sizes = []
        for size in options.sizes:
            folder = Path(name) / str(size)
            folder.mkdir()
            (folder / "suite.yaml").write_text(grid(*GRIDS[size]), encoding="utf-8")
            target = options.target or TARGET.format(name="grown")
            sizes.append(compare(folder, str(folder / "suite.yaml"), target, options.turns))
    # What the start costs, before any job, would hide how the rest grows.
    for one, other in itertools.pairwise(sizes):
        more = other["jobs"][0] / one["jobs"][0]
        grown = {name: other[name][0] / one[name][0] for name in ("ours", "same files", "chains")}
        said = ", ".join(f"{name} {math.log(ratio) / math.log(more):.2f}" for name, ratio in grown.items())
        print(f"{one['jobs'][0]} to {other['jobs'][0]} jobs: exponents {said}")


if __name__ == "__main__":
    main()
