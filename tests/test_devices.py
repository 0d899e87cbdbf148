"""Each job on a machine sees GPUs of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vista import devices
from vista.config import Suite, load_suite
from vista.dag import Dag
from vista.devices import OFFERED, VISIBLE, Device
from vista.errors import VistaError

UUIDS = [f"GPU-{number:08d}-aaaa" for number in range(8)]
PATIENCE = 120.0
# A job: takes devices, says which it sees, and keeps them until it is told to end.
JOB = """
import os, sys
from vista import devices
devices.take(int(sys.argv[1]), "vista job")
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
{then}
sys.stdin.read()
"""
# What takes its place, as the launcher of several processes does, starts processes that take nothing.
LAUNCH = """
os.execv(sys.executable, [sys.executable, "-c", '''
import subprocess, sys
subprocess.run([sys.executable, "-c", "from vista import devices; print(devices.are_offered(), flush=True)"])
sys.stdin.read()'''])
"""


def nvidia_smi(folder: Path, script: str) -> None:
    """An ``nvidia-smi`` that says what a test wants."""
    folder.mkdir(exist_ok=True)
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def listing(*uuids: str) -> str:
    return "\n".join(f"echo {uuid}" for uuid in uuids)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight GPUs whose jobs are nobody else's."""
    nvidia_smi(tmp_path / "bin", listing(*UUIDS))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv(OFFERED, "")  # put back what `offer` sets
    monkeypatch.delenv(OFFERED)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start jobs, which end with the test."""
    jobs = []

    def begin(count: int, then: str = "") -> subprocess.Popen[str]:
        job = subprocess.Popen(
            [sys.executable, "-c", JOB.format(then=then), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        jobs.append(job)
        return job

    yield begin
    for job in jobs:
        job.kill()
        job.wait()


def sees(job: subprocess.Popen[str]) -> list[str]:
    """What a job sees, as soon as it has it."""
    assert job.stdout is not None
    return job.stdout.readline().strip().split(",")


def end(job: subprocess.Popen[str], how: signal.Signals | None = None) -> None:
    if how is None:
        assert job.stdin is not None
        job.stdin.close()
    else:
        job.send_signal(how)
    job.wait(PATIENCE)


def is_held(number: int, folder: Path) -> bool:
    return devices.lock.is_held(folder / f"vista-devices-{os.getuid()}" / f"gpu-{UUIDS[number]}")


def wait_until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_eight_jobs_at_once_on_eight_gpus_see_eight_different_ones(start: Start) -> None:
    devices.offer(devices.of_machine())
    jobs = [start(1) for _ in range(8)]
    assert sorted(word for job in jobs for word in sees(job)) == [str(number) for number in range(8)]


@pytest.mark.parametrize("how", [None, signal.SIGKILL, signal.SIGTERM])
def test_what_a_job_had_is_free_when_it_is_gone_however_that_happened(
    start: Start, how: signal.Signals | None
) -> None:
    devices.offer([Device("3", UUIDS[3])])
    first = start(1)
    assert sees(first) == ["3"]
    second = start(1)
    time.sleep(0.5)
    assert second.poll() is None
    end(first, how)
    assert sees(second) == ["3"]


def test_a_training_of_four_waits_for_four_and_is_not_overtaken(start: Start, tmp_path: Path) -> None:
    devices.offer(devices.of_machine()[:4])
    singles = [start(1) for _ in range(3)]
    seen = {sees(job)[0]: job for job in singles}
    training = start(4)
    queue = next(iter((tmp_path / f"vista-devices-{os.getuid()}").glob("queue-*")))
    wait_until(lambda: devices.lock.is_held(queue))
    later = start(1)
    for number in sorted(seen):
        assert training.poll() is None
        end(seen[number])
    assert sees(training) == ["0", "1", "2", "3"]
    assert later.poll() is None
    end(training, signal.SIGKILL)
    assert sees(later) == ["0"]


def test_jobs_that_want_several_of_common_devices_all_get_their_turn(start: Start) -> None:
    every, waiting = devices.of_machine(), []
    for some in 2 * (every[:3], every[1:4], every[2:5]):
        devices.offer(some)
        waiting.append(start(2))
    for job in waiting:  # told to end as soon as it has what it wants
        assert job.stdin is not None
        job.stdin.close()
    for job in waiting:
        assert job.wait(PATIENCE) == 0


def test_the_launcher_that_takes_a_jobs_place_keeps_its_devices_and_its_processes_take_none(
    start: Start, tmp_path: Path
) -> None:
    devices.offer(devices.of_machine()[:2])
    job = start(2, LAUNCH)
    assert sees(job) == ["0", "1"]
    assert sees(job) == ["False"]
    assert is_held(0, tmp_path)
    assert is_held(1, tmp_path)
    end(job, signal.SIGKILL)
    wait_until(lambda: not is_held(0, tmp_path))


def test_a_job_that_asks_for_no_gpu_sees_none_and_does_not_wait(start: Start) -> None:
    devices.offer(devices.of_machine()[:1])
    sees(start(1))
    start(1)
    assert sees(start(0)) == [""]


def test_a_device_is_one_whatever_its_callers_call_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "GPU-00000002")
    (found,) = devices.of_machine()
    assert found == Device("GPU-00000002", UUIDS[2])
    devices.offer([found])
    assert sees(start(1)) == ["GPU-00000002"]
    monkeypatch.delenv(VISIBLE)
    devices.offer(devices.of_machine()[2:4])
    assert sees(start(1)) == ["3"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("4,2", ["4", "2"]),
        ("GPU-00000001,MIG-7f-x", ["GPU-00000001", "MIG-7f-x"]),
        ("MIG-GPU-00000001-aaaa/1/0", ["MIG-GPU-00000001-aaaa/1/0"]),
        ("1, 1,GPU-00000001", ["1"]),
        ("0,-1,3", ["0"]),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_what_the_caller_may_use_is_kept_as_it_is_called(
    given: str, names: list[str], monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    monkeypatch.setenv(VISIBLE, given)
    found = devices.of_machine()
    assert [device.name for device in found] == names
    devices.offer(found)
    if names:
        assert sees(start(len(names))) == names


@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA-SMI has failed'; exit 1", "true"])
def test_a_machine_without_gpus_has_none_to_offer(script: str, tmp_path: Path) -> None:
    nvidia_smi(tmp_path / "bin", script)
    assert devices.of_machine() == []
    devices.offer([])
    assert not devices.are_offered()


@pytest.mark.parametrize("script", [None, "echo 'Unable to determine the device handle'; exit 15"])
def test_where_the_drivers_command_does_not_say_its_device_files_are_counted(
    script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script is None:
        (tmp_path / "bin/nvidia-smi").unlink()
    else:
        nvidia_smi(tmp_path / "bin", script)
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "DEV", tmp_path)
    assert [device.name for device in devices.of_machine()] == ["0", "1"]


def test_a_folder_of_locks_that_is_not_the_users_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"vista-devices-{os.getuid()}").symlink_to("elsewhere")
    with pytest.raises(VistaError, match="not a folder of yours"):
        devices.offer(devices.of_machine())


# --- what snakemake hands out ---


def smoke(root: Path, gpus: int = 1, **model: Any) -> Dag:
    suite = load_suite(root / "config/smoke.yaml", root=root)
    changed = suite.model_dump() | {"gpus": gpus}
    changed["models"]["nano-smoke"] |= model
    return Dag(Suite.model_validate(changed))


RUN = "nano-smoke/grids/star/seed0/round1"


def test_a_suite_that_asks_for_no_gpu_looks_for_none(root: Path) -> None:
    assert smoke(root, gpus=0).devices() == []
    assert len(smoke(root, gpus=0, resources={"training": {"gpus": 1}}).devices()) == 8
    assert len(smoke(root).devices()) == 8


def test_a_job_that_asks_for_more_than_the_machine_has_is_named_before_any_work(root: Path) -> None:
    dag = smoke(root, training={"processes": 4})
    there = dag.devices()[:2]
    dag.hand_out(there, 2, [("evaluate", RUN), ("sample", RUN), ("curate", RUN)])
    with pytest.raises(VistaError, match=f"vista train {RUN}: asks for 4 GPUs, and 2 may be used"):
        dag.hand_out(there, 2, [("train", RUN)])
    with pytest.raises(VistaError, match="asks for 4 GPUs, and 3 may be used"):
        dag.hand_out(dag.devices(), 3, [("train", RUN)])
    with pytest.raises(VistaError, match="--resources gpu=4: this machine has 2 GPUs"):
        dag.hand_out(there, 4, [])
    dag.hand_out([], 1, [("train", RUN)])
    assert not devices.are_offered()


def test_the_jobs_of_every_command_that_runs_a_model_ask_as_their_rule_does(root: Path) -> None:
    dag = smoke(root, training={"processes": 4})
    assert {
        dag.gpus_of(command, RUN) for command in ("sample", "resample", "score", "gains", "evaluate")
    } == {1}
    assert (dag.gpus_of("train", RUN), dag.gpus_of("models", "nano-smoke")) == (4, 1)
    assert {dag.gpus_of(command, RUN) for command in ("adopt", "curate", "tables", "ask", "grade")} == {0}


def test_what_is_offered_is_not_inherited_by_a_snakemake(monkeypatch: pytest.MonkeyPatch) -> None:
    from vista.planned import forget_inherited

    monkeypatch.setenv(OFFERED, json.dumps({"folder": "/tmp", "devices": []}))  # noqa: S108 - not opened
    forget_inherited()
    assert not devices.are_offered()
