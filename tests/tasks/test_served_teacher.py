"""A teacher that is served for a suite: started, waited for, found by the jobs, ended; wherever it runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.endpoint import serving
from tests.tasks.test_teacher import queries, right
from vista.config import TeacherRationales, load_suite
from vista.dag import Dag
from vista.engines.endpoint import address_file
from vista.errors import VistaError
from vista.tasks.teacher import Teacher

KEY = "sk-secret-of-this-test"
VARIABLE = "TEACHER_KEY_OF_THIS_TEST"
PATIENCE = 120.0
# Stands in for vLLM: loads for a while, and then takes no other key.
VLLM = f"""#!{sys.executable}
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

here = Path(__file__).parent
(here / "words").write_text(json.dumps(sys.argv[1:]))
if (here / "broken").exists():
    sys.exit("CUDA error: no device")
looks = 0

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global looks
        looks += 1
        known = self.headers["Authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        self.say((200 if known else 401) if looks > 1 else 503, {{"data": []}})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with (here / "asked").open("a") as asked:
            asked.write("x")
        number = int(body["messages"][-1]["content"][-1]["text"].split()[1]) % 10
        turn = {{"role": "assistant", "content": f"I look closely.\\nanswer: {{number}}"}}
        self.say(200, {{"choices": [{{"index": 0, "message": turn, "finish_reason": "stop"}}]}})
    def say(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("0.0.0.0", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""

Serve = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the command that stands in for vLLM, the first on PATH; no GPU."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "vllm").write_text(VLLM)
    (folder / "vllm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("NO_PROXY", "*")
    return folder


@pytest.fixture
def suite(root: Path, tmp_path: Path) -> Path:
    """A suite whose teacher is left for a server of one's own."""
    value = yaml.safe_load((root / "config/smoke.yaml").read_text())
    teacher = {"kind": "teacher", "model": "org/big", "cache": str(tmp_path / "cache"), "max_requests": 100}
    value["seed_rationales"] = teacher | {"api_key_variable": VARIABLE}
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.fixture
def serve(root: Path, vllm: Path, suite: Path) -> Iterator[Serve]:
    """Start the script that Slurm runs; what it started ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = ["bash", "profiles/slurm/teacher.sbatch", str(suite), *words]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        started.append(
            subprocess.Popen(
                command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.wait()


def teacher(root: Path, suite: Path) -> TeacherRationales:
    found = load_suite(suite, root=root).seed_rationales
    assert isinstance(found, TeacherRationales)
    return found


def wait_for(file: Path, process: subprocess.Popen[str]) -> str:
    limit = time.monotonic() + PATIENCE
    while not file.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.05)
    return file.read_text().strip()


def test_the_jobs_find_a_teacher_that_was_served_and_a_new_address_asks_nothing_again(
    root: Path, serve: Serve, suite: Path, vllm: Path
) -> None:
    settings = teacher(root, suite)
    file = address_file(settings.cache)
    first = serve("--max-model-len", "8192")
    address = wait_for(file, first)
    words = json.loads((vllm / "words").read_text())
    assert words[:2] == ["serve", "org/big"]
    assert words[words.index("--generation-config") + 1] == "vllm"
    assert words[words.index("--tensor-parallel-size") + 1] == "1"
    assert words[-2:] == ["--max-model-len", "8192"]
    assert KEY not in " ".join(words)
    assert Teacher(settings, "task").rationales(queries(5)) == {
        k: v for n in range(5) for k, v in right(n).items()
    }

    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE) == 128 + signal.SIGTERM
    assert not file.exists()
    known = Teacher(settings, "task")
    assert len(known.rationales(queries(5))) == 5, "what is known needs no server"
    assert known.replies.ledger.now == 0

    assert wait_for(file, serve()) != address
    again = Teacher(settings, "task")
    assert len(again.rationales(queries(6))) == 6
    assert again.replies.ledger.now == 1
    assert (vllm / "asked").read_text() == "x" * 6


def test_a_server_that_dies_before_it_answers_hands_over_no_address(
    root: Path, serve: Serve, suite: Path, vllm: Path
) -> None:
    (vllm / "broken").touch()
    process = serve()
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert "CUDA error: no device" in said
    assert not address_file(teacher(root, suite).cache).exists()


def test_without_a_server_a_job_says_where_it_looked(
    root: Path, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    settings = teacher(root, suite)
    with pytest.raises(VistaError, match=f"{settings.cache}/address holds no address: no server is up"):
        Teacher(settings, "task").rationales(queries(1))
    settings.cache.mkdir(exist_ok=True)
    address_file(settings.cache).write_text("localhost")
    with pytest.raises(VistaError, match="holds no address"):
        Teacher(settings, "task").rationales(queries(1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"endpoint": "http://other:8000/v1"}, "seed_rationales.endpoint is http://other:8000/v1"),
        ({"kind": "self"}, "of kind self: no teacher to serve"),
        ({"api_key_variable": "NOT_SET_HERE"}, "NOT_SET_HERE is not set"),
    ],
)
def test_what_cannot_be_served_is_one_error(
    change: dict[str, str], said: str, serve: Serve, suite: Path
) -> None:
    value = yaml.safe_load(suite.read_text())
    own = change if "kind" in change else value["seed_rationales"] | change
    suite.write_text(yaml.safe_dump(value | {"seed_rationales": own}))
    process = serve()
    (line,) = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert process.returncode == 2
    assert said in line


def test_where_a_served_teacher_runs_is_in_no_digest(root: Path, suite: Path) -> None:
    dag = Dag(load_suite(suite, root=root))
    before = dag.task_settings("grid-closed", "seed")
    settings = teacher(root, suite)
    settings.cache.mkdir()
    address_file(settings.cache).write_text("http://node17:8000/v1\n")
    assert Dag(load_suite(suite, root=root)).task_settings("grid-closed", "seed") == before
    assert "endpoint" not in settings.model_dump()


def test_the_papers_teacher_is_asked_sixty_four_requests_at_a_time(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    papers = load_suite(root / "config/paper.yaml", root=root).seed_rationales
    assert isinstance(papers, TeacherRationales)
    assert papers.parallel == 64
    monkeypatch.setenv(VARIABLE, KEY)
    together = threading.Barrier(papers.parallel)

    def script(text: str, before: int) -> tuple[int, str | None, str]:
        together.wait(PATIENCE)  # broken unless all are on their way at once
        number = int(text.split()[1])
        return 200, right(number)[f"q{number}"], "stop"

    def asked(url: str, parallel: int, cache: str) -> tuple[dict[str, str], int]:
        changes = {"parallel": parallel, "endpoint": url, "cache": tmp_path / cache, "max_requests": 128}
        own = papers.model_copy(update={**changes, "api_key_variable": VARIABLE})
        found = Teacher(own, "task", pause=0.001)
        return found.rationales(queries(2 * papers.parallel)), found.replies.ledger.now

    with serving() as fake:
        fake.script = script
        many = asked(fake.url, papers.parallel, "many")
        fake.script = lambda text, before: (200, right(int(text.split()[1]))[f"q{text.split()[1]}"], "stop")
        assert many == asked(fake.url, 1, "one") == (many[0], 128)
    assert len(many[0]) == 128
