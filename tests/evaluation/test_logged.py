"""What lmms-eval logged of its own tasks, run by itself, is graded as the responses that it holds."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from lmms_eval import evaluator
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.loggers import EvaluationTracker
from lmms_eval.tasks import TaskManager

from tests.evaluation.conftest import SmallSuite
from tests.evaluation.test_grade import RUN, graded, refused, responses, told, write
from tests.evaluation.test_own_tasks import PARSED, with_own_tasks
from tests.own_tasks import DIGITS, SCORED, write_task
from vista.errors import VistaError
from vista.evaluation.grade import check_responses, grade
from vista.evaluation.harness import no_request_cache
from vista.manifest import read_manifest
from vista.tasks.generate import generate_split

FILTERED = (
    SCORED
    + """
filter_list:
  - name: last
    filter:
      - function: regex
        regex_pattern: "so (\\\\w+)"
      - function: take_first
"""
)
TWICE = (
    FILTERED
    + """
  - name: whole
    filter:
      - function: take_first
"""
)


Rows = list[dict[str, Any]]


class Elsewhere(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """A model of lmms-eval's that knows nothing of this repository."""

    def __init__(self, say: Callable[[int], str]) -> None:
        super().__init__()
        self.say = say

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        return [self.say(request.args[3]) for request in requests]

    loglikelihood = generate_until_multi_round = generate_until


def right_to_four(place: int) -> str:
    return str(place) if place < 4 else "no"


def run_by_itself(
    folder: Path, names: Sequence[str], say: Callable[[int], str] = right_to_four, **options: Any
) -> dict[str, Rows]:
    """The samples of tasks of ``folder``, of lmms-eval's own evaluation of a model."""
    settings = argparse.Namespace(process_with_media=False, reasoning_tags=None)
    with pytest.MonkeyPatch.context() as patch, no_request_cache():
        patch.chdir(folder)
        report = evaluator.simple_evaluate(
            model=Elsewhere(say),
            tasks=list(names),
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            batch_size=1,
            log_samples=True,
            bootstrap_iters=0,
            cli_args=settings,
            **options,
        )
    found: dict[str, Rows] = report["samples"]
    return found


def logged(folder: Path, names: Sequence[str], to: Path, *say: Any, **options: Any) -> dict[str, Path]:
    """The files that lmms-eval's ``--log_samples`` writes of such an evaluation."""
    samples = run_by_itself(folder, names, *say, **options)
    tracker = EvaluationTracker(output_path=str(to))
    tracker.general_config_tracker.model_name_sanitized = "elsewhere"
    tracker.date_id = "20260101_120000"
    for name in names:
        tracker.save_results_samples(name, samples[name])
    return {name: to / "elsewhere" / f"20260101_120000_samples_{name}.jsonl" for name in names}


def beside_ours(file: Path) -> Path:
    """The folder of a log, with responses to the suite's other queries in the same way."""
    for task in ("grid-open", "grid-noisy"):
        rows = [row for row in responses() if row["query_id"].startswith(task)]
        samples = [
            {"doc_id": place, "query_id": row["query_id"], "filtered_resps": row["response"]}
            for place, row in enumerate(rows)
        ]
        write(file.parent / f"20260101_120000_samples_{task}.jsonl", samples)
    return file.parent


def scores_of(small: SmallSuite, where: Path, task: str, **settings: Any) -> list[float]:
    suite = told(small, where, **settings)
    assert "test queries" in check_responses(suite, small.paths, RUN)
    return [row["score"] for row in graded(small, suite) if row["task"] == task]


@pytest.mark.parametrize("text", [SCORED, PARSED])
@pytest.mark.parametrize("pictures", [0, 2])
def test_what_lmms_eval_logged_of_its_own_tasks_is_graded(
    small: SmallSuite, tmp_path: Path, text: str, pictures: int
) -> None:
    folder = write_task(tmp_path / "mine", "digits", text, pictures)
    write_task(folder, "more", SCORED)
    with_own_tasks(small, folder, "digits", "more")
    files = logged(folder, ["digits", "more"], tmp_path / "log")
    where = beside_ours(files["digits"])
    assert scores_of(small, where, "digits") == [1.0] * 4 + [0.0] * 2
    assert scores_of(small, where, "more") == [1.0] * 4 + [0.0] * 2


def test_samples_that_a_program_kept_as_lmms_eval_returns_them_are_graded_too(
    small: SmallSuite, tmp_path: Path
) -> None:
    folder = write_task(tmp_path / "mine", "digits", FILTERED)
    with_own_tasks(small, folder, "digits")
    (tmp_path / "kept").mkdir()
    kept = run_by_itself(folder, ["digits"], lambda place: f"no so {place}")["digits"]
    assert "arguments" in kept[0]
    where = beside_ours(write(tmp_path / "kept" / "samples_digits.jsonl", kept))
    assert scores_of(small, where, "digits") == [1.0] * DIGITS


@pytest.mark.parametrize("text", [FILTERED, TWICE])
def test_filters_go_through_the_response_as_the_model_gave_it(
    small: SmallSuite, tmp_path: Path, text: str
) -> None:
    folder = write_task(tmp_path / "mine", "digits", text)
    with_own_tasks(small, folder, "digits")
    file = logged(folder, ["digits"], tmp_path / "log", lambda place: f"no so {place}")["digits"]
    assert [json.loads(line)["filtered_resps"] for line in file.open()][:2] == ["0", "1"]
    where = beside_ours(file)
    rows = [row for row in graded(small, told(small, where)) if row["task"] == "digits"]
    assert [row["response"] for row in rows] == [f"no so {place}" for place in range(DIGITS)]
    assert {row["score"] for row in rows} == {1.0}


def spoiled(small: SmallSuite, tmp_path: Path, spoil: Callable[[Rows], Rows], text: str = SCORED) -> str:
    """What is said about a log of the task ``digits`` after ``spoil``; the doctor says the same."""
    folder = write_task(tmp_path / "mine", "digits", text)
    with_own_tasks(small, folder, "digits")
    file = logged(folder, ["digits"], tmp_path / "log", lambda place: f"so {place}")["digits"]
    where = beside_ours(file)
    write(file, spoil([json.loads(line) for line in file.open()]))
    suite = told(small, where)
    with pytest.raises(VistaError) as caught:
        grade(suite, small.paths, RUN)
    with pytest.raises(VistaError) as early:
        check_responses(suite, small.paths, RUN)
    assert str(early.value) == str(caught.value)
    return str(caught.value).replace(f"{file}: ", "")


def changed(place: int, **changes: Any) -> Callable[[Rows], Rows]:
    return lambda rows: [{**row, **(changes if row["doc_id"] == place else {})} for row in rows]


def without(name: str) -> Callable[[Rows], Rows]:
    return lambda rows: [{key: value for key, value in row.items() if key != name} for row in rows]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda rows: [{**row, "doc_id": (row["doc_id"] + 1) % DIGITS} for row in rows],
            "row 1: query 'digits-test-00001-[0-9a-f]{8}': another question: 'which digit in row 0 [?]' in "
            "the file, 'which digit in row 1 [?]' in the suite",
        ),
        (changed(2, input="which digit in row 12 ?"), "row 3: query 'digits-test-00002-.*another question"),
        (changed(2, input=""), "row 3: query 'digits-test-00002-.*another question: '' in the file"),
        (
            changed(2, target="7"),
            "row 3: query 'digits-test-00002-.*another right answer: '7' in the file, '2'",
        ),
        (
            lambda rows: [*rows, rows[1]],
            "row 7: query 'digits-test-00001-.*answered before, in row 2; keep one",
        ),
        (lambda rows: rows[:-1], "task digits: query 'digits-test-00005-.*no response"),
        (changed(5, doc_id=6), "row 6: document 6: task digits asks documents 0 to 5 "),
        (changed(5, doc_id="5"), "row 6: doc_id: expected the place of a document, from 0, found '5'"),
        (changed(1, filtered_resps=["a", "b"]), "row 2: 2 responses to one document; keep the one"),
        (changed(1, resps=["a", "b"]), "row 2: 2 responses to one document; keep the one"),
        (changed(1, filtered_resps=[]), "row 2: 0 responses to one document"),
        (changed(1, filtered_resps=None), "row 2: response: expected a text, found 'None'"),
        (without("input"), "row 1: a sample of lmms-eval without its input or target"),
        (without("target"), "row 1: a sample of lmms-eval without its input or target"),
    ],
)
def test_a_log_that_is_not_of_the_suites_documents_is_refused_row_by_row(
    small: SmallSuite, tmp_path: Path, spoil: Callable[[Rows], Rows], said: str
) -> None:
    assert re.search(said, spoiled(small, tmp_path, spoil))


def test_of_another_split_every_row_is_named_and_nothing_else(small: SmallSuite, tmp_path: Path) -> None:
    def elsewhere(rows: Rows) -> Rows:
        return [{**row, "input": f"what stands in row {row['doc_id'] + 40} ?"} for row in rows]

    heading, *listed = spoiled(small, tmp_path, elsewhere).splitlines()
    assert heading == "The responses are not those to the suite's test queries:"
    assert [line.split(":")[0] for line in listed] == [f"  - row {number}" for number in range(1, 7)]


def test_a_response_that_was_logged_only_after_filters_is_refused(small: SmallSuite, tmp_path: Path) -> None:
    said = spoiled(small, tmp_path, changed(1, resps="so 1", filtered_resps="1"), FILTERED)
    (_, line) = said.splitlines()
    assert re.search("row 2: .*went through the task's filters.*without --reasoning_tags", line)


def test_documents_of_which_nothing_is_logged_may_count_as_unanswered(
    small: SmallSuite, tmp_path: Path
) -> None:
    folder = write_task(tmp_path / "mine", "digits", SCORED)
    with_own_tasks(small, folder, "digits")
    file = logged(folder, ["digits"], tmp_path / "log", limit=3)["digits"]
    assert scores_of(small, beside_ours(file), "digits", missing="unanswered") == [1.0] * 3 + [0.0] * 3
    assert read_manifest(small.paths.predictions(RUN.id)).counts["missing"] == 3


def test_the_prompts_of_another_model_examples_and_another_name_are_no_other_question(
    small: SmallSuite, tmp_path: Path
) -> None:
    prompts = """
    lmms_eval_specific_kwargs:
      default: {ask: "?"}
      other: {ask: "? Answer briefly."}
    """
    folder = write_task(tmp_path / "mine", "digits", SCORED + dedent(prompts))
    code = (folder / "utils.py").read_text().replace(' + " ?"', ' + " " + lmms_eval_specific_kwargs["ask"]')
    (folder / "utils.py").write_text(code)
    with_own_tasks(small, folder, "digits")
    renamed = small.suite.tasks["digits"]
    small.suite = small.suite.model_copy(
        update={
            "tasks": {**small.suite.tasks, "mine": renamed},
            "out_of_domain": [*small.suite.out_of_domain[:-1], "mine"],
        }
    )
    generate_split(small.suite, small.paths, "mine", "test")
    file = logged(folder, ["digits"], tmp_path / "log")["digits"]
    rows = [json.loads(line) for line in file.open()]
    where = beside_ours(file)
    for said in ("which digit in row {} ? Answer briefly.", "row 9 ? 9\n\nwhich digit in row {} ?"):
        write(file, [{**row, "input": said.format(row["doc_id"])} for row in rows])
        assert scores_of(small, where, "mine") == [1.0] * 4 + [0.0] * 2


def test_a_log_whose_name_does_not_tell_its_task_or_tells_one_of_ours_is_refused(
    small: SmallSuite, tmp_path: Path
) -> None:
    row = {"doc_id": 0, "filtered_resps": "answer : 3", "input": "?", "target": "3"}
    assert "whose name does not tell its task" in refused(small, tmp_path / "log.jsonl", [row])
    said = refused(small, tmp_path / "samples_grid-open.jsonl", [row])
    assert "row 1: document 0: a sample of lmms-eval's task 'grid-open' without a query_id" in said
    assert "task 'x' is not evaluated" in refused(small, tmp_path / "samples_x.jsonl", [row])
