"""``faithfulness.csv``: right answers whose rationale is right are told from lucky ones, with true errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.conftest import World, make_suite
from tests.analysis.measured_world import GOLD, MISREAD, QUESTIONS, SCENE
from tests.documents import undocumented
from vista import grid
from vista.analysis.collect import collect
from vista.analysis.faithfulness import (
    COLUMNS,
    SCORES,
    Verdicts,
    faithfulness_table,
    judge,
    linearised,
    means_by_task,
)
from vista.analysis.stats import overall_mean, paired_difference
from vista.analysis.truth import Truth
from vista.config import Suite
from vista.errors import VistaError
from vista.grid import Run
from vista.paths import Paths
from vista.records import QUERY, Row, write_rows
from vista.testbed.questions import dump

QUERIES = 6
ANSWERS = {"easy": "no", "hard": "7", "far": "7"}
SHORT = {task: f"answer : {answer}" for task, answer in ANSWERS.items()}  # reads nothing
FAR = {"gold": GOLD["hard"], "misread": MISREAD["hard"]}
SEED = Run("nano-b", "both", "sft-seed", 0, 0)
REST = Run("nano-b", "both", "rest-em", 0, 1)


class Answers(World):
    """Six test queries of each task about one scene; what each run answers is handed to ``say``."""

    def query(self, task: str, index: int) -> Row:
        question = QUESTIONS.get(task, QUESTIONS["hard"])
        return {
            "query_id": f"{task}-{index}",
            "task": task,
            "cluster_id": f"{task}-{index}",
            "answer_type": "open",
            "scene": dump(SCENE, question),
        }

    def test_split(self, task: str) -> None:
        rows = [dict.fromkeys(QUERY.names) | self.query(task, i) for i in range(QUERIES)]
        write_rows(self.paths.queries(task, "test"), rows, QUERY)

    def say(self, run: Run, **responses: list[str]) -> None:
        """Responses to the queries of each task in order; a response is right if it ends in the answer."""
        rows = []
        for task in self.suite.evaluated_tasks:
            for index in range(QUERIES):
                text = responses.get(task, [""] * QUERIES)[index]
                right = text.endswith(ANSWERS[task])
                row = {name: self.query(task, index)[name] for name in ("query_id", "task", "cluster_id")}
                row |= {"run": run.id, "response": text, "answer": text[-1:] or None, "finished": True}
                rows.append(row | {"score": float(right)})
        self.predictions(run, rows)


def one_model(results: Path, **changes: Any) -> Suite:
    models = {"nano-b": {"kind": "path", "path": "/models/nano-b"}}
    improve = {"kind": "self-improvement", "rollouts": {"k": 2}}
    methods = {"sft-seed": {"kind": "seed"}, "rest-em": improve}
    return make_suite(results, **({"models": models, "methods": methods} | changes))


@pytest.fixture
def world(tmp_path: Path) -> Answers:
    """SFT-Seed is right 4 + 2 times, of which 2 + 2 faithful; ReST-EM 6 + 3 times, of which 3 + 0."""
    suite = one_model(tmp_path / "results")
    world = Answers(suite, Paths(suite.results))
    for task in suite.evaluated_tasks:
        world.test_split(task)
    gold, misread, short = GOLD, MISREAD, SHORT
    world.say(
        SEED,
        easy=[*[gold["easy"]] * 2, misread["easy"], short["easy"], "", "answer : yes"],
        hard=[*[gold["hard"]] * 2, *[""] * 4],
    )
    world.say(
        REST,
        easy=[*[gold["easy"]] * 3, *[misread["easy"]] * 3],
        hard=[*[misread["hard"]] * 3, *[""] * 3],
        far=[FAR["gold"], FAR["misread"], *[""] * 4],
    )
    return world


def table_of(world: World) -> pd.DataFrame:
    collect(world.suite, world.paths)
    faithfulness_table(world.suite, world.paths)
    return pd.read_csv(world.paths.table("faithfulness", "csv"))


def one(table: pd.DataFrame, method: str, task: str = "overall") -> pd.Series:
    found = table[(table["method"] == method) & (table["task"] == task)]
    assert len(found) == 1, found
    return found.iloc[0]


def test_right_answers_are_told_apart_by_their_rationales(world: Answers) -> None:
    table = table_of(world)
    seed, easy = one(table, "sft-seed"), one(table, "sft-seed", "easy")
    assert list(easy[["accuracy", "faithful", "lucky", "share"]]) == [66.67, 33.33, 33.33, 50.0]
    # Tasks weigh the same: (4/6 + 2/6) / 2 right, (2/6 + 2/6) / 2 faithful.
    assert list(seed[["accuracy", "faithful", "lucky", "share"]]) == [50.0, 33.33, 16.67, 66.67]
    after = one(table, "rest-em")
    assert list(after[["accuracy", "faithful", "lucky", "share"]]) == [75.0, 25.0, 50.0, 33.33]


def test_a_higher_accuracy_may_be_a_lower_share(world: Answers) -> None:
    after = one(table_of(world), "rest-em")
    assert after["delta_sft_seed"] == pytest.approx(33.33 - 66.67, abs=0.02)
    assert after["delta_low"] < after["delta_sft_seed"] < after["delta_high"]
    assert after["error"] == "queries"


def test_the_first_fault_of_lucky_answers_is_named_and_adds_up_with_the_share(world: Answers) -> None:
    table = table_of(world)
    easy = one(table, "sft-seed", "easy")
    # Of four right answers, one misreads a digit, one does not say what it reads.
    assert list(easy[["read", "compute", "answer", "form"]]) == [25.0, 0.0, 0.0, 25.0]
    whole = table[["share", "read", "compute", "answer", "form"]].dropna().sum(axis=1)
    assert whole.to_numpy() == pytest.approx(100.0, abs=0.03)


def test_tasks_out_of_domain_have_rows_of_their_own_and_are_not_in_the_overall_ones(world: Answers) -> None:
    table = table_of(world)
    assert one(table, "rest-em", "far")["share"] == 50.0
    far = one(table, "sft-seed", "far")
    assert far["accuracy"] == 0.0
    assert np.isnan(far["share"])
    assert (far["seeds"], far["missing"]) == (0, 1)  # nothing is right, so nothing can be faithful


def test_a_row_over_seeds_has_the_error_over_seeds(tmp_path: Path) -> None:
    suite = one_model(tmp_path / "results", seeds=[0, 1])
    world = Answers(suite, Paths(suite.results))
    for task in suite.evaluated_tasks:
        world.test_split(task)
    half = [*[GOLD["easy"]] * 3, *[MISREAD["easy"]] * 3]
    most = [*[GOLD["easy"]] * 5, MISREAD["easy"]]
    for seed in (0, 1):
        world.say(Run("nano-b", "both", "sft-seed", seed, 0), easy=half, hard=[GOLD["hard"]] * 6)
    world.say(Run("nano-b", "both", "rest-em", 0, 1), easy=most, hard=[GOLD["hard"]] * 6)
    world.say(Run("nano-b", "both", "rest-em", 1, 1), easy=half, hard=[GOLD["hard"]] * 6)
    row = one(table_of(world), "rest-em")
    assert row["share"] == pytest.approx((11 / 12 + 9 / 12) / 2 * 100, abs=0.01)
    assert row["seed_sd"] == pytest.approx(np.std([11 / 12, 9 / 12], ddof=1) * 100, abs=0.01)
    assert row["error"] == "queries, seeds"
    assert row["delta_sft_seed"] == pytest.approx(1 / 12 * 100, abs=0.01)


def test_a_run_without_a_result_is_counted(world: Answers) -> None:
    world.no_positives(REST)
    table = table_of(world)
    row = one(table, "rest-em")
    assert (row["status"], row["seeds"], row["missing"]) == ("no-positives", 0, 1)
    assert not len(table[(table["method"] == "rest-em") & (table["task"] != "overall")])


def test_selection_answers_without_rationales_and_the_page_says_that_it_is_left_out(tmp_path: Path) -> None:
    choosing = {"kind": "select", "of": "rest-em", "k": 2}
    methods = {
        "sft-seed": {"kind": "seed"},
        "rest-em": {"kind": "self-improvement", "rollouts": {"k": 2}},
        "choosing": choosing,
    }
    suite = one_model(tmp_path / "results", methods=methods)
    world = Answers(suite, Paths(suite.results))
    for task in suite.evaluated_tasks:
        world.test_split(task)
    for run in grid.runs(suite):
        world.say(run, easy=[GOLD["easy"]] * 6)
    assert set(table_of(world)["method"]) == {"sft-seed", "rest-em"}
    assert "no rationale: choosing" in world.paths.table("faithfulness", "md").read_text()


def test_equal_predictions_give_equal_bytes(world: Answers) -> None:
    table_of(world)
    first = [
        world.paths.table("faithfulness", suffix).read_bytes() for suffix in ("csv", "md", "tex", "html")
    ]
    table_of(world)
    again = [
        world.paths.table("faithfulness", suffix).read_bytes() for suffix in ("csv", "md", "tex", "html")
    ]
    assert first == again


def test_every_column_is_documented(root: Path) -> None:
    assert undocumented(root, COLUMNS) == []


# --- the error of a share, against the obvious ways of computing it ---


def judged(right: np.ndarray, faithful: np.ndarray, tasks: int = 1) -> pd.DataFrame:
    n = len(right)
    frame = pd.DataFrame(0.0, index=range(n), columns=SCORES)
    frame["score"], frame["faithful"] = right.astype(float), (right & faithful).astype(float)
    names = [f"q{i}" for i in range(n)]
    return frame.assign(task=[f"t{i % tasks}" for i in range(n)], query_id=names, cluster_id=names)


def verdicts(frame: pd.DataFrame) -> Verdicts:
    return Verdicts(frame, means_by_task(frame).mean())


VERDICT_LISTS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=40)


@settings(max_examples=100, deadline=None)
@given(VERDICT_LISTS, st.integers(1, 2))
def test_its_mean_is_the_share_itself(found: list[tuple[bool, bool]], tasks: int) -> None:
    right, faithful = (np.array(each) for each in zip(*found, strict=True))
    frame = judged(right, faithful, tasks)
    means = frame.groupby("task")[["score", "faithful"]].mean().mean()
    numbers = linearised(verdicts(frame))
    if not right.any():
        assert numbers is None
        return
    assert numbers is not None
    assert overall_mean(numbers).mean == pytest.approx(means["faithful"] / means["score"])


def test_its_error_is_that_of_drawing_the_queries_again() -> None:
    rng = np.random.default_rng(0)
    n = 600
    right = rng.random(n) < 0.65
    faithful = rng.random(n) < 0.75
    # The other run agrees with it on four of five queries.
    same = rng.random(n) < 0.8
    right_too = np.where(same, right, rng.random(n) < 0.7)
    faithful_too = np.where(same, faithful, rng.random(n) < 0.7)
    shares, differences = [], []
    for _ in range(4000):
        drawn = rng.integers(n, size=n)
        first = (right & faithful)[drawn].sum() / right[drawn].sum()
        shares.append(first)
        differences.append((right_too & faithful_too)[drawn].sum() / right_too[drawn].sum() - first)
    numbers = linearised(verdicts(judged(right, faithful)))
    numbers_too = linearised(verdicts(judged(right_too, faithful_too)))
    assert numbers is not None
    assert numbers_too is not None
    assert overall_mean(numbers).se == pytest.approx(np.std(shares), rel=0.05)
    difference = paired_difference(numbers_too, numbers)
    assert difference.se == pytest.approx(np.std(differences), rel=0.05)
    assert difference.mean == pytest.approx(
        (right_too & faithful_too).sum() / right_too.sum() - (right & faithful).sum() / right.sum()
    )


def test_a_query_with_two_responses_is_named() -> None:
    frame = pd.DataFrame(
        {"task": ["t", "t"], "query_id": ["q0", "q1"], "cluster_id": ["a", "b"], "score": 1.0}
    )
    responses = pd.DataFrame({"task": "t", "query_id": ["q1", "q0", "q1"], "response": "Yes."})
    with pytest.raises(VistaError, match=r"query 'q1' has two responses; evaluate the run again"):
        judge(frame, responses, Truth({}))
