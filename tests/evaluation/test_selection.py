"""Test-time selection: candidates, the prompt to choose, the response that is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.evaluation.conftest import RUN, TASKS, WORDS, Script, ScriptedEngine, SmallSuite
from vista import chat
from vista.answers import extract, verify
from vista.config import SelectMethod, SelfImprovement, Wording
from vista.engines.base import Request
from vista.engines.checkpoints import load_checkpoint, save_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError
from vista.evaluation.answering import Selection
from vista.evaluation.evaluate import evaluate
from vista.grid import Run
from vista.manifest import Recorder, read_manifest
from vista.records import PREDICTION, Row, read_rows
from vista.seeding import derive_seed

SAID = Wording(select="{instruction}\n{candidates}\nwhich answer ?", candidate="{number} : {solution}")
TRAINED = Run(RUN.model, "grids", "r3v", 0, 2)
SELECTED = replace(TRAINED, method="r3v-select")


@pytest.fixture
def selecting(small: SmallSuite) -> SmallSuite:
    """Two queries of each task, and a checkpoint of r3v's second round."""
    methods: dict[str, Any] = {
        **small.suite.methods,
        "r3v": SelfImprovement(kind="self-improvement", rounds=2),
        "r3v-select": SelectMethod(kind="select", of="r3v", k=3, temperature=1.0),
    }
    changes = {"methods": methods, "wording": SAID, "eval_max_new_tokens": 24}
    small.suite = small.suite.model_copy(update=changes)
    for task in TASKS:
        small.write_queries(task, small.queries[task][:2])
    checkpoint = load_checkpoint(small.paths.base(RUN.model))
    folder = small.paths.trained(TRAINED.id)
    save_checkpoint(checkpoint.model, checkpoint.processor, folder)
    Recorder("training", {}, []).write(folder, {})
    return small


def run_and_read(small: SmallSuite, run: Run = SELECTED) -> list[Row]:
    evaluate(small.suite, small.paths, run)
    return read_rows(small.paths.predictions(run.id), PREDICTION)


def by_hand(small: SmallSuite, query: Row) -> tuple[str, bool, list[str]]:
    """One query at a time: three samples, the prompt with those that finished, a greedy response."""
    checkpoint = load_checkpoint(small.paths.trained(TRAINED.id))
    engine = HfEngine(checkpoint, 1)
    limit = small.suite.eval_max_new_tokens
    candidates = []
    for index in range(3):
        seed = derive_seed("candidate", TRAINED.id, query["query_id"], index)
        prompt = chat.encode_query(checkpoint.processor, query)
        ((sample,),) = engine.sample([Request(prompt, [seed])], 1.0, limit)
        if sample.finished:
            candidates.append(chat.decode(checkpoint.processor, sample.token_ids))
    if not candidates:
        return "", False, []
    lines = "\n".join(f"{n} : {text}" for n, text in enumerate(candidates, 1))
    asked = {**query, "instruction": f"{query['instruction']}\n{lines}\nwhich answer ?"}
    ((final,),) = engine.sample([Request(chat.encode_query(checkpoint.processor, asked), [0])], 0.0, limit)
    return chat.decode(checkpoint.processor, final.token_ids), final.finished, candidates


def test_the_response_is_the_greedy_choice_among_three_samples(selecting: SmallSuite) -> None:
    rows = run_and_read(selecting)
    queries = [query for task in TASKS for query in selecting.queries[task]]
    assert len(rows) == len(queries) == 4
    shown = []
    for row, query in zip(rows, queries, strict=True):
        response, finished, candidates = by_hand(selecting, query)
        shown.append(len(set(candidates)))
        expected = (query["query_id"], response, finished)
        assert (row["query_id"], row["response"], row["finished"]) == expected
        right = verify(extract(response), query["answer"], query["answer_type"])
        assert row["score"] == float(finished and right)
    assert max(shown) > 1, "three streams, so not thrice the same"
    assert min(shown) < 3, "some candidates were cut, and none is shown"
    assert {row["run"] for row in rows} == {SELECTED.id}


def test_the_choice_is_another_thing_than_the_greedy_response(selecting: SmallSuite) -> None:
    chosen, greedy = run_and_read(selecting), run_and_read(selecting, TRAINED)
    assert [row["response"] for row in chosen] != [row["response"] for row in greedy]


def test_results_do_not_depend_on_batches_or_company(
    selecting: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_and_read(selecting)
    monkeypatch.setattr("vista.evaluation.chat_model.POOL_BYTES", 1)
    selecting.suite = selecting.suite.model_copy(update={"eval_batch_size": 1})
    assert run_and_read(selecting) == whole
    selecting.write_queries(TASKS[0], selecting.queries[TASKS[0]][1:])
    assert run_and_read(selecting) == whole[1:]


def test_candidates_are_keyed_by_policy_query_and_index() -> None:
    selection = Selection("a-run", 3, 1.0, SAID)
    other = replace(selection, policy="another-run")
    seeds = {*selection.seeds("q1"), *selection.seeds("q2"), *other.seeds("q1")}
    assert len(seeds) == 9
    assert replace(selection, k=5).seeds("q1")[:3] == selection.seeds("q1")


def test_the_manifest_counts_candidates_and_names_the_settings(selecting: SmallSuite) -> None:
    rows = run_and_read(selecting)
    manifest = read_manifest(selecting.paths.predictions(SELECTED.id))
    assert manifest.counts["candidates"] == 3 * len(rows)
    words = sum(len(row["response"].split()) for row in rows)
    sampled = sum(len(text.split()) for q in selecting.queries[TASKS[0]] for text in by_hand(selecting, q)[2])
    assert manifest.counts["tokens"] > words + sampled
    assert manifest.settings["selection"] == {
        **{"policy": TRAINED.id, "k": 3, "temperature": 1.0},
        "wording": {"select": SAID.select, "candidate": SAID.candidate},
    }
    assert str(selecting.paths.trained(TRAINED.id)) in manifest.inputs


def test_a_checkpoint_without_positives_passes_its_status_on(selecting: SmallSuite) -> None:
    first = replace(SELECTED, round=1)
    selecting.finish_without_positives(replace(TRAINED, round=1))
    assert run_and_read(selecting, first) == []
    assert read_manifest(selecting.paths.predictions(first.id)).status == "no-positives"


def test_words_that_the_model_does_not_know_are_refused_before_any_work(selecting: SmallSuite) -> None:
    assert "Candidate" not in WORDS
    selecting.suite = selecting.suite.model_copy(update={"wording": Wording()})
    with pytest.raises(VistaError, match=r"wording\.select: 'Candidate', 'solutions:'"):
        evaluate(selecting.suite, selecting.paths, SELECTED)


def test_a_query_whose_candidates_were_all_cut_has_no_response(
    selecting: SmallSuite, script: Callable[[Script], type[ScriptedEngine]]
) -> None:
    def cut_where_zero_is_asked_for(prompt: str) -> str:
        return "answer : 0" + " so" * ("row 0" in prompt)

    engine = script(cut_where_zero_is_asked_for)
    first, second, *_ = run_and_read(selecting)
    assert (first["response"], first["answer"], first["finished"], first["score"]) == ("", None, False, 0.0)
    assert (second["response"], second["answer"], second["finished"]) == ("answer : 0", "0", True)
    counts = read_manifest(selecting.paths.predictions(SELECTED.id)).counts
    assert (counts[f"unfinished/{TASKS[0]}"], counts[f"unanswered/{TASKS[0]}"]) == (1, 1)
    assert len(engine.prompts) == 4 + 3, "candidates of four queries, a choice of three"


def test_candidates_take_the_place_of_the_last_text_that_lmms_eval_asks_with() -> None:
    image = {"type": "image", "url": "a.png"}
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "look"}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "first"}, image, {"type": "text", "text": "why ?"}],
        },
    ]
    selection = Selection("run", 3, 1.0, SAID)
    asked = selection.asking_turns(turns, ["a", "b"])
    (wanted,) = [selection.asking({"instruction": "why ?"}, ["a", "b"])["instruction"]]
    assert asked[1]["content"] == [*turns[1]["content"][:2], {"type": "text", "text": wanted}]
    assert asked[0] == turns[0]
    assert turns[1]["content"][2]["text"] == "why ?"


def test_a_document_without_text_is_refused() -> None:
    turns = [{"role": "user", "content": [{"type": "image", "url": "a.png"}]}]
    with pytest.raises(VistaError, match="without text has no instruction"):
        Selection("run", 3, 1.0, SAID).asking_turns(turns, ["a"])
