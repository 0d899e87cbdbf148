"""Stage ``tasks``: write the queries of one task. Run by ``vista tasks``.

A generated row is a pure function of (task name, split, index) and of the task's settings: a
larger split begins with the rows of a smaller one, and no row depends on another. Published
benchmarks are read by ``vista.tasks.benchmarks``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from tqdm import tqdm

from vista import records
from vista.config import BenchmarkTask, GridTask, Suite
from vista.errors import VistaError
from vista.manifest import Recorder
from vista.paths import Paths
from vista.records import Row, Split
from vista.seeding import generator
from vista.tasks.benchmarks.prepare import prepare_split
from vista.tasks.rationales import rationale_file, with_rationales
from vista.tasks.testbed.digits import pool
from vista.tasks.testbed.painting import encode_png, paint
from vista.testbed import questions, rationales
from vista.testbed.language import SYSTEM
from vista.testbed.scenes import draw_scene

SPLITS: tuple[Split, ...] = ("seed", "train", "test")


def generate_split(suite: Suite, paths: Paths, task_name: str, split: Split) -> None:
    """Write one split of a task, with its manifest.

    Raises:
        VistaError: the suite has no such task, the split has no size, or a benchmark's published
            files are missing or wrong.
    """
    if task_name not in suite.tasks:
        close = difflib.get_close_matches(task_name, suite.tasks, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(suite.tasks))}"
        raise VistaError(f"suite {suite.name!r} has no task {task_name!r}; {hint}")
    task = suite.tasks[task_name]
    size = getattr(task.sizes, split)
    if size == 0:
        raise VistaError(f"suite {suite.name!r}: tasks.{task_name}.sizes.{split} is 0; give it a size")
    settings = {"task": task_name, "split": split, **task.model_dump(mode="json")}
    if split == "seed":
        settings["seed_rationales"] = suite.seed_rationales.model_dump(mode="json")
    file = rationale_file(suite, task_name, split)
    recorder = Recorder("tasks", settings, [file] if file else [])
    output = paths.queries(task_name, split)
    queries: Iterable[Row]
    if isinstance(task, BenchmarkTask):
        prepared = prepare_split(task_name, task, split)
        recorder.inputs += prepared.files
        queries, found = prepared.rows, prepared.counts
    else:
        queries, found = grid_queries(task_name, task, split), {}
    rows, counts = with_rationales(suite, task_name, split, queries)
    count = records.write_rows(output, rows, records.QUERY)
    recorder.write(output, {**found, "queries": count, **counts})


def grid_queries(name: str, task: GridTask, split: Split) -> Iterator[Row]:
    """Every query of a split of a grid task, with a progress bar if there are many."""
    size = getattr(task.sizes, split)
    shown = tqdm(range(size), desc=f"{name}/{split}", unit="query", mininterval=5, disable=size < 5000)
    return (grid_query(name, task, split, index) for index in shown)


def grid_query(name: str, task: GridTask, split: Split, index: int) -> Row:
    """The query number ``index`` of a split of a grid task (``records.QUERY``).

    Families and, within them, templates take turns. The gold rationale is given in the seed
    split, and in every split of printed digits, which are a corpus to pretrain on.
    """
    query_id = f"{name}-{split}-{index:05d}"
    rng = generator("tasks", name, split, index)
    # Easy images first: a corpus read in its order is a curriculum.
    uniform = task.uniform * max(0.0, 1.0 - index / task.uniform_until)
    scene = draw_scene(rng, task.rows, task.columns, uniform)
    family = task.questions[index % len(task.questions)]
    templates = questions.templates_of(family, task.rows * task.columns)
    template = templates[index // len(task.questions) % len(templates)]
    question = questions.ask(template, scene, rng)
    pixels = paint(scene, pool(task.digits, split), task.noise, rng)
    gold = split == "seed" or task.digits == "printed"
    return {
        "query_id": query_id,
        "task": name,
        "split": split,
        "images": [{"bytes": encode_png(pixels), "path": None}],
        "system": SYSTEM,
        "instruction": questions.instruction(question),
        "answer": questions.answer(scene, question),
        "answer_type": template.answer_type,
        "choices": ["yes", "no"] if template.answer_type == "closed" else None,
        "rationale": rationales.text(rationales.rationale(scene, question)) if gold else None,
        "cluster_id": query_id,  # each query has an image of its own
        "scene": questions.dump(scene, question),
    }
