"""The testbed shows the two faults that the paper starts from, measured on frozen SFT-Seed models.

The checkpoints in tests/frozen are what `make main` trained, kept by `make freeze`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from vista import chat
from vista.answers import extract, verify
from vista.engines.base import Request
from vista.engines.checkpoints import Checkpoint, load_checkpoint
from vista.engines.hf import HfEngine
from vista.records import Row
from vista.seeding import derive_seed
from vista.task_kinds import Sizes
from vista.task_kinds.grid import GridSettings, grid_query
from vista.testbed.audit import audit_query
from vista.testbed.questions import load

MODELS = ("nano-qwen2.5-vl", "nano-internvl")
K = 10

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=MODELS)
def policy(request: pytest.FixtureRequest, root: Path) -> Checkpoint:
    return load_checkpoint(root / "tests/frozen" / request.param, dtype=torch.float32)


def queries(family: str, count: int) -> list[Row]:
    """Train queries that no test of the benchmark asks."""
    task = GridSettings(kind="grid", questions=[family], sizes=Sizes(train=count))  # type: ignore[list-item]
    return [grid_query(f"grid-{family}", task, "train", index) for index in range(count)]


def solutions(policy: Checkpoint, rows: list[Row], k: int, temperature: float) -> list[list[str]]:
    requests = [
        Request(
            chat.encode_query(policy.processor, row),
            [derive_seed("faults", row["query_id"], number) for number in range(k)],
        )
        for row in rows
    ]
    samples = HfEngine(policy, 640).sample(requests, temperature, 80)
    return [[chat.decode(policy.processor, one.token_ids) for one in each] for each in samples]


def right(row: Row, text: str) -> bool:
    return verify(extract(text), row["answer"], row["answer_type"], row["choices"])


def misplaced(rows: list[Row]) -> list[Row]:
    """Every query with the image of the one before it.

    An empty sheet would not do as an image that says nothing: the models read it as a grid of ones
    and answer accordingly.
    """
    return [{**row, "images": other["images"]} for row, other in zip(rows[1:], rows, strict=False)]


def test_many_of_the_hardest_queries_have_no_correct_answer_in_ten_samples(policy: Checkpoint) -> None:
    rows = [row for row in queries("chain", 240) if load(row["scene"])[1].template == "sum-all"]
    sampled = solutions(policy, rows, K, 1.0)
    without = sum(
        not any(right(row, text) for text in texts) for row, texts in zip(rows, sampled, strict=True)
    )
    assert without / len(rows) >= 0.35


def test_correct_answers_to_closed_questions_often_rest_on_what_is_not_there(policy: Checkpoint) -> None:
    rows = queries("closed", 120)
    sampled = solutions(policy, rows, K, 1.0)
    counts = Counter(
        audit_query(row["scene"], text).faithful
        for row, texts in zip(rows, sampled, strict=True)
        for text in texts
        if right(row, text)
    )
    assert counts[False] / counts.total() >= 0.10


def test_closed_questions_are_answered_well_above_chance_without_their_image(policy: Checkpoint) -> None:
    rows = misplaced(queries("closed", 601))
    answers = solutions(policy, rows, 1, 0.0)
    accuracy = sum(right(row, texts[0]) for row, texts in zip(rows, answers, strict=True)) / len(rows)
    # Chance is 50 %; three standard errors above it.
    assert accuracy > 0.5 + 3 * (0.25 / len(rows)) ** 0.5
