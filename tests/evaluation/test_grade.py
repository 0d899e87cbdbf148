"""Responses from elsewhere are matched with the test queries, every one of them, and get our verdicts."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.evaluation.conftest import TASKS, SmallSuite, query
from tests.evaluation.test_own_tasks import PARSED, with_own_tasks
from tests.own_tasks import SCORED, write_task
from vista.config import ExternalMethod, Prompts, Suite
from vista.errors import VistaError
from vista.evaluation.grade import check_responses, grade
from vista.grid import Run
from vista.manifest import read_manifest
from vista.records import PREDICTION, QUERY, Row, read_rows, write_rows

RUN = Run("nano-qwen2.5-vl", "grids", "told", 0, 1)
NUMBERS = {TASKS[0]: range(12), TASKS[1]: range(20, 32)}  # of the small suite's queries
IDS = [f"{task}/{number}" for task in TASKS for number in NUMBERS[task]]


def told(small: SmallSuite, path: Path, **settings: Any) -> Suite:
    """The small suite with a method whose responses are in ``path``."""
    method = ExternalMethod(kind="external", predictions={RUN.model: path}, **settings)
    return small.suite.model_copy(update={"methods": {**small.suite.methods, RUN.method: method}})


def responses() -> list[dict[str, Any]]:
    """Right ones to even queries, wrong ones to others."""
    found = []
    for task in TASKS:
        for number in NUMBERS[task]:
            answer = number % 10 if number % 2 == 0 else "no"
            found.append({"query_id": f"{task}/{number}", "response": f"so it is . answer : {answer}"})
    return found


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as the name's ending says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def graded(small: SmallSuite, suite: Suite) -> list[Row]:
    grade(suite, small.paths, RUN)
    return read_rows(small.paths.predictions(RUN.id), PREDICTION)


def refused(small: SmallSuite, path: Path, rows: Sequence[dict[str, Any]], **settings: Any) -> str:
    suite = told(small, write(path, rows), **settings)
    with pytest.raises(VistaError) as caught:
        grade(suite, small.paths, RUN)
    with pytest.raises(VistaError) as early:
        check_responses(suite, small.paths, RUN)
    assert str(early.value) == str(caught.value), "the doctor says the same"
    assert not small.paths.predictions(RUN.id).exists()
    return str(caught.value)


@pytest.mark.parametrize("name", ["told.csv", "told.jsonl", "told.parquet"])
def test_every_format_gives_the_same_verdicts(small: SmallSuite, tmp_path: Path, name: str) -> None:
    rows = graded(small, told(small, write(tmp_path / name, responses()[::-1])))
    assert [row["query_id"] for row in rows] == IDS
    assert [row["score"] for row in rows] == [1.0, 0.0] * 12
    assert {row["run"] for row in rows} == {RUN.id}
    manifest = read_manifest(small.paths.predictions(RUN.id))
    assert manifest.counts["accuracy/grid-open"] == 0.5
    assert (manifest.counts["missing"], manifest.counts["unanswered"]) == (0, 0)
    assert str(tmp_path / name) in manifest.inputs


def test_our_own_predictions_can_be_given_as_they_are(small: SmallSuite, tmp_path: Path) -> None:
    rows = graded(small, told(small, write(tmp_path / "told.csv", responses())))
    write_rows(tmp_path / "ours.parquet", rows, PREDICTION)
    assert graded(small, told(small, tmp_path / "ours.parquet")) == rows


def test_a_response_that_was_cut_is_wrong_whatever_it_says(small: SmallSuite, tmp_path: Path) -> None:
    rows = [{**row, "finished": "false"} for row in responses()]
    found = graded(small, told(small, write(tmp_path / "told.csv", rows)))
    assert {row["score"] for row in found} == {0.0}
    assert read_manifest(small.paths.predictions(RUN.id)).counts["unfinished"] == 24


def test_queries_without_a_response_are_named_or_counted_as_wrong(small: SmallSuite, tmp_path: Path) -> None:
    said = refused(small, tmp_path / "told.csv", responses()[:-2])
    assert "2 of 24 test queries have no response" in said
    assert f"task {TASKS[1]}: query '{IDS[-1]}': no response" in said
    found = graded(small, told(small, tmp_path / "told.csv", missing="unanswered"))
    assert [(row["answer"], row["response"], row["score"]) for row in found[-2:]] == [(None, "", 0.0)] * 2
    counts = read_manifest(small.paths.predictions(RUN.id)).counts
    assert (counts["missing"], counts["unanswered"], counts["predictions"]) == (2, 2, 24)


def test_every_row_that_answers_no_test_query_is_named_with_its_number(
    small: SmallSuite, tmp_path: Path
) -> None:
    train = [{**query(TASKS[0], 99), "query_id": "train/1", "split": "train"}]
    write_rows(small.paths.queries(TASKS[0], "train"), train, QUERY)
    rows = responses()
    extra = [
        {"query_id": IDS[3], "response": "answer : 3"},
        {"query_id": "train/1", "response": "answer : 3"},
        {"query_id": "nobody", "response": "answer : 3"},
    ]
    said = refused(small, tmp_path / "told.csv", [*rows, *extra])
    assert f"row 25: query '{IDS[3]}': answered before, in {tmp_path / 'told.csv'}: row 4" in said
    assert f"row 26: query 'train/1': it belongs to split train of task {TASKS[0]}" in said
    assert "row 27: query 'nobody': no test query of any task has this id" in said
    with_task = [{**row, "task": "elsewhere"} for row in rows]
    assert "task 'elsewhere' is not evaluated in this suite" in refused(small, tmp_path / "b.csv", with_task)


def test_another_question_of_the_same_id_is_refused(small: SmallSuite, tmp_path: Path) -> None:
    asked = {row["query_id"]: row["instruction"] for task in TASKS for row in small.queries[task]}
    rows = [{**row, "question": f" {asked[row['query_id']]}\n"} for row in responses()]
    graded(small, told(small, write(tmp_path / "told.jsonl", rows)))
    small.paths.predictions(RUN.id).unlink()
    rows[5]["question"] = "which digit ?"
    said = refused(small, tmp_path / "told.jsonl", rows)
    assert f"row 6: query '{IDS[5]}': another question: 'which digit ?' in the file" in said
    assert "no response" not in said


def test_no_more_than_twenty_rows_are_listed(small: SmallSuite, tmp_path: Path) -> None:
    rows = [{**row, "query_id": f"x{row['query_id']}"} for row in responses()]
    said = refused(small, tmp_path / "told.jsonl", rows)
    assert len(said.splitlines()) == 22
    assert said.endswith("and 29 more")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query_id": IDS[0]}, "row 1: response: expected a text, found 'None'"),
        ({"response": "answer : 3"}, "row 1: query_id: expected the id of a test query"),
        ({"query_id": IDS[0], "response": "x", "fnished": True}, "unknown column 'fnished'; did you mean"),
        ({"query_id": IDS[0], "response": "x", "finished": "maybe"}, "finished: expected true or false"),
    ],
)
def test_rows_that_cannot_be_read_are_named(
    small: SmallSuite, tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    assert said in refused(small, tmp_path / "told.jsonl", [row])


def test_samples_that_lmms_eval_logged_are_read_task_by_task(small: SmallSuite, tmp_path: Path) -> None:
    """As its 0.7.3 writes them: the document is left out, and so is a list of one response."""
    asked = {row["query_id"]: row for task in TASKS for row in small.queries[task]}
    for task in TASKS:
        samples = [
            {
                "doc_id": number,
                "target": asked[row["query_id"]]["answer"],
                "filtered_resps": row["response"],
                "input": f"{asked[row['query_id']]['instruction']} Think.",
                "query_id": row["query_id"],
                "finished": True,
                "score": 0.0,
            }
            for number, row in enumerate(each for each in responses() if each["query_id"].startswith(task))
        ]
        write(tmp_path / f"20260101_120000_samples_{task}.jsonl", samples)
    (tmp_path / "20260101_120000_results.json").write_text("{}")
    rows = graded(small, told(small, tmp_path))
    assert [row["score"] for row in rows] == [1.0, 0.0] * 12
    file = tmp_path / f"20260101_120000_samples_{TASKS[0]}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[2]["target"] = "another"
    small.paths.predictions(RUN.id).unlink()
    assert "row 3: query 'grid-open/2': another right answer: 'another'" in refused(small, file, lines)


def test_a_models_own_mark_before_answers_counts(small: SmallSuite, tmp_path: Path) -> None:
    rows = [{**row, "response": row["response"].replace("answer :", "verdict ->")} for row in responses()]
    suite = told(small, write(tmp_path / "told.csv", rows))
    marked = suite.models[RUN.model].model_copy(update={"prompts": Prompts(answer_mark="verdict ->")})
    suite = suite.model_copy(update={"models": {**suite.models, RUN.model: marked}})
    assert [row["score"] for row in graded(small, suite)] == [1.0, 0.0] * 12


GUESSING = SCORED.replace("utils.scored", "utils.guessed")


def of_own_task(small: SmallSuite, folder: Path, text: str) -> list[dict[str, Any]]:
    """Responses to a task of lmms-eval's own, right to the first four of six documents, and to all others."""
    write_task(folder, "digits", text)
    with (folder / "utils.py").open("a") as file:
        file.write("\n\ndef guessed(doc, results):\n    return {'exact': 1.0}\n")
    with_own_tasks(small, folder, "digits")
    queries = read_rows(small.paths.queries("digits", "test"), QUERY)
    said = [query["answer"] if number < 4 else "no" for number, query in enumerate(queries)]
    own = [
        {"query_id": query["query_id"], "response": text} for query, text in zip(queries, said, strict=True)
    ]
    return [*responses(), *own]


@pytest.mark.parametrize("text", [SCORED, PARSED])
def test_responses_to_a_task_of_lmms_evals_own_are_scored_by_the_task(
    small: SmallSuite, tmp_path: Path, text: str
) -> None:
    rows = of_own_task(small, tmp_path / "mine", text)
    suite = told(small, write(tmp_path / "told.jsonl", rows))
    own = [row for row in graded(small, suite) if row["task"] == "digits"]
    assert [row["score"] for row in own] == [1.0] * 4 + [0.0] * 2
    assert [row["response"] for row in own] == ["0", "1", "2", "3", "no", "no"]
    found = read_manifest(small.paths.predictions(RUN.id)).counts
    assert found["accuracy/digits"] == found["lmms_eval/digits"] == pytest.approx(4 / 6)
    assert "tokens" not in found


def test_a_missing_response_is_wrong_even_if_the_task_guesses(small: SmallSuite, tmp_path: Path) -> None:
    rows = of_own_task(small, tmp_path / "mine", GUESSING)[:-2]
    suite = told(small, write(tmp_path / "told.jsonl", rows), missing="unanswered")
    own = [row for row in graded(small, suite) if row["task"] == "digits"]
    assert [row["score"] for row in own] == [1.0] * 4 + [0.0] * 2
    found = read_manifest(small.paths.predictions(RUN.id)).counts
    assert found["accuracy/digits"] == pytest.approx(4 / 6)
    assert (found["missing"], found["unanswered/digits"]) == (2, 2)


def test_a_pilot_takes_the_responses_to_its_queries_from_a_file_with_more(
    small: SmallSuite, tmp_path: Path
) -> None:
    more = {"query_id": f"{TASKS[0]}/99", "response": "answer : 1"}
    suite = told(small, write(tmp_path / "told.jsonl", [*responses(), more]))
    with pytest.raises(VistaError, match="no test query of any task has this id"):
        grade(suite, small.paths, RUN)
    assert [row["query_id"] for row in graded(small, suite.model_copy(update={"pilot": 12}))] == IDS
    assert read_manifest(small.paths.predictions(RUN.id)).counts["left_out"] == 1
