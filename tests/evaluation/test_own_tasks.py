"""lmms-eval's own tasks: asked and scored by lmms-eval, and kept as predictions like all others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.evaluation.conftest import RUN, TASKS, Script, ScriptedEngine, SmallSuite
from tests.own_tasks import DIGITS, SCORED, documents, write_task
from vista.analysis.collect import collect, read_long
from vista.analysis.runs import own_tasks_note
from vista.config import Prompts
from vista.errors import VistaError
from vista.evaluation.evaluate import evaluate
from vista.manifest import read_manifest
from vista.records import PREDICTION, QUERY, Row, read_rows
from vista.task_kinds.lmms_eval import LmmsEvalSettings
from vista.tasks.generate import generate_split

PARSED = """
generation_kwargs: {max_new_tokens: 4}
process_results: !function utils.parsed
metric_list:
  - {metric: parsed_acc, aggregation: !function utils.parsed_acc, higher_is_better: true}
"""
Install = Callable[[Script], type[ScriptedEngine]]


def with_own_tasks(small: SmallSuite, folder: Path, *names: str, **more: Any) -> None:
    """Give the small suite tasks of a folder, and write their queries."""
    entries = {
        name: LmmsEvalSettings(kind="lmms-eval", task=name, include_path=folder, **more) for name in names
    }
    changes = {"tasks": {**small.suite.tasks, **entries}, "out_of_domain": [*TASKS[1:], *names]}
    small.suite = small.suite.model_copy(update=changes)
    for name in names:
        generate_split(small.suite, small.paths, name, "test")


def answers(small: SmallSuite, task: str) -> list[Row]:
    rows = read_rows(small.paths.predictions(RUN.id), PREDICTION)
    return [row for row in rows if row["task"] == task]


def counts(small: SmallSuite) -> dict[str, float]:
    return read_manifest(small.paths.predictions(RUN.id)).counts


def said_row(prompt: str) -> str:
    """The digit that is asked about, if it is below four."""
    digit = prompt.split("row")[-1].split()[0]
    return digit if int(digit) < 4 else "no"


def test_a_task_is_asked_with_its_own_prompt_and_scored_by_its_own_metric(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    engine = script(lambda prompt: said_row(prompt) if "grid" not in prompt else "answer : 1")
    with_own_tasks(small, write_task(tmp_path / "mine", "exact"), "exact")
    evaluate(small.suite, small.paths, RUN)
    rows = answers(small, "exact")
    assert [row["score"] for row in rows] == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert [row["response"] for row in rows] == ["0", "1", "2", "3", "no", "no"]
    assert {row["answer"] for row in rows} == {None}  # the metric does not tell
    assert [row["cluster_id"] for row in rows][::2] == [row["cluster_id"] for row in rows][1::2]
    found = counts(small)
    assert found["accuracy/exact"] == found["lmms_eval/exact"] == pytest.approx(4 / 6)
    assert "unanswered/exact" not in found
    assert len(engine.prompts) == 24 + DIGITS


def test_what_only_the_aggregate_can_score_is_scored_one_response_at_a_time(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    script(lambda prompt: said_row(prompt) if "grid" not in prompt else "answer : 1")
    with_own_tasks(small, write_task(tmp_path / "mine", "parsed", PARSED), "parsed")
    evaluate(small.suite, small.paths, RUN)
    rows = answers(small, "parsed")
    assert [row["score"] for row in rows] == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert [row["answer"] for row in rows] == ["0", "1", "2", "3", "no", "no"]
    assert counts(small)["unanswered/parsed"] == 0


def test_an_answer_that_the_task_looks_for_and_does_not_find_is_counted(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    script(lambda prompt: "answer : 1" if "grid" in prompt else "")
    with_own_tasks(small, write_task(tmp_path / "mine", "parsed", PARSED), "parsed")
    evaluate(small.suite, small.paths, RUN)
    assert counts(small)["unanswered/parsed"] == DIGITS
    assert {row["answer"] for row in answers(small, "parsed")} == {None}


@pytest.mark.parametrize("pictures", [0, 2])
def test_a_document_is_asked_with_all_its_pictures_or_none(
    small: SmallSuite, tmp_path: Path, script: Install, pictures: int
) -> None:
    engine = script(lambda prompt: "answer : 1" if "grid" in prompt else said_row(prompt))
    with_own_tasks(small, write_task(tmp_path / "mine", "pictured", pictures=pictures), "pictured")
    evaluate(small.suite, small.paths, RUN)
    queries = read_rows(small.paths.queries("pictured", "test"), QUERY)
    assert [len(query["images"]) for query in queries] == [pictures] * DIGITS
    tokenizer = engine.tokenizer_of
    marks = [tokenizer.decode(ids).count("<|vision_start|>") for ids in engine.prompts[-DIGITS:]]
    assert marks == [pictures] * DIGITS
    clusters = {row["cluster_id"] for row in answers(small, "pictured")}
    assert len(clusters) == (DIGITS // 2 if pictures else DIGITS)


def test_a_response_ends_at_the_tasks_stop_and_one_that_was_cut_keeps_its_score(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    said = {0: "0 no so", 1: "1 so", 2: "2", 3: "3 yes no", 4: "yes so", 5: "no"}
    script(lambda prompt: "answer : 1" if "grid" in prompt else said[int(prompt.split("row")[-1].split()[0])])
    stops = SCORED.replace("max_new_tokens: 4", 'max_new_tokens: 4, until: [" yes", " no"]')
    with_own_tasks(small, write_task(tmp_path / "mine", "stops", stops), "stops")
    evaluate(small.suite, small.paths, RUN)
    rows = answers(small, "stops")
    assert [row["response"] for row in rows] == ["0", "1", "2", "3", "yes", "no"]
    assert [row["finished"] for row in rows] == [True, False, True, True, False, True]
    assert [row["score"] for row in rows] == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert counts(small)["unfinished/stops"] == 2


@pytest.mark.parametrize(("own", "limit"), [(4, 4), (4000, 8)])
def test_a_response_is_as_long_as_the_task_allows_but_no_longer_than_the_suite_does(
    small: SmallSuite, tmp_path: Path, script: Install, monkeypatch: pytest.MonkeyPatch, own: int, limit: int
) -> None:
    limits = set()
    engine = script(lambda prompt: "answer : 1")
    sample = engine.sample

    def noting(self: Any, requests: Any, temperature: float, max_new_tokens: int) -> Any:
        limits.add(max_new_tokens)
        return sample(self, requests, temperature, max_new_tokens)

    monkeypatch.setattr(engine, "sample", noting)
    text = SCORED.replace("max_new_tokens: 4", f"max_new_tokens: {own}")
    with_own_tasks(small, write_task(tmp_path / "mine", "long", text), "long")
    evaluate(small.suite, small.paths, RUN)
    assert limits == {8, limit}


def test_a_response_is_kept_whole_where_the_task_cuts_reasoning_out_of_it(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    script(lambda prompt: "answer : 1" if "grid" in prompt else f"so yes {said_row(prompt)}")
    text = 'reasoning_tags: [["so", "yes"]]\n' + SCORED
    with_own_tasks(small, write_task(tmp_path / "mine", "thinks", text), "thinks")
    evaluate(small.suite, small.paths, RUN)
    rows = answers(small, "thinks")
    assert [row["response"] for row in rows] == [f"so yes {each}" for each in (0, 1, 2, 3, "no", "no")]
    assert [row["score"] for row in rows] == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]


def test_another_task_is_all_that_is_asked_and_an_edited_one_is_asked_again(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    engine = script(lambda prompt: "answer : 1" if "grid" in prompt else said_row(prompt))
    evaluate(small.suite, small.paths, RUN)
    folder = write_task(tmp_path / "mine", "exact")
    with_own_tasks(small, write_task(folder, "parsed", PARSED), "exact", "parsed")
    engine.prompts.clear()
    evaluate(small.suite, small.paths, RUN)
    assert len(engine.prompts) == 2 * DIGITS
    engine.prompts.clear()
    evaluate(small.suite, small.paths, RUN)
    assert engine.prompts == []
    file = folder / "exact.yaml"
    file.write_text(file.read_text().replace("max_new_tokens: 4", "max_new_tokens: 3"))
    generate_split(small.suite, small.paths, "exact", "test")
    evaluate(small.suite, small.paths, RUN)
    assert len(engine.prompts) == DIGITS


def test_a_task_whose_code_was_edited_since_its_queries_were_made_is_refused(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    script(lambda prompt: "answer : 1")
    folder = write_task(tmp_path / "mine", "exact")
    with_own_tasks(small, folder, "exact")
    code = folder / "utils.py"
    code.write_text(code.read_text().replace("float(results", "1 - float(results"))
    with pytest.raises(VistaError, match=r"exact\.yaml, or code that it names, has changed"):
        evaluate(small.suite, small.paths, RUN)


def test_documents_that_are_not_those_of_the_queries_are_refused(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    script(lambda prompt: "answer : 1")
    folder = write_task(tmp_path / "mine", "exact")
    with_own_tasks(small, folder, "exact")
    documents(pictures=1, count=DIGITS - 1).to_parquet(folder / "exact.parquet")
    with pytest.raises(VistaError, match=r"is not the one that .*exact/test\.parquet .*has 5 documents"):
        evaluate(small.suite, small.paths, RUN)
    rows = documents().to_list()
    rows[3]["answer"] = "7"
    datasets.Dataset.from_list(rows, features=documents().features).to_parquet(folder / "exact.parquet")
    with pytest.raises(VistaError, match="document 3 differs"):
        evaluate(small.suite, small.paths, RUN)


def test_only_the_first_documents_are_asked_where_the_sizes_say_so(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    script(lambda prompt: "answer : 1" if "grid" in prompt else said_row(prompt))
    with_own_tasks(small, write_task(tmp_path / "mine", "exact"), "exact", sizes={"test": 5})
    evaluate(small.suite, small.paths, RUN)
    assert [row["score"] for row in answers(small, "exact")] == [1.0, 1.0, 1.0, 1.0, 0.0]


def test_the_suites_prompts_do_not_change_what_a_task_asks(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    engine = script(lambda prompt: "answer : 1" if "grid" in prompt else said_row(prompt))
    with_own_tasks(small, write_task(tmp_path / "mine", "exact"), "exact")
    model = small.suite.models[RUN.model]
    asked = model.model_copy(update={"prompts": Prompts(system="look", suffix="so yes")})
    small.suite = small.suite.model_copy(update={"models": {**small.suite.models, RUN.model: asked}})
    evaluate(small.suite, small.paths, RUN)
    shown = [engine.tokenizer_of.decode(ids, skip_special_tokens=True) for ids in engine.prompts]
    assert all("so yes" in text for text in shown[:-DIGITS])
    assert not any("so yes" in text or "look" in text for text in shown[-DIGITS:])


def test_its_scores_stand_in_the_long_table_with_clusters_and_what_is_not_told_is_not_counted(
    small: SmallSuite, tmp_path: Path, script: Install
) -> None:
    script(lambda prompt: "answer : 1" if "grid" in prompt else "" if "row 5" in prompt else said_row(prompt))
    folder = write_task(tmp_path / "mine", "exact")
    with_own_tasks(small, write_task(folder, "parsed", PARSED), "exact", "parsed")
    suite = small.suite
    only = {
        "models": {RUN.model: suite.models[RUN.model]},
        "methods": {RUN.method: suite.methods[RUN.method]},
        "swept": {},
        "only": {},
        "seeds": [0],
    }
    small.suite = suite.model_copy(update=only)
    evaluate(small.suite, small.paths, RUN)
    collect(small.suite, small.paths)
    long = read_long(small.paths.long)
    own = {task: long[long["task"] == task] for task in ("exact", "parsed")}
    assert [len(rows) for rows in own.values()] == [DIGITS, DIGITS]
    assert {task: int(rows["unanswered"].sum()) for task, rows in own.items()} == {"exact": 0, "parsed": 1}
    assert own["exact"]["cluster_id"].nunique() == DIGITS // 2
    (note,) = own_tasks_note(small.suite)
    assert (
        "exact, parsed as its own tasks: with the task's prompt, so without our mark before answers" in note
    )
    assert own_tasks_note(suite.model_copy(update={"out_of_domain": TASKS[1:]})) == []
