"""The checkpoint as a model of lmms-eval: what it takes, what it refuses, who finds it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.models import get_model
from PIL import Image

from tests.evaluation.conftest import RUN, TASKS, SmallSuite
from vista.errors import VistaError
from vista.evaluation.chat_model import VistaChatModel, is_query
from vista.evaluation.evaluate import evaluate
from vista.lmms.asking import Decoding, split_images
from vista.records import PREDICTION, QUERY, read_rows
from vista.verdicts import unmarked


def test_lmms_eval_finds_the_model_by_name() -> None:
    assert get_model("vista") is VistaChatModel


@pytest.mark.slow
def test_lmms_evals_own_command_line_gives_the_same_answers(small: SmallSuite, tmp_path: Path) -> None:
    evaluate(small.suite, small.paths, RUN)
    predictions = small.paths.predictions(RUN.id)
    task = TASKS[0]
    command = [sys.executable, "-m", "lmms_eval", "--model", "vista", "--tasks", task]
    command += ["--model_args", f"pretrained={small.paths.base(RUN.model)}", "--batch_size", "3"]
    command += ["--include_path", str(predictions.parent / "tasks")]
    command += ["--output_path", str(tmp_path / "out"), "--log_samples", "--verbosity", "DEBUG"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (log,) = (tmp_path / "out").rglob(f"*samples_{task}.jsonl")
    samples = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in read_rows(predictions, PREDICTION) if row["task"] == task]
    assert [s["query_id"] for s in samples] == [row["query_id"] for row in rows]
    said = [unmarked(s["filtered_resps"]) for s in samples]
    assert said == [(row["response"], row["finished"]) for row in rows]
    assert {row["finished"] for row in rows} == {True, False}
    assert [s["finished"] for s in samples] == [row["finished"] for row in rows]
    assert [s["score"] for s in samples] == [row["score"] for row in rows]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 8},
        {"max_new_tokens": 8, "do_sample": False, "temperature": 1.0, "until": ["\n\n"], "num_beams": 1},
        {"max_new_tokens": 8, "temperature": 0, "top_p": 1.0, "do_sample": True},
    ],
)
def test_greedy_settings_are_taken(settings: dict[str, Any]) -> None:
    assert Decoding.parse("t", settings).max_new_tokens == 8


@pytest.mark.parametrize(
    "settings",
    [{"do_sample": True}, {"temperature": 0.7}, {"do_sample": True, "temperature": 0.2}, {"num_beams": 4}],
)
def test_sampling_and_beams_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(VistaError, match="greedily"):
        Decoding.parse("t", {"max_new_tokens": 8, **settings})


@pytest.mark.parametrize("limit", [None, 0, "many"])
def test_a_task_without_a_length_limit_is_refused(limit: object) -> None:
    with pytest.raises(VistaError, match=r"task t: .*max_new_tokens"):
        Decoding.parse("t", {"max_new_tokens": limit})


def test_a_stop_string_finishes_a_response_that_the_limit_cuts_later() -> None:
    decoding = Decoding.parse("t", {"max_new_tokens": 8, "until": ["\n\n"]})
    assert decoding.ended("answer : 3\n\nso", False) == ("answer : 3", True)
    assert decoding.ended("answer : 3 so", False) == ("answer : 3 so", False)


@pytest.mark.parametrize(
    ("until", "expected"), [([], "a b\n\nc"), (["\n\n"], "a b"), (["c", " b"], "a"), ("b", "a ")]
)
def test_a_response_ends_at_the_first_stop_string(until: Any, expected: str) -> None:
    decoding = Decoding.parse("t", {"max_new_tokens": 8, "until": until})
    assert decoding.cut("a b\n\nc") == expected


def test_images_are_taken_out_of_the_turns_in_order(tmp_path: Path) -> None:
    file = tmp_path / "blue.png"
    Image.new("RGB", (2, 2), "blue").save(file)
    content = [
        {"type": "image", "url": Image.new("L", (2, 2))},
        {"type": "text", "text": "which ?"},
        {"type": "image", "url": str(file)},
    ]
    turns, images = split_images(
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": content}]
    )
    assert [part["type"] for turn in turns for part in turn["content"]] == ["text", "image", "text", "image"]
    assert [image.getpixel((0, 0)) for image in images] == [(0, 0, 0), (0, 0, 255)]


def test_video_is_refused() -> None:
    with pytest.raises(VistaError, match="video"):
        split_images([{"role": "user", "content": [{"type": "video", "url": "x.mp4"}]}])


def test_a_missing_image_file_is_refused() -> None:
    with pytest.raises(VistaError, match=r"gone\.png"):
        split_images([{"role": "user", "content": [{"type": "image", "url": "gone.png"}]}])


@pytest.mark.parametrize("batch_size", [0, "auto", -1])
def test_a_batch_size_must_be_a_positive_number(small: SmallSuite, batch_size: Any) -> None:
    with pytest.raises(VistaError, match="batch_size"):
        VistaChatModel(small.paths.base(RUN.model), batch_size=batch_size)


def test_a_launcher_with_several_processes_is_refused(
    small: SmallSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(VistaError, match="one process"):
        VistaChatModel(small.paths.base(RUN.model))


def test_the_checkpoint_folder_may_be_missing_but_not_silently(tmp_path: Path) -> None:
    with pytest.raises(VistaError, match="no such folder"):
        VistaChatModel(tmp_path / "nowhere")


def test_only_a_suites_queries_get_the_mark_of_a_cut_response(small: SmallSuite) -> None:
    query = read_rows(small.paths.queries(TASKS[0], "test"), QUERY)[0]
    for doc, expected in ((query, True), ({"query_id": "7", "question": "which ?", "answer": "x"}, False)):
        assert is_query(doc) is expected
