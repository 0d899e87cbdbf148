"""The evaluation of a checkpoint: what is written, what is checked, what is refused."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError

from tests.evaluation.conftest import RUN, TASKS, Script, ScriptedEngine, SmallSuite, query
from tests.starved import Starvation
from vista import chat
from vista.engines import checkpoints
from vista.engines.base import Request
from vista.engines.checkpoints import load_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError
from vista.evaluation.evaluate import evaluate, predictions
from vista.evaluation.harness import lone_process
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import manifest_of
from vista.records import PREDICTION, Row, read_rows
from vista.verdicts import solution_row

Install = Callable[[Script], type[ScriptedEngine]]


def number_in(prompt: str) -> int:
    """The number that the prompt asks for."""
    return int("".join(filter(str.isdigit, prompt)))


def mostly_right(prompt: str) -> str:
    """Right, but for every third question; every sixth gets no answer at all."""
    number = number_in(prompt)
    if number % 6 == 0:
        return "so look"
    return f"so answer : {number % 10 if number % 3 else 7}"


def run_and_read(small: SmallSuite) -> list[Row]:
    """Answer all tasks, whatever was kept, and read the predictions."""
    shutil.rmtree(small.paths.predictions(RUN.id).parent / ".tasks", ignore_errors=True)
    evaluate(small.suite, small.paths, RUN)
    return read_rows(small.paths.predictions(RUN.id), PREDICTION)


def test_the_reported_accuracy_is_a_recount_of_the_predictions(small: SmallSuite, script: Install) -> None:
    script(mostly_right)
    rows = run_and_read(small)
    counts = read_manifest(small.paths.predictions(RUN.id)).counts
    for task in TASKS:
        responses = {row["query_id"]: row["response"] for row in rows if row["task"] == task}
        right = [responses[q["query_id"]].endswith(f": {q['answer']}") for q in small.queries[task]]
        assert 0 < sum(right) < 12
        assert counts[f"accuracy/{task}"] == pytest.approx(sum(right) / 12)
        assert [bool(row["score"]) for row in rows if row["task"] == task] == right
    assert counts["predictions"] == 24
    assert counts["tokens"] == sum(len(row["response"].split()) for row in rows)


def test_every_query_has_one_prediction_in_order_with_its_cluster_and_answer(
    small: SmallSuite, script: Install
) -> None:
    script(mostly_right)
    rows = run_and_read(small)
    expected = [q for task in TASKS for q in small.queries[task]]
    for name in ("task", "query_id", "cluster_id"):
        assert [row[name] for row in rows] == [q[name] for q in expected]
    assert {row["run"] for row in rows} == {RUN.id}
    assert rows[0]["answer"] is None  # no answer was found in it
    assert rows[0]["response"] == "so look"
    assert rows[1]["answer"] == "1"


def test_queries_of_unequal_lengths_share_a_batch_and_get_the_same_answers(
    small: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    decode = HfEngine._decode

    def noted(self: HfEngine, prefill: Any, drawn: Any, *more: Any) -> Any:
        sizes.append(len(drawn))
        return decode(self, prefill, drawn, *more)

    monkeypatch.setattr(HfEngine, "_decode", noted)
    rows, equal = run_and_read(small), len(sizes)
    shutil.rmtree(small.paths.predictions(RUN.id).parent)
    sizes.clear()
    evaluate(small.suite.model_copy(update={"padding": True, "eval_batch_size": 64}), small.paths, RUN)
    assert read_rows(small.paths.predictions(RUN.id), PREDICTION) == rows
    assert len(sizes) == len(TASKS) < equal, "tasks share no batch"


def test_a_response_cut_at_the_limit_is_wrong_whatever_it_says(small: SmallSuite, script: Install) -> None:
    script(lambda prompt: f"so answer : {number_in(prompt) % 10}" + " so" * (number_in(prompt) % 2))
    rows = run_and_read(small)
    for row in rows:
        assert row["finished"] is (int(row["query_id"][-1]) % 2 == 0)
        assert row["response"] == f"so answer : {row['query_id'][-1]}", "no mark is left in what is recorded"
        assert row["answer"] == row["query_id"][-1]
        assert row["score"] == float(row["finished"])
    counts = read_manifest(small.paths.predictions(RUN.id)).counts
    for task in TASKS:
        assert counts[f"accuracy/{task}"] == 0.5, "lmms-eval's own aggregate agrees"
        assert (counts[f"unfinished/{task}"], counts[f"unanswered/{task}"]) == (6, 0)
    assert (counts["unfinished"], counts["unanswered"]) == (12, 0)


def test_the_verdicts_of_sampling_and_evaluation_agree_at_the_limit(small: SmallSuite) -> None:
    rows = run_and_read(small)
    checkpoint = load_checkpoint(small.paths.base(RUN.model))
    engine = HfEngine(checkpoint, 5)
    queries = {q["query_id"]: q for task in TASKS for q in small.queries[task]}
    assert {row["finished"] for row in rows} == {True, False}
    for row in rows:
        query = queries[row["query_id"]]
        prompt = chat.encode_query(checkpoint.processor, query)
        ((sample,),) = engine.sample([Request(prompt, [0])], 0.0, small.suite.eval_max_new_tokens)
        solution = solution_row(checkpoint.processor, query, sample, source="sample", index=0, seed=0)
        verdict = (solution["answer"], solution["finished"], float(solution["correct"]))
        assert (row["answer"], row["finished"], row["score"]) == verdict


def test_a_cut_response_that_loses_its_mark_on_the_way_fails_the_evaluation(
    small: SmallSuite, script: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(lambda prompt: "so answer : 3 so")
    monkeypatch.setattr("vista.evaluation.chat_model.marked", lambda text, finished: text)
    with pytest.raises(RuntimeError, match=r"12 responses were cut at the length limit, but .* scored 0"):
        evaluate(small.suite, small.paths, RUN)
    assert not small.paths.predictions(RUN.id).exists()


def test_a_turn_that_the_chat_template_refuses_is_reported_with_the_query(
    small: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> str:
        raise TemplateError("System role not supported")

    monkeypatch.setattr("vista.chat._template_text", refuses)
    with pytest.raises(VistaError, match=r"query 'grid-.*System role not supported"):
        evaluate(small.suite, small.paths, RUN)


def test_responses_without_an_answer_are_counted(small: SmallSuite, script: Install) -> None:
    script(mostly_right)
    rows = run_and_read(small)
    counts = read_manifest(small.paths.predictions(RUN.id)).counts
    for task in TASKS:
        none = [row for row in rows if row["task"] == task and row["answer"] is None]
        assert counts[f"unanswered/{task}"] == len(none) > 0
    assert (counts["unanswered"], counts["unfinished"]) == (4, 0)


def test_a_query_that_the_processor_refuses_is_named(small: SmallSuite) -> None:
    broken = [query(TASKS[0], number) for number in range(3)]
    broken[2]["instruction"] += " <|image_pad|>"
    small.write_queries(TASKS[0], broken)
    with pytest.raises(VistaError, match=r"query 'grid-open/2': the processor refuses its prompt"):
        evaluate(small.suite, small.paths, RUN)


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "qwen3-vl", "internvl"])
def test_prompts_are_those_of_sampling_and_training(
    small: SmallSuite, script: Install, architecture: Any
) -> None:
    folder = small.save_base(architecture)
    engine = script(mostly_right)
    evaluate(small.suite, small.paths, RUN)
    processor = load_checkpoint(folder).processor
    queries = [q for task in TASKS for q in small.queries[task]]
    expected = [chat.encode_query(processor, q).input_ids for q in queries]
    assert sorted(engine.prompts) == sorted(expected)


def test_results_do_not_depend_on_batch_size_or_memory(
    small: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_and_read(small)
    assert len({row["response"] for row in whole}) > 1
    small.suite = small.suite.model_copy(update={"eval_batch_size": 1})
    assert run_and_read(small) == whole
    monkeypatch.setattr("vista.evaluation.chat_model.POOL_BYTES", 1)
    small.suite = small.suite.model_copy(update={"eval_batch_size": 3})
    assert run_and_read(small) == whole


def test_changed_queries_are_read_anew(small: SmallSuite, script: Install) -> None:
    script(lambda prompt: f"answer : {number_in(prompt) % 10}")
    before = run_and_read(small)
    task = TASKS[0]
    small.write_queries(task, [{**q, "answer": "11"} for q in small.queries[task]])
    after = run_and_read(small)
    assert [row["score"] for row in before] == [1.0] * 24
    assert [row["score"] for row in after] == [0.0] * 12 + [1.0] * 12


def test_a_failing_engine_fails_the_evaluation_and_writes_nothing(small: SmallSuite, script: Install) -> None:
    def broken(prompt: str) -> str:
        raise ValueError("out of memory, say")

    script(broken)
    with pytest.raises(ValueError, match="out of memory, say"):
        evaluate(small.suite, small.paths, RUN)
    assert not small.paths.predictions(RUN.id).exists()


def test_an_engine_that_loses_a_response_fails_the_evaluation(
    small: SmallSuite, script: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = script(mostly_right)
    whole = engine.sample
    monkeypatch.setattr(engine, "sample", lambda *args, **kwargs: whole(*args, **kwargs)[:-1])
    with pytest.raises(ValueError, match="shorter"):
        evaluate(small.suite, small.paths, RUN)


def test_an_error_in_scoring_names_the_query_at_once(small: SmallSuite, script: Install) -> None:
    script(mostly_right)
    broken = [query(TASKS[0], number) for number in range(3)]
    broken[1]["answer"] = ""
    small.write_queries(TASKS[0], broken)
    with pytest.raises(VistaError, match=r"grid-open/1.*answer is empty"):
        evaluate(small.suite, small.paths, RUN)


def test_a_corrupt_image_names_the_query(small: SmallSuite, script: Install) -> None:
    script(mostly_right)
    broken = [query(TASKS[0], number) for number in range(3)]
    broken[2]["images"] = [{"bytes": b"no image", "path": None}]
    small.write_queries(TASKS[0], broken)
    with pytest.raises(VistaError, match=r"grid-open/2.*corrupt"):
        evaluate(small.suite, small.paths, RUN)


def test_duplicate_query_ids_are_refused(small: SmallSuite) -> None:
    small.write_queries(TASKS[1], [query(TASKS[1], 1), query(TASKS[1], 1)])
    with pytest.raises(VistaError, match="must be unique"):
        evaluate(small.suite, small.paths, RUN)


def test_a_prompt_beyond_the_context_is_refused(small: SmallSuite) -> None:
    small.suite = small.suite.model_copy(update={"eval_max_new_tokens": 2000})
    with pytest.raises(VistaError, match=r"grid-open/0.*context"):
        evaluate(small.suite, small.paths, RUN)


def test_a_missing_checkpoint_is_refused(small: SmallSuite) -> None:
    with pytest.raises(VistaError, match=r"sft-seed.*rerun"):
        evaluate(small.suite, small.paths, Run(RUN.model, "grids", "sft-seed", 0, 0))


def test_a_checkpoint_without_weights_is_refused(small: SmallSuite) -> None:
    (small.paths.base(RUN.model) / "model.safetensors").unlink()
    with pytest.raises(VistaError, match="safetensors"):
        evaluate(small.suite, small.paths, RUN)


def test_a_run_without_positives_passes_its_status_on(small: SmallSuite) -> None:
    run = Run(RUN.model, "grids", "vista-sft", 0, 1)
    small.finish_without_positives(run)
    evaluate(small.suite, small.paths, run)
    output = small.paths.predictions(run.id)
    assert read_rows(output, PREDICTION) == []
    assert read_manifest(output).status == "no-positives"


def test_a_launchers_environment_is_put_aside_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    with lone_process():
        assert "RANK" not in os.environ
        assert os.environ["TRANSFORMERS_OFFLINE"] == "1"
    assert os.environ["RANK"] == "3"
    assert "TRANSFORMERS_OFFLINE" not in os.environ


def report(scores: list[float], accuracy: float) -> dict[str, Any]:
    """What lmms-eval would report of one task."""
    samples = [
        {"query_id": f"q{i}", "cluster_id": "c", "filtered_resps": ["r"], "extracted": None, "score": score}
        for i, score in enumerate(scores)
    ]
    return {"samples": {"t": samples}, "results": {"t": {"accuracy,none": accuracy}}}


def test_predictions_come_in_the_order_of_the_queries() -> None:
    rows = predictions("run", "t", ["q2", "q0", "q1"], report([0.0, 1.0, 1.0], 2 / 3))
    assert [(row["query_id"], row["score"]) for row in rows] == [("q2", 1.0), ("q0", 0.0), ("q1", 1.0)]


def test_an_aggregate_that_is_not_the_mean_is_refused() -> None:
    with pytest.raises(RuntimeError, match="mean"):
        predictions("run", "t", ["q0", "q1"], report([0.0, 1.0], 0.75))


@pytest.mark.parametrize("query_ids", [["q0"], ["q0", "q1", "q2"], ["q0", "other"]])
def test_a_missing_or_foreign_prediction_is_refused(query_ids: list[str]) -> None:
    with pytest.raises(RuntimeError, match="test queries"):
        predictions("run", "t", query_ids, report([0.0, 1.0], 0.5))


def test_a_doubled_prediction_is_refused() -> None:
    doubled = copy.deepcopy(report([0.0, 1.0], 0.5))
    doubled["samples"]["t"].append(doubled["samples"]["t"][0])
    with pytest.raises(RuntimeError, match="3 samples of 2 queries"):
        predictions("run", "t", ["q0", "q1"], doubled)


def test_the_manifest_names_checkpoint_and_queries(small: SmallSuite, script: Install) -> None:
    script(mostly_right)
    evaluate(small.suite, small.paths, RUN)
    manifest = read_manifest(small.paths.predictions(RUN.id))
    wanted = [small.paths.base(RUN.model), *(small.paths.queries(task, "test") for task in TASKS)]
    assert set(manifest.inputs) == {str(path) for path in wanted}
    assert manifest_of(Path(manifest.output)).name == "predictions.parquet.manifest.json"


def test_predictions_are_the_same_where_few_queries_fit_at_once(
    small: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.save_base()
    small.suite = small.suite.model_copy(update={"eval_batch_size": 24})
    for task in TASKS:
        small.write_queries(task, [query(task, number) for number in range(10, 22)])
    expected = run_and_read(small)
    starved, wrap = Starvation(rows=8), checkpoints.wrap
    monkeypatch.setattr(checkpoints, "wrap", lambda *loaded: starved.of(wrap(*loaded)))
    assert run_and_read(small) == expected
    assert starved.failures >= 1
    starved.rows = 0
    with pytest.raises(VistaError, match=r"query '.*': out of memory while sampling, even one at a time"):
        run_and_read(small)
