"""CPU seconds and peak memory of every stage against samples, train queries, methods and models.

Run: ``python benchmarks/growth.py`` in the checkout. It writes a CSV and a figure to ``results/growth``, and
prints a line for each stage.

Sizes grow by a factor. The exponent p of cost = a + b·size^p is that of the differences between three
sizes, so what a start costs does not hide it. Stages from ``tasks`` to ``evaluate`` really run, on a tiny
model; the analysis reads predictions that are made up. Each measurement is a process of its own, forked from
one that has imported everything.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from vista import grid, stages
from vista.config import Suite, load_suite
from vista.damage import sha256
from vista.figures.drawing import draw as draw_figure
from vista.manifest import Manifest, Recorder
from vista.paths import Paths, manifest_of
from vista.records import PREDICTION, QUERY, write_json, write_rows, write_text

ROOT = Path(__file__).resolve().parents[1]
NEEDED = [
    *("rollouts.sample", "rollouts.resample", "rollouts.score", "curation.curate", "training.train"),
    *("evaluation.evaluate", "tasks.generate", "models.build", "analysis.tables", "analysis.ablation"),
    *("analysis.collect", "analysis.difficulty", "training.fit", "training.trainers"),
]
LIMIT = 1.1  # an exponent above which a stage grows worse than linearly
SLIGHT = 0.2, 16.0  # seconds and MB between the largest sizes that say nothing about growth
SAMPLES, QUERIES, METHODS, MODELS = (4, 16, 64), (16, 64, 256), (4, 16, 64), (2, 8, 32)
ASKED = 100  # test queries of each task of made-up predictions

Work = Callable[[], object]
Point = tuple[str, str, int]  # stage, what grows, size


def measured(work: Work) -> tuple[float, float]:
    """CPU seconds and peak MB of a function in a process of its own."""
    sys.stdout.flush()
    if not (child := os.fork()):
        status = 1
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                work()
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit("a stage failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def resolved(folder: Path, **changes: Any) -> tuple[Suite, Path]:
    """The smoke suite with changes, and the file of it that stages read."""
    value = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8"))
    value |= {"results": str(folder / "results"), "methods": ["sft-seed", "vista-sft"], **changes}
    suite = load_suite(ROOT / "config/smoke.yaml", value=value, root=ROOT)
    file = suite.results / "suite.json"
    write_text(file, suite.model_dump_json())
    return suite, file


def pipeline(suite: Suite, file: Path) -> Iterator[tuple[str, Work]]:
    """Every job of a run of VISTA-SFT, in order, with what each stage is called."""
    (train_set,), (model,) = suite.train_sets, suite.models
    seed_run = grid.Run(model, train_set, "sft-seed", suite.seeds[0], 0)
    run = grid.Run(model, train_set, "vista-sft", suite.seeds[0], 1)
    names = grid.rollout_files(grid.self_improvement(suite, run))
    for task, splits in {
        **dict.fromkeys(suite.train_sets[train_set], ("seed", "train", "test")),
        **dict.fromkeys(suite.out_of_domain, ("test",)),
    }.items():
        for split in splits:
            yield "tasks", partial(stages.tasks, file, task, split)
    yield "", lambda: stages.tasks(file, "printed", "train")
    yield "", lambda: stages.models(file, model)
    yield "", lambda: stages.curate(file, seed_run.id)
    yield "", lambda: stages.train(file, seed_run.id)
    yield "sample", lambda: stages.sample(file, seed_run.id, names.samples, 0)
    yield "resample", lambda: stages.resample(file, seed_run.id, str(names.resamples), 0)
    yield "score", lambda: stages.score(file, seed_run.id, str(names.scores), 0)
    yield "curate", lambda: stages.curate(file, run.id)
    yield "train", lambda: stages.train(file, run.id)
    yield "evaluate", lambda: stages.evaluate(file, run.id)


def run_pipeline(axis: str, sizes: tuple[int, ...], folder: Path) -> Iterator[tuple[Point, float, float]]:
    """The stages of the smoke suite, with more samples of each query or more queries."""
    for number, size in enumerate(sizes):
        smoke = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8"))
        k, queries = (size, 24) if axis == "samples" else (4, size)
        for name in ("grid-closed", "grid-chain"):
            smoke["tasks"][name]["sizes"] = {"seed": 24, "train": queries, "test": queries}
        defaults = smoke["method_defaults"] | {"rollouts": {"k": k, "max_new_tokens": 80}, "max_per_query": k}
        suite, file = resolved(
            folder,
            tasks=smoke["tasks"],
            method_defaults=defaults,
            method_overrides={"vista-sft": {"rounds": 1}},
        )
        cost: dict[str, list[float]] = {}
        for stage, work in pipeline(suite, file):
            if not stage and number:
                continue  # of the first size, which does not grow
            seconds, most = measured(work)
            known = cost.setdefault(stage, [0.0, 0.0])
            known[0], known[1] = known[0] + seconds, max(known[1], most)
        for stage, (seconds, most) in cost.items():
            if stage:
                yield (stage, axis, size), seconds, most


def made_up(folder: Path, methods: int, models: int) -> tuple[Suite, Path]:
    """A suite of one round with predictions that are made up, and the file that stages read."""
    step, sizes = {"epochs": 1}, {"seed": 1, "train": 1, "test": ASKED}
    tasks = ("one", "two", "far")
    # Two by two they differ in one thing, so that the ablation has a row for each method, not for each pair.
    improve = [
        {
            "kind": "self-improvement",
            "rollouts": {"k": 1 + n // 2},
            "max_per_query": 1 + n // 2,
            "dedupe": n % 2 == 1,
        }
        for n in range(methods - 1)
    ]
    suite = Suite.model_validate(
        {
            "name": "grown",
            "results": folder / f"{methods}-{models}",
            "train_sets": {"both": tasks[:2]},
            "out_of_domain": tasks[2:],
            "tasks": {name: {"kind": "grid", "questions": ["closed"], "sizes": sizes} for name in tasks},
            "models": {f"model{n}": {"kind": "path", "path": f"/models/{n}"} for n in range(models)},
            "methods": {"sft-seed": {"kind": "seed"}}
            | {f"method{n}": each for n, each in enumerate(improve)},
            "training": {"seed": step, "sft": step, "dpo": step},
            "seeds": [0, 1],
        }
    )
    paths, template = Paths(suite.results), Recorder("any", {}, []).build(Path(__file__), {})
    for task in tasks:
        rows = [dict.fromkeys(QUERY.names) | query(task, number) for number in range(ASKED)]
        write_rows(paths.queries(task, "test"), rows, QUERY)
    for number, run in enumerate(grid.runs(suite)):
        said = {"run": run.id, "response": "", "answer": "7", "finished": True}
        rows = [
            query(task, each) | said | {"score": float((each * 7 + number) % 3 == 0)}
            for task in tasks
            for each in range(ASKED)
        ]
        write_rows(paths.predictions(run.id), rows, PREDICTION)
        note(paths.predictions(run.id), template, "evaluation", {"tokens": 10.0})
        note(paths.training_set(run.id), template, "curation", {"examples": 10.0})
        note(paths.trained(run.id), template, "training", {"tokens": 10.0})
        if run.method != "sft-seed":
            samples = grid.rollout_files(grid.self_improvement(suite, run)).samples
            policy = grid.policy(suite, run).id
            counts = {"solutions": 10.0, "positives": 5.0, "tokens": 100.0}
            note(paths.rollouts(policy, "samples", samples, 0, suite.shards), template, "rollouts", counts)
    file = suite.results / "suite.json"
    write_text(file, suite.model_dump_json())
    return suite, file


def query(task: str, number: int) -> dict[str, str]:
    """What says which test query a row is about."""
    return {"query_id": f"{task}-{number}", "task": task, "cluster_id": f"{task}-image-{number // 2}"}


def note(output: Path, template: Manifest, stage: str, counts: dict[str, float]) -> None:
    """Write the manifest of an output, which need not be there."""
    sums = {output.name: sha256(output)} if output.is_file() else {}
    changes = {"output": output.name, "stage": stage, "counts": counts, "checksums": sums}
    write_json(manifest_of(output), template.model_copy(update=changes).model_dump())


def run_analysis(axis: str, sizes: tuple[int, ...], folder: Path) -> Iterator[tuple[Point, float, float]]:
    """What reads every run, with more methods or models."""
    for size in sizes:
        methods, models = (size, 2) if axis == "methods" else (4, size)
        suite, file = made_up(folder, methods, models)
        for stage in ("collect", "tables", "ablation"):
            yield (stage, axis, size), *measured(partial(getattr(stages, stage), file))
        table = Paths(suite.results).table("main", "csv")
        yield ("figures", axis, size), *measured(partial(drawn, table))


def drawn(table: Path) -> None:
    """Draw one figure of a table with a row for each run."""
    module = importlib.import_module("vista.figures.rounds")
    sys.argv = ["rounds", str(table), "--to", str(table.with_name("rounds"))]
    draw_figure(module.rounds)


def exponent(costs: list[tuple[int, float]], slight: float) -> float | None:
    """p of cost = a + b·size^p, of three sizes with one factor between them; none if cost hardly grows."""
    (first, low), (second, middle), (_, high) = costs
    if high - middle < slight or middle <= low:
        return None
    return math.log((high - middle) / (middle - low)) / math.log(second / first)


def report(found: dict[Point, list[tuple[float, float]]], out: Path) -> list[str]:
    """Write the CSV and the figure; a line about each stage and what grows."""
    rows: dict[tuple[str, str], list[tuple[int, float, float]]] = defaultdict(list)
    text = "stage,grows,size,cpu_seconds,peak_mb\n"
    for (stage, axis, size), turns in found.items():
        seconds, most = (statistics.median(each) for each in zip(*turns, strict=True))
        rows[stage, axis].append((size, seconds, most))
        text += f"{stage},{axis},{size},{seconds:.3f},{most:.1f}\n"
    write_text(out / "growth.csv", text)
    draw(rows, out)
    said = []
    for (stage, axis), costs in rows.items():
        line, worse = f"{stage:9} {axis:8}", ""
        for name, column, unit, slight in (("time", 1, "s", SLIGHT[0]), ("memory", 2, "MB", SLIGHT[1])):
            p = exponent([(cost[0], cost[column]) for cost in costs], slight)
            line += f" {name} {' '.join(f'{cost[column]:8.2f}' for cost in costs)} {unit:2}"
            line += f" p={p:4.2f}" if p is not None else " flat  "
            worse += f" {name} GROWS FASTER" if p is not None and p > LIMIT else ""
        said.append(line + worse)
    return said


def draw(rows: dict[tuple[str, str], list[tuple[int, float, float]]], out: Path) -> None:
    """A panel of time and one of memory for each thing that grows, beside what is linear."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    axes_names = list(dict.fromkeys(axis for _, axis in rows))
    figure, panels = plt.subplots(2, len(axes_names), figsize=(3.2 * len(axes_names), 6), squeeze=False)
    for (row, what), (column, axis) in itertools.product(
        enumerate(("CPU seconds", "peak memory, MB")), enumerate(axes_names)
    ):
        panel = panels[row][column]
        for (stage, grows), costs in rows.items():
            if grows == axis:
                panel.plot([each[0] for each in costs], [each[1 + row] for each in costs], "o-", label=stage)
        panel.set(xscale="log", yscale="log", xlabel=axis, ylabel=what)
        panel.legend(fontsize=6)
    figure.tight_layout()
    for suffix in ("png", "pdf"):
        figure.savefig(out / f"growth.{suffix}")


def main() -> None:
    """Measure, fit, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results/growth"), help="folder of the CSV and the figure"
    )
    parser.add_argument(
        "--turns", type=int, default=1, help="measurements of each point, whose median counts"
    )
    parser.add_argument("--only", choices=("samples", "queries", "methods", "models"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in NEEDED:
        importlib.import_module(f"vista.{name}")
    found: dict[Point, list[tuple[float, float]]] = defaultdict(list)
    kinds = {"samples": SAMPLES, "queries": QUERIES, "methods": METHODS, "models": MODELS}
    for turn, (axis, sizes) in itertools.product(range(options.turns), kinds.items()):
        if options.only not in (None, axis):
            continue
        run = run_pipeline if axis in ("samples", "queries") else run_analysis
        with tempfile.TemporaryDirectory() as folder:
            for point, seconds, most in run(axis, sizes, Path(folder)):
                found[point].append((seconds, most))
                print(f"turn {turn + 1}: {point[0]} {axis}={point[2]}: {seconds:.2f} s", flush=True)
    print("\n".join(report(found, options.out)))


if __name__ == "__main__":
    main()
