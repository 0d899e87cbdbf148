"""Benchmarks through lmms-eval: from published files to scores, and its own scorers beside ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.tasks import TaskManager
from lmms_eval.tasks.chartqa.utils import relaxed_correctness as published_correctness

from tests.evaluation.conftest import RUN, Script, ScriptedEngine, SmallSuite
from tests.tasks.published import WRITERS, benchmark
from vista.answers import relaxed_correctness
from vista.evaluation.evaluate import evaluate
from vista.evaluation.harness import write_task_files
from vista.evaluation.tasks import scorers
from vista.manifest import read_manifest
from vista.records import PREDICTION, Row, read_queries, read_rows
from vista.tasks.generate import generate_split
from vista.verdicts import CUT, marked, unmarked

KINDS = sorted(WRITERS)
LMMS_SCORERS = {"slake", "geometry3k-choice", "scienceqa", "chartqa"}  # lmms-eval has a task of these


@pytest.fixture
def benchmarks(small: SmallSuite, tmp_path: Path) -> SmallSuite:
    """The small suite with all benchmarks as its tasks, their test splits made from published files."""
    tasks = {}
    for kind in KINDS:
        WRITERS[kind](tmp_path / "published" / kind)
        source = {"kind": "path", "path": tmp_path / "published" / kind}
        tasks[kind] = benchmark(kind=kind, source=source)
    changes: dict[str, Any] = {"tasks": tasks, "train_sets": {"grids": KINDS[:1]}, "out_of_domain": KINDS[1:]}
    small.suite = small.suite.model_copy(update=changes)
    for kind in KINDS:
        generate_split(small.suite, small.paths, kind, "test")
        small.queries[kind] = read_queries(small.paths.queries(kind, "test"))
    return small


def test_published_benchmarks_are_tasks_that_lmms_eval_loads_shows_and_scores(
    benchmarks: SmallSuite, tmp_path: Path
) -> None:
    write_task_files(benchmarks.suite, benchmarks.paths, tmp_path / "files")
    manager = TaskManager(include_path=str(tmp_path / "files"), include_defaults=False)
    assert sorted(manager.all_tasks) == KINDS
    for kind in KINDS:
        task = manager.load_task_or_group([kind], "chat")[kind]
        docs = list(task.test_docs())
        assert docs == benchmarks.queries[kind]
        metrics = [entry["metric"] for entry in task.config.metric_list]
        assert metrics == (["accuracy", "lmms_score"] if kind in LMMS_SCORERS else ["accuracy"])
        for doc in docs:
            turns = task.doc_to_messages(doc)
            assert turns[1]["content"][0]["url"].mode == "RGB"
            right = task.process_results(doc, [f"It shows something.\nAnswer: {doc['answer']}"])
            wrong = task.process_results(doc, ["It shows nothing.\nAnswer: zebra"])
            silent = task.process_results(doc, ["It shows nothing"])
            assert right["accuracy"] == {"score": 1.0, "cluster_id": doc["cluster_id"]}
            assert (wrong["score"], silent["score"]) == (0.0, 0.0)
            if kind in LMMS_SCORERS:
                assert (right["lmms_score"], wrong["lmms_score"], silent["lmms_score"]) == (1.0, 0.0, 0.0)


def test_the_manifest_counts_both_scores_and_where_they_differ(
    benchmarks: SmallSuite, script: Callable[[Script], type[ScriptedEngine]]
) -> None:
    # The scripted engine speaks the nano model's few words, so these are its only answers.
    script(lambda prompt: "so answer : yes")
    evaluate(benchmarks.suite, benchmarks.paths, RUN)
    rows = read_rows(benchmarks.paths.predictions(RUN.id), PREDICTION)
    counts = read_manifest(benchmarks.paths.predictions(RUN.id)).counts
    for kind in KINDS:
        scores = [row["score"] for row in rows if row["task"] == kind]
        assert counts[f"accuracy/{kind}"] == pytest.approx(sum(scores) / len(scores))
        assert (f"lmms_score/{kind}" in counts) is (kind in LMMS_SCORERS)
        if kind in LMMS_SCORERS:
            assert counts[f"lmms_score/{kind}"] == counts[f"accuracy/{kind}"]
            assert counts[f"lmms_differs/{kind}"] == 0
    assert counts["accuracy/slake"] == 0.25  # one of four
    assert counts["accuracy/vqa-rad"] == pytest.approx(1 / 3)


ANSWERS = ["14", "14.7", "14.71", "-14", "5%", "0.05", "5", "0", "0.0", "No", "no", "2014", "2011", "1,200"]
ANSWERS += ["1200", "Rep/Lean Rep", "nan", "inf", "1e3", "1000", "%", "", "62", "62%", ".62", "4 bars"]


def test_relaxed_correctness_agrees_with_lmms_eval_on_every_pair_of_answers() -> None:
    for found in ANSWERS:
        for gold in ANSWERS:
            assert relaxed_correctness(found, gold) == published_correctness(found, gold), (found, gold)


@pytest.mark.parametrize("kind", KINDS)
def test_every_scorer_takes_a_response_cut_at_the_limit_for_wrong(
    benchmarks: SmallSuite, tmp_path: Path, kind: str
) -> None:
    write_task_files(benchmarks.suite, benchmarks.paths, tmp_path / "files")
    manager = TaskManager(include_path=str(tmp_path / "files"), include_defaults=False)
    task = manager.load_task_or_group([kind], "chat")[kind]
    for doc in task.test_docs():
        text = f"It shows something.\nAnswer: {doc['answer']}"
        whole, cut = (task.process_results(doc, [marked(text, finished)]) for finished in (True, False))
        assert whole == {**cut, **{name: whole[name] for name in ("accuracy", "score", "finished")}} | (
            {"lmms_score": 1.0} if kind in LMMS_SCORERS else {}
        )
        assert (whole["score"], whole["accuracy"]["score"], whole["finished"]) == (1.0, 1.0, True)
        assert (cut["score"], cut["accuracy"]["score"], cut["finished"]) == (0.0, 0.0, False)
        assert cut.get("lmms_score", 0.0) == 0.0


def test_a_response_that_contains_the_mark_of_cut_ones_is_not_taken_for_one() -> None:
    assert unmarked(marked(f"Answer: 3{CUT}", finished=True)) == ("Answer: 3", True)
    assert unmarked(marked(f"{CUT}Answer: 3", finished=False)) == ("Answer: 3", False)
    assert marked("Answer: 3", finished=False).encode("utf-8").decode("utf-8").endswith(CUT)


def doc(answer: str, answer_type: str, choices: list[str] | None = None) -> Row:
    return {
        "query_id": "q",
        "cluster_id": "c",
        "answer": answer,
        "answer_type": answer_type,
        "choices": choices,
    }


@pytest.mark.parametrize(
    ("response", "answer", "ours", "theirs"),
    [
        ("Answer: left lung", "Left Lung", 1.0, 1.0),
        ("Answer: x-ray", "X-Ray", 1.0, 1.0),
        ("Answer: liver", "Lung", 0.0, 0.0),
        ("Answer: CT (computed tomography)", "CT", 1.0, 1.0),
        # Ours is more lenient: plural, order of a list, number words and articles.
        ("Answer: lungs", "Lung", 1.0, 0.0),
        ("Answer: spinal cord, lung", "Lung, Spinal Cord", 1.0, 0.0),
        ("Answer: two", "2", 1.0, 0.0),
        ("Answer: the heart", "Heart", 1.0, 0.0),
    ],
)
def test_slake_scores_differ_where_the_docs_say(
    response: str, answer: str, ours: float, theirs: float
) -> None:
    scored = scorers.process_slake(doc(answer, "term"), [response])
    assert (scored["score"], scored["lmms_score"]) == (ours, theirs)


@pytest.mark.parametrize(
    ("response", "answer", "ours", "theirs"),
    [
        ("Answer: Yes", "Yes", 1.0, 1.0),
        ("Answer: no", "Yes", 0.0, 0.0),
        ("Answer: yes, it is", "Yes", 1.0, 0.0),  # ours reads the first word
        ("Answer: true", "Yes", 0.0, 1.0),  # theirs knows more words for yes
    ],
)
def test_slake_yes_no_scores_differ_where_the_docs_say(
    response: str, answer: str, ours: float, theirs: float
) -> None:
    scored = scorers.process_slake(doc(answer, "closed"), [response])
    assert (scored["score"], scored["lmms_score"]) == (ours, theirs)


@pytest.mark.parametrize(
    ("response", "ours", "theirs"),
    [
        ("Answer: B", 1.0, 1.0),
        ("Answer: B. Louisiana", 1.0, 1.0),
        ("Answer: A", 0.0, 0.0),
        ("Louisiana", 0.0, 0.0),
        ("Answer: (B)", 1.0, 0.0),  # theirs knows no brackets
        ("Answer: Louisiana", 1.0, 0.0),  # nor the text of a choice
    ],
)
def test_scienceqa_scores_differ_where_the_docs_say(response: str, ours: float, theirs: float) -> None:
    choices = ["West Virginia", "Louisiana", "Arizona"]
    scored = scorers.process_scienceqa(doc("B", "choice", choices), [response])
    assert (scored["score"], scored["lmms_score"]) == (ours, theirs)


@pytest.mark.parametrize(
    ("response", "ours", "theirs"),
    [
        ("The angle is 60.\nAnswer: B", 1.0, 1.0),
        ("The angle is 30.\nAnswer: A", 0.0, 0.0),
        ("Answer: 60", 1.0, 1.0),
        ("It must be (B)", 0.0, 1.0),  # ours wants the answer marked as such
        ("<think>It cannot be A</think> 60", 0.0, 1.0),  # theirs leaves out what is thought
    ],
)
def test_geometry3k_choice_scores_differ_where_the_docs_say(
    response: str, ours: float, theirs: float
) -> None:
    scored = scorers.process_geometry3k_choice(doc("B", "choice", ["30", "60", "90", "120"]), [response])
    assert (scored["score"], scored["lmms_score"]) == (ours, theirs)


@pytest.mark.parametrize(
    ("scorer", "asked", "response"),
    [
        (scorers.process_slake, doc("yes", "closed"), "Yes"),
        (scorers.process_slake, doc("Lung", "term"), "It shows an organ.\nThe organ: **lung**"),
        (scorers.process_slake, doc("Lung", "term"), "<think>Is it the liver? No.</think>\nlung"),
        (scorers.process_chartqa, doc("25%", "relaxed"), "25%"),
        (scorers.process_chartqa, doc("25%", "relaxed"), "A quarter.\nResult: 25%."),
        (scorers.process_scienceqa, doc("B", "choice", ["cat", "dog"]), "B. dog"),
        (scorers.process_scienceqa, doc("B", "choice", ["cat", "dog"]), "It barks.\n**Choice:** B"),
        (scorers.process_geometry3k_choice, doc("B", "choice", ["3", "4", "5", "6"]), "It must be (B)"),
    ],
)
def test_lmms_evals_scorers_see_an_answer_that_ours_missed(scorer: Any, asked: Row, response: str) -> None:
    scored = scorer(asked, [response])
    assert scored["lmms_score"] == 1.0
    assert scored["lmms_score"] != scored["score"] or scored["extracted"] is not None
    assert scorer(asked, [marked(response, finished=False)])["lmms_score"] == 0.0


def test_a_last_line_is_read_from_its_first_colon_without_markdown() -> None:
    assert scorers.readings("Because.\n**Time:** `10:30`.", None)[1:] == ["10:30"]
    assert scorers.readings("lung", "liver") == ["lung", "lung", "liver"]
    assert scorers.readings("", None) == [""]
