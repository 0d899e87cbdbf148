"""From a published benchmark to the queries of one split: stage ``tasks``, ``vista tasks``.

The test split is the published test split. Seed and train share the published train split: the
seed split is drawn from it, the train split is the rest, so no question is in both. A published
validation split is not used.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vista.config import BenchmarkTask
from vista.errors import VistaError
from vista.records import Row, Split
from vista.tasks.benchmarks.chartqa import ChartQa
from vista.tasks.benchmarks.geometry3k import Geometry3k, Geometry3kChoice
from vista.tasks.benchmarks.items import Benchmark
from vista.tasks.benchmarks.prompts import SYSTEM, instruction
from vista.tasks.benchmarks.reading import Question, read_split
from vista.tasks.benchmarks.scienceqa import ScienceQa
from vista.tasks.benchmarks.slake import Slake
from vista.tasks.benchmarks.sources import matches, root_of
from vista.tasks.benchmarks.vqa_rad import VqaRad

BENCHMARKS: dict[str, Benchmark] = {
    adapter.name: adapter
    for adapter in (Slake(), VqaRad(), Geometry3k(), Geometry3kChoice(), ScienceQa(), ChartQa())
}


@dataclass(frozen=True)
class Prepared:
    """The queries of a split, what the manifest counts, and the files that were read."""

    rows: list[Row]
    counts: dict[str, float]
    files: list[Path]


def prepare_split(name: str, task: BenchmarkTask, split: Split) -> Prepared:
    """The queries of one split of a benchmark (``records.QUERY``), in published order.

    Args:
        name: The task's name in the suite.
        task: Its entry.
        split: ``seed``, ``train`` or ``test``.

    Raises:
        VistaError: files, columns or rows are missing or wrong, or fewer queries are published
            than the sizes ask for.
    """
    benchmark = BENCHMARKS[task.kind]
    patterns = benchmark.patterns("test")
    if split != "test":
        patterns = [*benchmark.patterns("train"), *patterns]
    root = root_of(name, task, patterns)
    reading = read_split(benchmark, root, "test" if split == "test" else "train", task.questions)
    counts: dict[str, float] = {
        "published": len(reading.questions),
        "unanswered": reading.unanswered,
        "other": reading.other,
        "repeated": repeats(reading.questions),
    }
    pool = reading.questions
    if split != "test":
        tested = read_split(benchmark, root, "test", task.questions, keep_images=False).questions
        counts |= overlap(pool, tested)
        pool = without_duplicates(pool, tested) if task.duplicates == "remove" else pool
        counts["removed"] = len(reading.questions) - len(pool)
    chosen = choose(name, task, split, pool)
    counts |= {"queries": len(chosen), "images": len({question.image_id for question in chosen})}
    files = [path for globs in patterns for path in matches(root, globs)]
    # Loose images and one file per problem are no inputs: there are too many, and the queries hold them.
    tables = dict.fromkeys(path for path in files if len(path.relative_to(root).parts) < 3)
    return Prepared([query(name, split, question) for question in chosen], counts, list(tables))


def repeats(questions: Sequence[Question]) -> int:
    """Questions that another one before them already asked about the same picture."""
    return len(questions) - len(Counter(question.fingerprint for question in questions))


def overlap(train: Sequence[Question], test: Sequence[Question]) -> dict[str, float]:
    """How many train questions stand in the test split too, and how many share just a picture."""
    asked = {question.fingerprint for question in test}
    shown = {question.image_id for question in test}
    return {
        "duplicates": sum(question.fingerprint in asked for question in train),
        "shared_images": sum(question.image_id in shown for question in train),
    }


def without_duplicates(train: Sequence[Question], test: Sequence[Question]) -> list[Question]:
    """The train questions that the test split does not ask about the same picture."""
    asked = {question.fingerprint for question in test}
    return [question for question in train if question.fingerprint not in asked]


def choose(name: str, task: BenchmarkTask, split: Split, pool: Sequence[Question]) -> list[Question]:
    """The questions of one of our splits, from those of its published split.

    All are put in one random order, which ``task.seed`` decides and in which the place of a
    question depends on no other one. The first ``sizes.seed`` are the seed split, those after
    them the train split.

    Raises:
        VistaError: there are fewer than the sizes ask for.
    """
    sizes = task.sizes
    order = sorted(range(len(pool)), key=lambda index: _rank(task, split, pool[index]))
    skipped = sizes.seed if split == "train" else 0
    size = getattr(sizes, split)
    if size is None:
        size = len(pool) - skipped
    if size <= 0 or skipped + size > len(pool):
        asked = f"{sizes.seed} (seed) + {sizes.train} (train)" if skipped else size
        raise VistaError(
            f"task {name!r}: sizes.{split} asks for {asked}, but there are {len(pool)} queries to take "
            "them from; lower the sizes"
        )
    return [pool[index] for index in sorted(order[skipped : skipped + size])]


def _rank(task: BenchmarkTask, split: Split, question: Question) -> bytes:
    published = "test" if split == "test" else "train"
    return hashlib.sha256(f"{task.seed}/{task.kind}/{published}/{question.item.key}".encode()).digest()


def query(name: str, split: Split, question: Question) -> Row:
    """The row of a question. Its id names the published row, so it stays if sizes or seed change."""
    item = question.item
    published = "test" if split == "test" else "train"
    return {
        "query_id": f"{name}-{published}-{item.key}",
        "task": name,
        "split": split,
        "images": [{"bytes": image, "path": None} for image in item.images],
        "system": SYSTEM,
        "instruction": instruction(item.question, item.answer_type, item.choices),
        "answer": item.answer.strip(),
        "answer_type": item.answer_type,
        "choices": item.choices,
        "rationale": None,
        "cluster_id": question.image_id,
        "scene": None,
    }
