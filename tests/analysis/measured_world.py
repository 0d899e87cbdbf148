"""Hand-made rollouts of a few policies on one grid, whose every number can be worked out on paper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tests.analysis.conftest import make_suite
from vista.config import Suite
from vista.models.nano import build_tokenizer
from vista.paths import Paths
from vista.records import CRITICAL, GAINS, QUERY, ROLLOUT, SCORES, Row, write_rows
from vista.testbed.questions import Question, Scene, dump

SCENE = Scene(((3, 7, 1), (4, 0, 9), (8, 2, 5)), (("red",) * 3,) * 3)
# The gold rationale of "easy" is "row 1 : 3 7 1 . answer : no", of "hard" "row 1 : 3 7 1 . answer : 7".
QUESTIONS = {"easy": Question("has-digit", row=1, digit=5), "hard": Question("largest", row=1)}
ANSWERS = {"easy": "no", "hard": "7"}
GOLD = {task: f"row 1 : 3 7 1 . answer : {answer}" for task, answer in ANSWERS.items()}
MISREAD = {task: f"row 1 : 3 7 2 . answer : {answer}" for task, answer in ANSWERS.items()}
SAMPLES = "k2-t1-n2048"
PREFIX = f"{SAMPLES}+prefix-j3-top5-swapped"
BUDGET = f"{SAMPLES}+budget-of-prefix-j3-top5-swapped"


@cache
def tokenizer() -> Tokenizer:
    return build_tokenizer(["row", ":", ".", "answer", "yes", "no"], "qwen2.5-vl").backend_tokenizer


def measured_suite(results: Path, **changes: Any) -> Suite:
    """One model, one shard; VISTA for one round, and the control of its budget."""
    improve = {"kind": "self-improvement", "rollouts": {"k": 2}}
    vista = improve | {"resample": {"kind": "prefix"}, "filter": {"kind": "vas"}}
    methods = {
        "sft-seed": {"kind": "seed"},
        "rest-em": improve,
        "vista-sft": vista,
        "vista-dpo": vista | {"objective": {"kind": "dpo"}},
        "vista+tau=0": vista | {"filter": {"kind": "vas", "tau": 0.0}},
        "budget": improve | {"resample": {"kind": "budget-matched"}},
    }
    models = {"nano-b": {"kind": "path", "path": "/models/nano-b"}}
    return make_suite(results, **({"models": models, "methods": methods, "shards": 1} | changes))


class MeasuredWorld:
    """Writes what the analysis reads."""

    def __init__(self, suite: Suite, queries: int = 3) -> None:
        self.suite = suite
        self.paths = Paths(suite.results)
        for task, question in QUESTIONS.items():
            rows = [
                dict.fromkeys(QUERY.names)
                | {
                    "query_id": f"{task}-{i}",
                    "task": task,
                    "answer_type": "open",
                    "scene": dump(SCENE, question),
                }
                for i in range(queries)
            ]
            write_rows(self.paths.queries(task, "train"), rows, QUERY)
        base = self.paths.base("nano-b")
        base.mkdir(parents=True)
        tokenizer().save(str(base / "tokenizer.json"))

    def write(self, policy: str, kind: str, name: str, rows: Sequence[Row]) -> None:
        schema = {"critical": CRITICAL, "scores": SCORES, "gains": GAINS}.get(kind, ROLLOUT)
        write_rows(self.paths.rollouts(policy, kind, name, 0, 1), rows, schema)


def solution(task: str, query: int, sample: int, text: str, **changes: Any) -> Row:
    """A sample of a query; a resample if ``parent`` or ``source`` says so."""
    answer = text.split()[-1] if "answer" in text else None
    row: Row = {
        "query_id": f"{task}-{query}",
        "task": task,
        "sample": sample,
        "source": "sample",
        "parent": None,
        "prefix_len": 0,
        "token_ids": tokenizer().encode(text).ids,
        "text": text,
        "answer": answer,
        "finished": True,
        "correct": answer == ANSWERS[task],
        "logprob": -1.0,
        "seed": 0,
    }
    return row | changes


def score(row: Row, *visual: float) -> Row:
    """Attention scores of a solution, by layer."""
    keys = ("query_id", "task", "sample", "source", "parent", "correct")
    count = len(visual)
    return {key: row[key] for key in keys} | {
        "layers": list(range(count)),
        "num_layers": count,
        "s_sys": [0.0] * count,
        "s_vis": list(visual),
        "s_ins": [1.0 - value for value in visual],
    }


def critical(row: Row, position: int | None) -> Row:
    """The critical token of a failed sample."""
    keys = ("query_id", "task", "sample")
    found = {"critical_token": position, "replacement": None if position is None else 1}
    return {key: row[key] for key in keys} | found


def gain(row: Row, logprob: float, without: float) -> Row:
    """Log-probabilities of a solution per token, with its image and without."""
    keys = ("query_id", "task", "sample", "source", "parent", "correct")
    measured = {"tokens": len(row["token_ids"]) + 1, "logprob": logprob, "logprob_without": without}
    return {key: row[key] for key in keys} | measured
