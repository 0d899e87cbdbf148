"""Where everything is local, no stage touches the network; and none ever unpickles anything.

Every command runs on a minimal suite under a guard that refuses, and writes down, whatever leaves
this machine, and writes down what an unpickler looks up (tests/offline/).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "WANDB_MODE")
NAMESPACE = ("unshare", "--map-root-user", "--net")  # a network namespace with no way out


def guarded(root: Path, attempts: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command under the guard, with none of the variables set that tell libraries to stay offline."""
    environment = {name: value for name, value in os.environ.items() if name not in OFFLINE_VARIABLES}
    environment |= {"PYTHONPATH": f"{root / 'tests/offline'}:{root}", "NETWORK_ATTEMPTS": str(attempts)}
    environment["UNPICKLED"] = str(attempts.with_name("unpickled"))
    attempts.touch()
    attempts.with_name("unpickled").touch()
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def namespace() -> tuple[str, ...]:
    """A command that runs another without a network; nothing where users may not make a namespace."""
    try:
        may = subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        may = False
    return NAMESPACE if may else ()


@pytest.mark.slow
def test_no_stage_unpickles_or_tries_the_network_though_nobody_told_it_not_to(
    root: Path, tmp_path: Path
) -> None:
    attempts = tmp_path / "attempts"
    script = str(root / "tests/offline/every_stage.py")
    done = guarded(root, attempts, *namespace(), sys.executable, script, str(tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    statuses = json.loads(done.stdout.splitlines()[-1])
    assert set(statuses.values()) == {"complete"}, f"not every stage had something to do: {statuses}"
    assert attempts.read_text() == ""
    assert (tmp_path / "unpickled").read_text() == ""


@pytest.mark.parametrize(
    "code",
    [
        "pickle.loads(pickle.dumps(Path()))",
        "pickle._loads(pickle.dumps(Path()))",
        "import dill; dill.loads(pickle.dumps(Path()))",
        "import numpy; numpy.save('x.npy', Path()); numpy.load('x.npy', allow_pickle=True)",
        "import torch; torch.save(Path(), 'x.pt'); torch.load('x.pt', weights_only=False)",
    ],
)
def test_the_guard_sees_unpickling_whoever_does_it(root: Path, tmp_path: Path, code: str) -> None:
    code = f"import os, pickle; from pathlib import Path; os.chdir({str(tmp_path)!r}); {code}"
    guarded(root, tmp_path / "attempts", sys.executable, "-c", code)
    assert "Path" in (tmp_path / "unpickled").read_text()


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)",
        "import socket; socket.socket().connect(('192.0.2.1', 80))",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "import socket; socket.socket(socket.AF_INET6).connect_ex(('2001:db8::1', 80, 0, 0))",
        "import socket; socket.getaddrinfo('example.invalid', 80)",
        "import urllib.request; urllib.request.urlopen('http://example.invalid/')",
        "import requests; requests.get('http://192.0.2.1/', timeout=1)",
        "import huggingface_hub; huggingface_hub.model_info('a/b')",
        "import openai; openai.OpenAI(api_key='x', max_retries=0).models.list()",
    ],
)
def test_the_guard_refuses_and_records_what_would_leave_this_machine(
    root: Path, tmp_path: Path, code: str
) -> None:
    done = guarded(root, tmp_path / "attempts", sys.executable, "-c", code)
    assert done.returncode != 0
    assert "the network guard refuses" in done.stderr + (tmp_path / "attempts").read_text()
    assert len((tmp_path / "attempts").read_text().splitlines()) > 1


def test_an_attempt_that_a_library_swallows_is_recorded_all_the_same(root: Path, tmp_path: Path) -> None:
    code = "import contextlib, socket\nwith contextlib.suppress(OSError): socket.getaddrinfo('hub', 443)"
    done = guarded(root, tmp_path / "attempts", sys.executable, "-c", code)
    assert done.returncode == 0
    assert (tmp_path / "attempts").read_text().startswith("getaddrinfo 'hub'\n")


def test_the_guard_lets_pass_what_stays_on_this_machine(root: Path, tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(('localhost', server.getsockname()[1])).close()\n"
        f"inside = socket.socket(socket.AF_UNIX); inside.bind({str(tmp_path / 's')!r}); inside.listen()\n"
        f"socket.socket(socket.AF_UNIX).connect({str(tmp_path / 's')!r})\n"
    )
    done = guarded(root, tmp_path / "attempts", sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "attempts").read_text() == ""
