"""A teacher behind a fake endpoint on this machine: verified, cached, within its budget."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.endpoint import FakeEndpoint, completion, serving
from tests.nano import query
from vista.config import Suite, TeacherRationales
from vista.engines.endpoint import image_urls
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import read_queries
from vista.tasks.generate import generate_split
from vista.tasks.teacher import Teacher

KEY = "sk-secret-of-this-test"
VARIABLE = "TEACHER_KEY_OF_THIS_TEST"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.setenv(VARIABLE, KEY)
    with serving() as fake:
        yield fake


@pytest.fixture
def ask(endpoint: FakeEndpoint, tmp_path: Path) -> Callable[..., Teacher]:
    """Make teachers that share the test's cache."""

    def make(**changes: Any) -> Teacher:
        return Teacher(settings(endpoint, tmp_path, **changes), "task", pause=0.001)

    return make


def settings(endpoint: FakeEndpoint, folder: Path, **changes: Any) -> TeacherRationales:
    values = {"endpoint": endpoint.url, "model": "m", "cache": folder / "cache", "max_requests": 100}
    return TeacherRationales(kind="teacher", api_key_variable=VARIABLE, **{**values, **changes})


def queries(count: int) -> list[dict[str, Any]]:
    return [{**query(n), "instruction": f"question {n} ?"} for n in range(count)]


def right(number: int) -> dict[str, str]:
    return {f"q{number}": f"I look closely.\nanswer: {number % 10}"}


def number_of(text: str) -> int:
    return int(text.split()[1])


def knows_all(text: str, before: int) -> tuple[int, str | None, str]:
    return 200, right(number_of(text))[f"q{number_of(text)}"], "stop"


def test_the_first_right_reply_is_kept_and_wrong_ones_are_asked_again(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher]
) -> None:
    def script(text: str, before: int) -> tuple[int, str | None, str]:
        number = number_of(text)  # query n is solved at attempt n
        return 200, f"try {before}\nanswer: {number if before >= number else 'unknown'}", "stop"

    endpoint.script = script
    found = ask(attempts=3).rationales(queries(5))
    assert found == {f"q{n}": f"try {n}\nanswer: {n}" for n in range(3)}
    assert len(endpoint.requests) == 1 + 2 + 3 + 3 + 3


@pytest.mark.parametrize(
    ("reply", "reason"), [("answer: 0", "length"), (None, "stop"), ("0", "stop"), ("answer: 1", "stop")]
)
def test_a_reply_that_is_cut_empty_or_without_the_right_answer_is_not_kept(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher], reply: str | None, reason: str
) -> None:
    endpoint.script = lambda text, before: (200, reply, reason)
    assert ask(attempts=1).rationales(queries(1)) == {}


def test_a_request_holds_image_system_and_instruction_and_the_key_only_in_its_header(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher], tmp_path: Path
) -> None:
    endpoint.script = knows_all
    (asked,) = queries(1)
    ask(attempts=1, temperature=0.5, max_new_tokens=77).rationales([asked])
    (body,) = endpoint.requests
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.5, 77)
    system, user = body["messages"]
    assert system == {"role": "system", "content": asked["system"]}
    image, text = user["content"]
    kind, data = image["image_url"]["url"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == asked["images"][0]["bytes"]
    assert text["text"].startswith("question 0 ?\n")
    assert "answer: <the final answer>" in text["text"]
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 2  # the reply and the list of requests
    assert not any(KEY in path.read_text() for path in written)


def test_images_of_other_formats_are_sent_as_png() -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(query(0)["images"][0]["bytes"])).save(buffer, format="BMP")
    (url,) = image_urls({**query(0), "images": [{"bytes": buffer.getvalue(), "path": None}]})
    sent = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert (sent.format, sent.tobytes()) == ("PNG", Image.open(buffer).tobytes())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_photo_is_sent_upright_and_asks_nobody_to_turn_it(kind: str, orientation: int) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    sent = sent_as(Image.linear_gradient("L").resize((40, 20)).convert("RGB"), kind, exif=tag)
    assert sent.getexif().get(0x0112, 1) == 1
    assert sent.size == ((40, 20) if orientation < 5 else (20, 40))


def test_an_image_is_sent_as_the_model_is_shown_it() -> None:
    clear = sent_as(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "PNG")
    assert (clear.format, clear.mode, clear.getpixel((0, 0))) == ("PNG", "RGB", (255, 255, 255))
    deep = sent_as(Image.new("I;16", (2, 2), 0xFFF), "PNG")
    assert (deep.mode, deep.getpixel((0, 0))) == ("RGB", (255, 255, 255))
    print_colours = sent_as(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "JPEG", quality=100)
    assert (print_colours.format, print_colours.getpixel((0, 0))) == ("PNG", (255, 0, 0))
    film = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    still = sent_as(film[0], "GIF", save_all=True, append_images=film[1:])
    assert (still.format, still.getpixel((0, 0))) == ("PNG", (255, 0, 0))


def sent_as(picture: Image.Image, kind: str, **options: Any) -> Image.Image:
    """The image that the endpoint gets for an encoded one."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    (url,) = image_urls({**query(0), "images": [{"bytes": buffer.getvalue(), "path": None}]})
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_a_second_run_sends_nothing_and_needs_no_key(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.script = lambda text, before: knows_all(text, before) if number_of(text) else (200, "?", "stop")
    first = ask(attempts=2).rationales(queries(4))
    sent = len(endpoint.requests)
    assert sent == 4 + 1
    monkeypatch.delenv(VARIABLE)
    again = ask(attempts=2, max_requests=1, timeout=1.0, parallel=1)
    assert again.rationales(queries(4)) == first
    assert (len(endpoint.requests), again.replies.ledger.now) == (sent, 0)


@pytest.mark.parametrize("change", [{"temperature": 0.1}, {"model": "n"}, {"max_new_tokens": 9}])
def test_other_settings_are_other_requests(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher], change: dict[str, Any]
) -> None:
    endpoint.script = knows_all
    ask().rationales(queries(2))
    ask(**change).rationales(queries(2))
    assert len(endpoint.requests) == 4


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_that_may_pass_is_tried_again_and_each_request_counts(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher], status: int
) -> None:
    endpoint.script = lambda text, before: (status, "busy", "") if before < 3 else knows_all(text, before)
    teacher = ask(attempts=1, parallel=1)
    assert teacher.rationales(queries(2)) == right(0) | right(1)
    assert teacher.replies.ledger.now == len(endpoint.requests) == 8


def test_an_endpoint_that_stays_down_is_an_error_and_loses_nothing(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher]
) -> None:

    def script(text: str, before: int) -> tuple[int, str | None, str]:
        return (500, "down", "stop") if number_of(text) == 2 else knows_all(text, before)

    endpoint.script = script
    with pytest.raises(VistaError, match=r"failed 6 times in a row .*down.*run again"):
        ask(parallel=1).rationales(queries(3))
    endpoint.script = knows_all
    sent = len(endpoint.requests)
    assert len(ask(parallel=1).rationales(queries(3))) == 3
    assert len(endpoint.requests) == sent + 1


def test_a_refused_request_is_not_repeated_and_the_key_is_not_shown(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher]
) -> None:
    endpoint.script = lambda text, before: (401, f"wrong key {KEY}", "")
    with pytest.raises(VistaError, match=rf"refuses the request .*key in {VARIABLE}") as caught:
        ask(parallel=1).rationales(queries(3))
    assert KEY not in str(caught.value)
    assert len(endpoint.requests) == 1


def test_the_budget_stops_the_job_holds_over_restarts_and_can_be_raised(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher]
) -> None:
    endpoint.script = knows_all
    for _ in range(2):
        with pytest.raises(VistaError, match=r"budget of 3 requests .*3 of 5 queries have .*raise") as caught:
            ask(max_requests=3, parallel=1).rationales(queries(5))
        assert "max_requests" in str(caught.value)
        assert len(endpoint.requests) == 3
    assert len(ask(max_requests=5, parallel=3).rationales(queries(5))) == 5
    assert len(endpoint.requests) == 5


@pytest.mark.parametrize("parallel", [1, 4])
def test_the_budget_is_never_exceeded_not_even_by_repeated_requests(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher], parallel: int
) -> None:
    endpoint.script = lambda text, before: (500, "busy", "")
    with pytest.raises(VistaError, match="budget of 4 requests"):
        ask(max_requests=4, parallel=parallel).rationales(queries(9))
    assert len(endpoint.requests) == 4


def test_a_missing_key_is_named_before_anything_is_sent(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(VistaError, match=rf"api_key_variable.*{VARIABLE} is not set"):
        ask().rationales(queries(2))
    assert endpoint.requests == []


def test_a_spoilt_reply_in_the_cache_is_named(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher], tmp_path: Path
) -> None:
    endpoint.script = knows_all
    ask().rationales(queries(1))
    (file,) = (tmp_path / "cache").glob("*.json")
    file.write_text('{"text": ')
    with pytest.raises(VistaError, match=rf"{file.name}: not a cached reply.*delete it"):
        ask().rationales(queries(1))


def test_a_faulty_ground_truth_shows_before_anything_is_paid(
    endpoint: FakeEndpoint, ask: Callable[..., Teacher]
) -> None:
    with pytest.raises(VistaError, match="query 'q1': answer 'blue' is not a number"):
        ask().rationales([queries(1)[0], {**query(1), "answer": "blue"}])
    assert endpoint.requests == []


def test_a_job_killed_amid_requests_goes_on_where_it_was(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.script = knows_all
    answered = threading.Event()

    def hang_at_three(text: str, before: int) -> tuple[int, str | None, str]:
        if number_of(text) == 3:
            answered.set()
            released.wait(30)
        return knows_all(text, before)

    released = threading.Event()
    endpoint.script = hang_at_three
    made = settings(endpoint, tmp_path, parallel=1)
    code = (
        "import sys; from tests.tasks.test_teacher import queries; from vista.config import "
        "TeacherRationales; from vista.tasks.teacher import Teacher; "
        "Teacher(TeacherRationales.model_validate_json(sys.argv[1]), 'task').rationales(queries(6))"
    )
    job = subprocess.Popen([sys.executable, "-c", code, made.model_dump_json()], env=dict(os.environ))
    try:
        assert answered.wait(60)
        job.kill()
    finally:
        job.wait()
        released.set()
    endpoint.script = knows_all
    teacher = Teacher(made, "task")
    assert len(teacher.rationales(queries(6))) == 6
    assert teacher.replies.ledger.now == 3
    assert sum("question 3" in text for text in endpoint.asked) == 2
    assert all(sum(f"question {n}" in text for text in endpoint.asked) == 1 for n in (0, 1, 2, 4, 5))


def test_the_seed_split_says_who_wrote_it_and_what_stayed_without_a_rationale(
    endpoint: FakeEndpoint, suite: Suite, tmp_path: Path
) -> None:
    endpoint.script = lambda text, before: (200, completion("answer: yes", usage={"completion_tokens": 3}))
    with_teacher = suite.model_copy(update={"seed_rationales": settings(endpoint, tmp_path, attempts=1)})
    paths = Paths(tmp_path / "results")
    for split in ("seed", "train"):
        generate_split(with_teacher, paths, "grid-closed", split)
    rows = read_queries(paths.queries("grid-closed", "seed"))
    assert [row["rationale"] for row in rows] == [
        "answer: yes" if row["answer"] == "yes" else None for row in rows
    ]
    manifest = read_manifest(paths.queries("grid-closed", "seed"))
    assert manifest.counts["without_rationale"] == sum(row["answer"] == "no" for row in rows) > 0
    asked = manifest.counts
    assert asked["requests"] == asked["sent"] == len(endpoint.requests) == len(rows)
    generate_split(with_teacher, paths, "grid-closed", "seed")
    again = read_manifest(paths.queries("grid-closed", "seed")).counts
    assert again == {**asked, "requests": 0, "from_cache": len(rows)}
    assert (asked["tokens"], asked["prompt_tokens"], asked["without_usage"]) == (3 * len(rows), 0, 0)
    assert manifest.settings["seed_rationales"]["kind"] == "teacher"
    assert "seed_rationales" not in read_manifest(paths.queries("grid-closed", "train")).settings
