"""A model at a fake endpoint on this machine: asked as checkpoints are, cached, within its budget."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.endpoint import Answer, FakeEndpoint, completion, serving
from tests.evaluation.conftest import TASKS, SmallSuite, query
from tests.evaluation.test_own_tasks import with_own_tasks
from tests.own_tasks import write_task
from vista import chat
from vista.config import EndpointModel, Prompts
from vista.engines.endpoint import Endpoint, parsed
from vista.errors import VistaError
from vista.evaluation.ask import ask
from vista.evaluation.evaluate import evaluate
from vista.grid import Run, runs
from vista.manifest import read_manifest
from vista.records import PREDICTION, Row, read_rows

KEY, VARIABLE = "sk-the-key-of-this-test", "ENDPOINT_KEY_OF_THIS_TEST"
RUN = Run("gpt-x", "grids", "zero-shot", 0, 0)

Make = Callable[..., SmallSuite]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.setenv(VARIABLE, KEY)
    with serving() as fake:
        fake.script = right
        yield fake


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Endpoint.__init__
    monkeypatch.setattr(
        Endpoint, "__init__", lambda self, service, entry, _: before(self, service, entry, 0.001)
    )


@pytest.fixture
def at(small: SmallSuite, endpoint: FakeEndpoint, tmp_path: Path) -> Make:
    """The small suite with a model at the endpoint, whose entry may be changed."""

    def make(**changes: Any) -> SmallSuite:
        values = {"endpoint": endpoint.url, "model": "m", "cache": tmp_path / "cache", "max_requests": 100}
        entry = EndpointModel(kind="endpoint", api_key_variable=VARIABLE, **{**values, **changes})
        small.suite = small.suite.model_copy(update={"endpoints": {"gpt-x": entry}})
        return small

    return make


def number_in(text: str) -> int:
    return int("".join(filter(str.isdigit, text)))


def right(text: str, before: int) -> Answer:
    return 200, f"so answer: {number_in(text) % 10}", "stop"


def predicted(small: SmallSuite) -> list[Row]:
    ask(small.suite, small.paths, RUN)
    return read_rows(small.paths.predictions(RUN.id), PREDICTION)


def counts(small: SmallSuite) -> dict[str, float]:
    return read_manifest(small.paths.predictions(RUN.id)).counts


def forget(small: SmallSuite) -> None:
    """Remove the predictions and what was kept of them, but not the cache."""
    shutil.rmtree(small.paths.predictions(RUN.id).parent)


def test_every_query_is_asked_once_and_scored_as_a_checkpoints_answers_are(
    at: Make, endpoint: FakeEndpoint
) -> None:
    small = at()
    rows = predicted(small)
    asked = [q for task in TASKS for q in small.queries[task]]
    assert [row["query_id"] for row in rows] == [q["query_id"] for q in asked]
    assert {row["run"] for row in rows} == {RUN.id}
    assert all(row["score"] == 1.0 and row["finished"] for row in rows)
    assert [row["answer"] for row in rows] == [q["answer"] for q in asked]
    assert len(endpoint.requests) == counts(small)["requests"] == counts(small)["predictions"] == 24
    assert (counts(small)["unanswered"], counts(small)["unfinished"], counts(small)["refused"]) == (0, 0, 0)


def test_a_request_has_the_turns_of_the_query_and_the_images_bytes(at: Make, endpoint: FakeEndpoint) -> None:
    small = at()
    several = query(TASKS[0], 3)
    several["images"] = [*several["images"], *query(TASKS[0], 7)["images"]]
    small.write_queries(TASKS[0], [several])
    predicted(small)
    (body,) = [
        each for each in endpoint.requests if number_in(each["messages"][-1]["content"][-1]["text"]) == 3
    ]
    assert set(body) == {"model", "messages", "max_tokens", "temperature"}
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 8, 0)
    system, user = body["messages"]
    assert system == {"role": "system", "content": several["system"]}
    *images, text = user["content"]
    urls = [image["image_url"]["url"].split(",") for image in images]
    assert [kind for kind, _ in urls] == ["data:image/png;base64"] * 2
    assert [base64.b64decode(data) for _, data in urls] == [image["bytes"] for image in several["images"]]
    assert text == {"type": "text", "text": several["instruction"]}


def test_it_is_asked_as_its_prompts_say(at: Make, endpoint: FakeEndpoint) -> None:
    small = at(prompts=Prompts(system="Be brief.", suffix="Think.", answer_mark="I say"))
    endpoint.script = lambda text, before: (200, f"I say {number_in(text) % 10}", "stop")
    assert all(row["score"] == 1.0 for row in predicted(small))
    wanted = chat.prompted(small.queries[TASKS[0]][0], small.suite.endpoints["gpt-x"].prompts)
    assert wanted["instruction"] in endpoint.asked
    assert {body["messages"][0]["content"] for body in endpoint.requests} == {"Be brief."}
    forget(small)
    at(prompts=Prompts(system=""))
    predicted(small)
    assert all(len(body["messages"]) == 1 for body in endpoint.requests[24:])
    assert read_manifest(small.paths.predictions(RUN.id)).settings["prompts"] == {"system": ""}


def test_a_server_that_refuses_the_temperature_or_calls_the_limit_otherwise_is_asked_so(
    at: Make, endpoint: FakeEndpoint
) -> None:
    predicted(at(greedy=False, limit="max_completion_tokens"))
    assert {tuple(sorted(body)) for body in endpoint.requests} == {
        ("max_completion_tokens", "messages", "model")
    }


def test_predictions_made_again_from_the_cache_are_the_same_bytes_and_need_no_key(
    at: Make, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = at()
    predicted(small)
    first = small.paths.predictions(RUN.id).read_bytes()
    kept = counts(small)
    forget(small)
    endpoint.script = lambda text, before: (200, "answer: 0", "stop")
    monkeypatch.delenv(VARIABLE)
    predicted(small)
    assert small.paths.predictions(RUN.id).read_bytes() == first
    assert (kept["requests"], kept["sent"], kept["from_cache"]) == (24, 24, 0)
    assert counts(small) == {**kept, "requests": 0, "from_cache": 24}
    assert len(endpoint.requests) == 24


def test_what_was_answered_is_kept_task_by_task_without_the_cache(
    at: Make, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    small = at()
    predicted(small)
    shutil.rmtree(tmp_path / "cache")
    small.write_queries(TASKS[1], [query(TASKS[1], number) for number in range(40, 45)])
    predicted(small)
    assert len(endpoint.requests) == 24 + 5


@pytest.mark.parametrize("change", [{"greedy": False}, {"model": "n"}])
def test_other_settings_are_other_requests(at: Make, endpoint: FakeEndpoint, change: dict[str, Any]) -> None:
    predicted(at())
    predicted(at(**change))
    assert len(endpoint.requests) == 48


def test_another_endpoint_with_a_model_of_the_same_name_is_asked_itself(
    at: Make, endpoint: FakeEndpoint
) -> None:
    small = at()
    predicted(small)
    with serving() as other:
        other.script = lambda text, before: (200, "answer: 11", "stop")
        at(endpoint=other.url)
        assert {row["answer"] for row in predicted(small)} == {"11"}
        assert (len(endpoint.requests), len(other.requests)) == (24, 24)
    at(endpoint=f"{endpoint.url}/")
    forget(small)
    assert all(row["score"] == 1.0 for row in predicted(small))
    assert len(endpoint.requests) == 24, "a slash at the end is the same address"


def test_the_budget_holds_over_starts_and_says_what_is_left(
    at: Make, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    small = at(max_requests=5, parallel=1)
    for _ in range(2):
        with pytest.raises(VistaError) as caught:
            predicted(small)
        assert len(endpoint.requests) == 5
    cache = tmp_path / "cache"
    assert str(caught.value) == (
        f"model gpt-x: the budget of 5 requests is spent ({cache / 'gpt-x.sent'} lists them); 7 queries of "
        "task 'grid-open' are left, and those of the 12 of grid-noisy that are not in the cache. Every reply "
        f"is kept in {cache} and will not be asked for again: raise max_requests of gpt-x in models.yaml, or "
        "lower the tasks' sizes.test, and run again"
    )
    assert not small.paths.predictions(RUN.id).exists()
    at(max_requests=24)
    assert len(predicted(small)) == len(endpoint.requests) == 24


def test_two_train_sets_share_replies_and_budget(at: Make, endpoint: FakeEndpoint) -> None:
    small = at(max_requests=24)
    sets = {"grids": TASKS[:1], "others": TASKS[:1]}
    small.suite = small.suite.model_copy(update={"train_sets": sets})
    asked = [run for run in runs(small.suite) if run.model == "gpt-x"]
    assert len(asked) == 2
    for run in asked:
        ask(small.suite, small.paths, run)
    assert len(endpoint.requests) == 24


def test_a_reply_cut_at_the_limit_is_wrong_whatever_it_says(at: Make, endpoint: FakeEndpoint) -> None:
    endpoint.script = lambda text, before: (
        *right(text, before)[:2],
        "length" if number_in(text) % 2 else "stop",
    )
    small = at()
    for row in predicted(small):
        assert row["finished"] is (int(row["query_id"][-1]) % 2 == 0)
        assert row["score"] == float(row["finished"])
    assert (counts(small)["unfinished"], counts(small)["unanswered"]) == (12, 0)


# Message and reason, and whether the reply is finished and a refusal.
SILENT: list[tuple[dict[str, Any], str, bool, bool]] = [
    ({"content": None, "refusal": "I cannot. answer: 3"}, "stop", True, True),
    ({"content": "answer: 3"}, "content_filter", True, True),
    ({"content": None}, "stop", True, False),
    ({"content": ""}, "stop", True, False),
    ({"content": None, "tool_calls": []}, "tool_calls", True, False),
    ({"content": None, "reasoning_content": "answer: 3"}, "length", False, False),
]


def test_a_reply_that_says_nothing_is_an_unanswered_response_and_counted(
    at: Make, endpoint: FakeEndpoint
) -> None:
    def script(text: str, before: int) -> Answer:
        message, reason, *_ = SILENT[number_in(text) % len(SILENT)]
        return 200, completion(None, reason, message)

    endpoint.script = script
    small = at()
    for row in predicted(small):
        finished = SILENT[int(row["query_id"].split("/")[1]) % len(SILENT)][2]
        assert (row["response"], row["answer"], row["score"], row["finished"]) == ("", None, 0.0, finished)
    found = counts(small)
    assert (found["unanswered"], found["unfinished"], found["refused"]) == (24, 4, 8)


def test_manifests_count_tokens_and_say_who_answered(
    at: Make, endpoint: FakeEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    said = {"usage": usage, "model": "m-2026-01-01", "system_fingerprint": "fp_1"}
    endpoint.script = lambda text, before: (
        200,
        completion("answer: 1", **(said if number_in(text) % 2 else {})),
    )
    small = at()
    predicted(small)
    found = counts(small)
    assert (found["tokens"], found["prompt_tokens"], found["without_usage"]) == (84, 1200, 12)
    assert (found["served/m-2026-01-01"], found["served/m"], found["served_other"]) == (12, 12, 12)
    assert found["system_fingerprint/fp_1"] == 12
    assert "12 replies name another model than 'm': m-2026-01-01" in capsys.readouterr().err
    manifest = read_manifest(small.paths.predictions(RUN.id))
    assert manifest.device == endpoint.url
    assert manifest.settings["asking"] == {
        "endpoint": endpoint.url,
        "model": "m",
        "greedy": True,
        "limit": "max_tokens",
    }


@pytest.mark.parametrize("status", [429, 500])
def test_a_failure_that_may_pass_is_tried_again_and_each_request_counts(
    at: Make, endpoint: FakeEndpoint, status: int
) -> None:
    endpoint.script = lambda text, before: (status, "busy", "") if before < 2 else right(text, before)
    small = at()
    assert all(row["score"] == 1.0 for row in predicted(small))
    assert counts(small)["requests"] == len(endpoint.requests) == 72


@pytest.mark.parametrize("status", [400, 401, 307])
def test_a_refused_request_is_one_error_with_the_query_and_what_the_server_says(
    at: Make, endpoint: FakeEndpoint, status: int
) -> None:
    endpoint.script = lambda text, before: (
        (status, f"image too large for {KEY}", "") if number_in(text) == 1 else right(text, before)
    )
    small = at(parallel=1)
    with pytest.raises(VistaError, match=r"^query 'grid-open/1': http.* refuses the request") as caught:
        predicted(small)
    assert "image too large for …" in str(caught.value) or status == 307
    assert KEY not in str(caught.value)
    assert len(endpoint.requests) == 2, "not sent again, nor anything after it, nor anywhere else"
    endpoint.script = right
    assert len(predicted(small)) == 24
    assert len(endpoint.requests) == 25


def malformed() -> dict[str, bytes | dict[str, Any]]:
    whole = completion("answer: 1")
    return {
        "no JSON": b"<html>",
        "nothing": b"",
        "not UTF-8": b"\xff\xfe\x00",
        "half": json.dumps(whole).encode()[:50],
        "a list": b"[]",
        "a number": b"7",
        "too deep": b"[" * 100_000,
        "an error": {"error": {"message": "overloaded"}},
        "no choices": {**whole, "choices": []},
        "choices are null": {**whole, "choices": None},
        "choices are a text": {**whole, "choices": "answer: 1"},
        "no message": {**whole, "choices": [{"finish_reason": "stop"}]},
        "message is a text": {**whole, "choices": [{"message": "answer: 1"}]},
        "content is a list": completion([{"type": "text", "text": "answer: 1"}]),
        "content is a number": completion(1),
        "reason is a number": completion("answer: 1", 7),  # type: ignore[arg-type]
        "model is a list": {**whole, "model": []},
    }


@pytest.mark.parametrize("what", malformed())
def test_what_is_no_chat_completion_is_told_from_one(what: str) -> None:
    said = malformed()[what]
    text = said.decode(errors="replace") if isinstance(said, bytes) else json.dumps(said)
    assert parsed(text) is None


def test_a_reply_that_is_no_chat_completion_is_one_error_that_names_the_query(
    at: Make, endpoint: FakeEndpoint
) -> None:
    for number, said in enumerate((b"<html>", {"error": {"message": "overloaded"}}), 1):
        endpoint.script = lambda text, before, said=said: (200, said)
        with pytest.raises(
            VistaError, match=r"^query 'grid-open/0': http.* did not reply with a chat"
        ) as caught:
            predicted(at(parallel=1))
        assert len(endpoint.requests) == number
    assert "overloaded" in str(caught.value)


@pytest.mark.parametrize(
    "usage", [None, [], "7", {}, {"completion_tokens": "7"}, {"completion_tokens": True}]
)
def test_tokens_that_the_server_does_not_count_are_unknown(usage: Any) -> None:
    reply = parsed(json.dumps(completion("answer: 1", usage=usage)))
    assert reply is not None
    assert reply.tokens("completion") is None


def test_texts_that_no_file_can_hold_are_kept_readable(at: Make, endpoint: FakeEndpoint) -> None:
    odd = completion("half \ud83d answer: 1", model="m\x1b[31m\nx" + "y" * 500)
    endpoint.script = lambda text, before: (200, odd)
    small = at()
    assert {row["response"] for row in predicted(small)} == {"half \ufffd answer: 1"}
    (name,) = [name for name in counts(small) if name.startswith("served/")]
    assert name.isprintable()
    assert len(name) < 200


@pytest.mark.parametrize(
    "answer",
    [(200, "answer: 1", "stop"), (200, f"my key is {KEY}", "stop"), (401, f"wrong key {KEY}", "")],
    ids=str,
)
def test_the_key_stands_in_no_file_message_or_log(
    at: Make, endpoint: FakeEndpoint, tmp_path: Path, capfd: Any, answer: Answer
) -> None:
    endpoint.script = lambda text, before: answer
    small = at(parallel=1)
    with pytest.raises(VistaError) if answer[0] != 200 else nullcontext() as caught:
        predicted(small)
    assert caught is None or KEY not in str(caught.value)
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
    printed = capfd.readouterr()
    assert KEY not in printed.out + printed.err


def test_a_missing_key_is_named_before_anything_is_sent(
    at: Make, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(VistaError, match=rf"model gpt-x.api_key_variable: .*{VARIABLE} is not set"):
        predicted(at())
    assert endpoint.requests == []


def test_a_spoilt_reply_in_the_cache_is_named(at: Make, tmp_path: Path) -> None:
    small = at()
    predicted(small)
    forget(small)
    file = next((tmp_path / "cache").glob("*.json"))
    file.write_text('{"text": ')
    with pytest.raises(VistaError, match=rf"{file.name}: not a cached reply.*delete it"):
        predicted(small)


def test_an_image_that_cannot_be_read_is_named_before_it_is_sent(at: Make, endpoint: FakeEndpoint) -> None:
    small = at(parallel=1)
    broken = query(TASKS[0], 0) | {"images": [{"bytes": b"no image", "path": None}]}
    small.write_queries(TASKS[0], [broken])
    with pytest.raises(VistaError, match="query 'grid-open/0': image 0: corrupt image"):
        predicted(small)
    assert endpoint.requests == []


def test_missing_queries_are_named_before_anything_is_sent(at: Make, endpoint: FakeEndpoint) -> None:
    small = at()
    small.paths.queries(TASKS[1], "test").unlink()
    with pytest.raises(VistaError, match=r"grid-noisy/test\.parquet"):
        predicted(small)
    assert endpoint.requests == []


def test_each_command_says_which_the_other_is_for(at: Make) -> None:
    small = at()
    with pytest.raises(VistaError, match="gpt-x is at an endpoint and has no weights here; use `vista ask`"):
        evaluate(small.suite, small.paths, RUN)
    other = Run("nano-qwen2.5-vl", "grids", "zero-shot", 0, 0)
    with pytest.raises(VistaError, match=r"nano-qwen2\.5-vl is not at an endpoint; use `vista evaluate`"):
        ask(small.suite, small.paths, other)


def test_images_of_tasks_that_are_no_suites_are_sent_as_png(at: Make) -> None:
    from vista.evaluation.endpoint_model import _messages

    turns = [{"role": "user", "content": [{"type": "image", "url": Image.new("RGB", (2, 2), "red")}]}]
    ((part,),) = [turn["content"] for turn in _messages({"question": "?"}, turns)]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_task_of_lmms_evals_own_is_asked_and_scored_as_the_task_says(
    at: Make, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.script = lambda text, before: (
        right(text, before) if "which digit" not in text else (200, str(number_in(text)), "length")
    )
    small = at()
    with_own_tasks(small, write_task(tmp_path / "mine", "exact"), "exact")
    rows = [row for row in predicted(small) if row["task"] == "exact"]
    # The task does not know of the length limit: what was cut keeps its score, and is counted.
    assert [row["score"] for row in rows] == [1.0] * 6
    assert not any(row["finished"] for row in rows)
    found = read_manifest(small.paths.predictions(RUN.id)).counts
    assert (found["unfinished/exact"], found["accuracy/exact"]) == (6, 1.0)
    pictures = [part for message in endpoint.requests[-1]["messages"] for part in message["content"]]
    assert [part["type"] for part in pictures].count("image_url") == 1
