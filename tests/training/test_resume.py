"""A killed training goes on from its newest whole state and ends in the same bytes; or starts anew."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.training.test_launch import with_model
from tests.training.test_train import prepare, run_of, some_rows, with_training
from vista import chat
from vista.config import Hyperparameters, LoraTuning, ModelTraining, Suite
from vista.errors import VistaError
from vista.manifest import ORIGIN, read_manifest
from vista.paths import Paths
from vista.training import fit, resume, trainers
from vista.training.resume import States
from vista.training.train import train

Make = Callable[..., Hyperparameters]
KEEP = ModelTraining(save_every=2)


class Killed(Exception):
    """As if the process had been."""


def weights(paths: Paths, method: str) -> bytes:
    return (paths.trained(run_of(method).id) / "model.safetensors").read_bytes()


def history(paths: Paths, method: str) -> bytes:
    return paths.history(run_of(method).id).read_bytes()


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    def check(self: Any, loss: Any) -> None:
        if self.state.global_step == step:
            raise Killed

    monkeypatch.setattr(trainers.SharedTrainer, "_check", check)


@pytest.fixture
def stopped(suite: Suite, hyper: Make, tmp_path: Path) -> Callable[..., tuple[Suite, Paths]]:
    """A run of twelve steps, four in an epoch, that was stopped in the eighth."""

    def make(method: str, **changes: Any) -> tuple[Suite, Paths]:
        settings = hyper(batch_size=2, epochs=3, schedule="cosine", **changes)
        small = with_model(with_training(suite, settings), KEEP)
        paths = Paths(tmp_path / "stopped")
        prepare(paths, run_of(method), some_rows(method, 8))
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, 7)
            with pytest.raises(Killed):
                train(small, paths, run_of(method))
        return small, paths

    return make


def uninterrupted(suite: Suite, method: str, folder: Path) -> Paths:
    paths = Paths(folder / "uninterrupted")
    prepare(paths, run_of(method), some_rows(method, 8))
    train(suite, paths, run_of(method))
    return paths


def states_of(paths: Paths, method: str) -> Path:
    folder = paths.trained(run_of(method).id)
    return folder.with_name(f".{folder.name}.resume")


@pytest.mark.parametrize(
    ("method", "strategy"), [("rest-em", "random"), ("dpo", "random"), ("rest-em", "group_by_length")]
)
def test_a_resumed_run_ends_in_the_bytes_of_one_that_was_not_stopped(
    stopped: Callable[..., tuple[Suite, Paths]], tmp_path: Path, method: str, strategy: str
):
    suite, paths = stopped(method, sampling_strategy=strategy)
    folder = states_of(paths, method)
    assert [state.name for state in folder.glob("checkpoint-*")] == ["checkpoint-6"]
    train(suite, paths, run_of(method))
    whole = uninterrupted(suite, method, tmp_path)
    assert weights(paths, method) == weights(whole, method)
    assert history(paths, method) == history(whole, method)
    counts, expected = (read_manifest(p.trained(run_of(method).id)).counts for p in (paths, whole))
    assert counts.pop("resumed_at_step") == 6
    del counts["train_seconds"], expected["train_seconds"]
    assert counts == expected
    assert not folder.exists()
    assert not states_of(whole, method).exists()


def test_keeping_states_changes_nothing(suite: Suite, hyper: Make, tmp_path: Path):
    small = with_training(suite, hyper(batch_size=2, epochs=3))
    plain = uninterrupted(small, "rest-em", tmp_path / "plain")
    keeping = uninterrupted(with_model(small, KEEP), "rest-em", tmp_path / "keeping")
    assert weights(plain, "rest-em") == weights(keeping, "rest-em")
    assert history(plain, "rest-em") == history(keeping, "rest-em")


def test_states_are_written_by_the_clock_and_it_decides_nothing_else(
    suite: Suite, hyper: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A clock that shows five more minutes whenever it is asked."""
    shown = itertools.count(0, 300)
    monkeypatch.setattr(resume, "time", SimpleNamespace(monotonic=lambda: float(next(shown))))
    written = []
    finish = States.finish
    monkeypatch.setattr(States, "finish", lambda self, step: (written.append(step), finish(self, step)))
    small = with_training(suite, hyper(batch_size=2, epochs=3))
    kept = uninterrupted(with_model(small, ModelTraining(save_minutes=15)), "rest-em", tmp_path / "kept")
    assert written == [3, 6, 9]  # not after the last step, the twelfth
    plain = uninterrupted(small, "rest-em", tmp_path / "plain")
    assert weights(plain, "rest-em") == weights(kept, "rest-em")
    assert history(plain, "rest-em") == history(kept, "rest-em")


@pytest.mark.parametrize("often", [ModelTraining(save_minutes=30), ModelTraining(save_every=5)])
def test_how_often_states_are_written_makes_no_other_run(
    stopped: Callable[..., tuple[Suite, Paths]], often: ModelTraining
):
    suite, paths = stopped("rest-em")
    train(with_model(suite, often), paths, run_of("rest-em"))
    assert read_manifest(paths.trained(run_of("rest-em").id)).counts["resumed_at_step"] == 6


def test_a_state_that_was_not_written_to_its_end_is_not_used(
    stopped: Callable[..., tuple[Suite, Paths]], tmp_path: Path
):
    suite, paths = stopped("rest-em")
    state = states_of(paths, "rest-em") / "checkpoint-6"
    with (state / "optimizer.pt").open("r+b") as file:
        file.truncate(1000)
    train(suite, paths, run_of("rest-em"))
    assert "resumed_at_step" not in read_manifest(paths.trained(run_of("rest-em").id)).counts
    assert weights(paths, "rest-em") == weights(uninterrupted(suite, "rest-em", tmp_path), "rest-em")


@pytest.mark.parametrize("what", ["settings", "examples", "code", "versions"])
def test_states_of_another_run_are_removed_with_a_word(
    stopped: Callable[..., tuple[Suite, Paths]],
    hyper: Make,
    capfd: Any,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
):
    suite, paths = stopped("rest-em")
    if what == "settings":
        suite = with_training(suite, hyper(batch_size=2, epochs=3, learning_rate=2e-3))
    elif what == "examples":
        prepare(paths, run_of("rest-em"), some_rows("rest-em", 7))
    elif what == "code":
        monkeypatch.setattr(ORIGIN, "digests", lambda: {"code": "edited since"})
    else:
        monkeypatch.setattr("vista.training.train.installed", lambda: {"trl": "another"})
    train(suite, paths, run_of("rest-em"))
    assert "since a run with other settings, inputs, code or versions left it" in capfd.readouterr().err
    assert "resumed_at_step" not in read_manifest(paths.trained(run_of("rest-em").id)).counts


def test_the_newest_whole_state_counts(tmp_path: Path):
    states = States(tmp_path / "states", {"a": 1})
    states.open()
    for step in (9, 10):
        (states.folder / f"checkpoint-{step}").mkdir()
        (states.folder / f"checkpoint-{step}" / "file").write_text("x")
    assert states.newest() is None
    states.finish(9)
    (states.folder / "checkpoint-10").mkdir()  # begun, and cut off
    assert states.newest() == states.folder / "checkpoint-9"


@pytest.mark.slow
def test_a_run_that_is_killed_outright_goes_on(suite: Suite, hyper: Make, tmp_path: Path):
    method, run = "dpo", run_of("dpo")
    small = with_model(with_training(suite, hyper(batch_size=2, epochs=6)), KEEP)
    paths = Paths(tmp_path / "killed")
    prepare(paths, run, some_rows(method, 8))
    paths.suite.write_text(small.model_copy(update={"results": paths.results}).model_dump_json())
    command = [sys.executable, "-m", "vista.cli", "train", str(paths.suite), run.id]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (found := list(states_of(paths, method).glob("*/whole.json"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert found
    assert not paths.trained(run.id).exists()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert read_manifest(paths.trained(run.id)).counts["resumed_at_step"] >= 2
    whole = uninterrupted(small, method, tmp_path)
    assert weights(paths, method) == weights(whole, method)
    assert history(paths, method) == history(whole, method)


@pytest.mark.parametrize("method", ["rest-em", "dpo"])
def test_prompts_that_a_worker_encodes_make_the_same_steps_resumed_ones_too(
    stopped: Callable[..., tuple[Suite, Paths]], tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
):
    """Dropout draws from the state that workers are seeded from."""
    plain = KEEP.model_copy(update={"tuning": LoraTuning(kind="lora", r=4, alpha=8, dropout=0.5)})
    encode = chat.encode_named

    def noted(*args: Any) -> Any:
        (tmp_path / f"encoded-{os.getpid()}").touch()
        return encode(*args)

    with monkeypatch.context() as patch:
        patch.setattr(chat, "encode_named", noted)
        patch.setattr(sys.modules[__name__], "KEEP", plain.model_copy(update={"workers": 1}))
        suite, paths = stopped(method)
        train(suite, paths, run_of(method))
    assert read_manifest(paths.trained(run_of(method).id)).counts["resumed_at_step"] == 6
    whole = uninterrupted(with_model(suite, plain), method, tmp_path)
    assert weights(paths, method) == weights(whole, method)
    assert history(paths, method) == history(whole, method)
    encoding = {int(file.name.rpartition("-")[2]) for file in tmp_path.glob("encoded-*")}
    assert len(encoding) > 1
    assert os.getpid() not in encoding
    assert not [pid for pid in encoding if Path(f"/proc/{pid}").exists()], "they end with the training"


def test_what_a_worker_cannot_encode_is_one_message(suite: Suite, hyper: Make, tmp_path: Path):
    small = with_model(with_training(suite, hyper(batch_size=2)), ModelTraining(workers=1))
    paths, rows = Paths(tmp_path / "results"), some_rows("rest-em", 4)
    rows[2]["images"] = [{"bytes": b"no image", "path": None}]
    prepare(paths, run_of("rest-em"), rows)
    with pytest.raises(VistaError) as caught:
        train(small, paths, run_of("rest-em"))
    assert rows[2]["query_id"] in str(caught.value)
    assert not [word for word in ("Traceback", "worker", "\n") if word in str(caught.value)]
    apart = Paths(tmp_path / "apart")
    prepare(apart, run_of("rest-em"), rows)
    with pytest.raises(VistaError) as expected:
        train(with_model(small, ModelTraining()), apart, run_of("rest-em"))
    assert str(caught.value) == str(expected.value)


def test_workers_are_for_gpus_that_have_room_to_be_handed_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert fit.workers_of(ModelTraining(), on_gpu=False) == 0
    assert fit.workers_of(ModelTraining(workers=3), on_gpu=False) == 3
    assert fit.workers_of(ModelTraining(workers=0), on_gpu=True) == 0
    monkeypatch.setattr(fit, "SHARED", tmp_path)
    monkeypatch.setattr(fit, "SHARED_BYTES", 1)
    assert fit.workers_of(ModelTraining(), on_gpu=True) == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(fit, "SHARED_BYTES", 1e18)
    assert fit.workers_of(ModelTraining(), on_gpu=True) == 0
    assert "--shm-size" in capsys.readouterr().err
