"""Out of memory in training: fewer examples in a forward pass, the same steps; and runs that diverge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.starved import MESSAGE, Starvation
from tests.training.test_launch import with_model
from tests.training.test_resume import states_of, uninterrupted, weights
from tests.training.test_train import MODEL, prepare, run_of, some_rows, with_training
from vista.config import Hyperparameters, LoraTuning, ModelTraining, Suite
from vista.engines.checkpoints import load_checkpoint
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.training import train as stage
from vista.training import trainers
from vista.training.launch import launch_command
from vista.training.resume import DeviceBatch, Note
from vista.training.train import train

Make = Callable[..., Hyperparameters]


def starve(monkeypatch: pytest.MonkeyPatch, starved: Starvation) -> Starvation:
    """Every checkpoint that training loads fails so."""
    load = stage._load
    monkeypatch.setattr(stage, "_load", lambda *asked: starved.of(load(*asked)))
    return starved


def vector(paths: Paths, run: Run) -> torch.Tensor:
    model = load_checkpoint(paths.trained(run.id)).model
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def assert_same_weights(found: Paths, expected: Paths, run: Run) -> None:
    # Adam's first step is the sign of the gradient, so where that is almost 0 it may flip.
    assert (vector(found, run) - vector(expected, run)).abs().gt(1e-5).float().mean() < 0.002


def note_of(paths: Paths, run: Run) -> Path:
    output = paths.trained(run.id)
    return output.with_name(f".{output.name}.batch.json")


@pytest.mark.parametrize("method", ["rest-em", "dpo", "lora"])
def test_halved_forward_passes_make_the_same_steps(
    suite: Suite, hyper: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, method: str
) -> None:
    tuning = ModelTraining(tuning=LoraTuning(kind="lora", r=4)) if method == "lora" else ModelTraining()
    method = "rest-em" if method == "lora" else method
    run = run_of(method)
    small = with_model(with_training(suite, hyper(epochs=2)), tuning)
    whole = uninterrupted(small, method, tmp_path)
    paths = Paths(tmp_path / "starved")
    prepare(paths, run, some_rows(method, 8))
    starved = starve(monkeypatch, Starvation(rows=8 if method == "dpo" else 2))
    train(small, paths, run)
    assert starved.failures == 1
    assert f"{run.id}: out of memory while training 4 at once (CUDA out" in capfd.readouterr().err
    assert_same_weights(paths, whole, run)
    manifest, expected = (read_manifest(each.trained(run.id)) for each in (paths, whole))
    found = manifest.settings["training"]
    assert (found["device_batch_size"], found["passes"]) == (2, 2)
    assert (expected.settings["training"]["device_batch_size"], found["processes"]) == (4, 1)
    for name in ("examples", "steps", "tokens"):
        assert manifest.counts[name] == expected.counts[name]
    assert not note_of(paths, run).exists()


def test_a_run_with_states_goes_on_from_the_newest(
    suite: Suite, hyper: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("rest-em")
    small = with_model(with_training(suite, hyper(epochs=4)), ModelTraining(save_every=2))
    whole = uninterrupted(small, "rest-em", tmp_path)
    paths = Paths(tmp_path / "starved")
    prepare(paths, run, some_rows("rest-em", 8))
    starved = starve(monkeypatch, Starvation(at=5))  # of 8 steps
    train(small, paths, run)
    assert starved.failures == 1
    assert len(starved.passes) == 6 + 2 * 4, "two passes in each of the four steps after the state"
    assert read_manifest(paths.trained(run.id)).counts["resumed_at_step"] == 4
    assert_same_weights(paths, whole, run)
    assert not states_of(paths, "rest-em").exists()


def test_a_failure_amid_a_step_of_several_passes_leaves_nothing_behind(
    suite: Suite, hyper: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("rest-em")
    small = with_model(with_training(suite, hyper(epochs=2)), ModelTraining(device_batch_size=2))
    whole = uninterrupted(small, "rest-em", tmp_path)
    paths = Paths(tmp_path / "starved")
    prepare(paths, run, some_rows("rest-em", 8))
    starve(monkeypatch, Starvation(at=3))  # the second of the two passes of the second step
    train(small, paths, run)
    assert read_manifest(paths.trained(run.id)).settings["training"]["passes"] == 4
    assert_same_weights(paths, whole, run)


def test_where_not_one_example_fits_the_run_is_named_and_nothing_is_saved(
    suite: Suite, hyper: Make, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("rest-em")
    prepare(paths, run, some_rows("rest-em", 8))
    starved = starve(monkeypatch, Starvation(rows=0))
    with pytest.raises(VistaError) as caught:
        train(with_training(suite, hyper()), paths, run)
    said = str(caught.value)
    assert said.startswith(
        f"{run.id}: out of memory while training, even one at a time (tried 4, 2, 1 at once;"
    )
    for remedy in (MODEL, "gradient_checkpointing", "lora", "processes", "max_pixels", "memory"):
        assert remedy in said
    assert starved.failures == 3
    assert not paths.trained(run.id).exists()
    with pytest.raises(VistaError, match=r"\(tried 1 at once"):
        train(with_training(suite, hyper()), paths, run)
    assert starved.failures == 4, "what did not fit is not tried again"


def test_a_model_that_does_not_fit_by_itself_is_not_tried_with_fewer_examples(
    suite: Suite, hyper: Make, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tries = run_of("rest-em"), []
    prepare(paths, run, some_rows("rest-em", 8))

    def full(*_: Any, **__: Any) -> None:
        tries.append(1)
        raise torch.OutOfMemoryError(MESSAGE)

    monkeypatch.setattr(trainers.Start, "on_train_begin", full)
    with pytest.raises(VistaError, match=rf"{run.id}: out of memory before the first forward pass.*lora"):
        train(with_training(suite, hyper()), paths, run)
    assert len(tries) == 1


def test_other_errors_end_a_training_at_once(
    suite: Suite, hyper: Make, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("rest-em")
    prepare(paths, run, some_rows("rest-em", 8))
    starved = starve(monkeypatch, Starvation(at=1, error=RuntimeError("a kernel is broken")))
    with pytest.raises(RuntimeError, match="a kernel is broken"):
        train(with_training(suite, hyper()), paths, run)
    assert len(starved.passes) == 2


def batch_of(folder: Path, identity: Any, **changes: Any) -> DeviceBatch:
    training = ModelTraining(**{"processes": 2, **changes})
    return DeviceBatch(training, 8, "the/run", "nano", Note(folder / ".round1.batch.json", identity))


def test_several_processes_leave_a_note_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    identity = {"run": "the/run", "accelerate": tmp_path.name, "list": (1, 2)}
    for size, half in ((4, 2), (2, 1)):
        for rank in ("1", "0"):  # both may fail
            monkeypatch.setenv("RANK", rank)
            batch = batch_of(tmp_path, identity)
            batch.size = size
            with pytest.raises(
                VistaError, match=rf"the/run: .* one of 2 processes, with {size} .*it uses {half},"
            ):
                batch.halve("CUDA out of memory")
        assert batch_of(tmp_path, identity).size == half
    with pytest.raises(VistaError, match=r"even one at a time \(tried 1 at once.*more processes"):
        batch_of(tmp_path, identity).halve("CUDA out of memory")
    assert [file.name for file in tmp_path.iterdir()] == [".round1.batch.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"device_batch_size": 0}', '{"device_batch_size": "2"}'])
def test_a_note_that_is_broken_or_of_another_run_does_not_count(tmp_path: Path, content: str) -> None:
    batch_of(tmp_path, {"learning_rate": 1}).note.write(1)
    assert batch_of(tmp_path, {"learning_rate": 1}).size == 1
    assert batch_of(tmp_path, {"learning_rate": 2}).size == 4
    (tmp_path / ".round1.batch.json").write_text(content)
    assert batch_of(tmp_path, {"learning_rate": 1}).size == 4


def test_a_note_never_makes_batches_larger_than_they_are_set(tmp_path: Path) -> None:
    batch_of(tmp_path, {}).note.write(4)
    assert batch_of(tmp_path, {}, device_batch_size=2).size == 2


@pytest.mark.slow
def test_two_processes_of_which_one_runs_out_of_memory_make_the_steps_of_one_when_started_again(
    suite: Suite, tmp_path: Path, root: Path
) -> None:
    run, rows = run_of("rest-em"), some_rows("rest-em", 7)
    small = with_training(suite, Hyperparameters(epochs=2, learning_rate=1e-3, batch_size=4))
    whole, paths = Paths(tmp_path / "one"), Paths(tmp_path / "two")
    prepare(whole, run, rows)
    train(with_model(small, ModelTraining(device_batch_size=1)), whole, run)
    prepare(paths, run, rows)
    spread = with_model(small, ModelTraining(processes=2))
    paths.suite.write_text(spread.model_copy(update={"results": paths.results}).model_dump_json())
    command = launch_command(ModelTraining(processes=2), paths.suite, run)
    starved = ["tests.training.starved" if part == "vista.cli" else part for part in command]
    first = subprocess.run(starved, cwd=root, capture_output=True, text=True, timeout=240)
    assert first.returncode != 0
    assert "in one of 2 processes, with 2 examples in a forward pass (CUDA out of memory" in first.stderr
    assert json.loads(note_of(paths, run).read_text())["device_batch_size"] == 1
    assert not paths.trained(run.id).exists()
    plain = [sys.executable, "-m", "vista.cli", "train", str(paths.suite), run.id]
    second = subprocess.run(
        plain, cwd=root, capture_output=True, text=True, env=dict(os.environ), timeout=240
    )
    assert second.returncode == 0, second.stderr[-3000:]
    assert "--num_processes 2" in second.stderr
    for made, processes in ((whole, 1), (paths, 2)):
        manifest = read_manifest(made.trained(run.id))
        assert manifest.counts["steps"] == 4
        found = manifest.settings["training"]
        assert (found["processes"], found["device_batch_size"]) == (processes, 1)
        assert found["passes"] == 4 // processes
        json.dumps(manifest.settings)
    assert_same_weights(paths, whole, run)
    assert not note_of(paths, run).exists()


@pytest.mark.parametrize("method", ["rest-em", "dpo"])
def test_a_loss_that_only_rises_ends_the_run_though_it_is_a_number(
    suite: Suite, hyper: Make, paths: Paths, method: str
) -> None:
    run = run_of(method)
    prepare(paths, run, some_rows(method, 8))
    wild = with_training(suite, hyper(learning_rate=1.0, epochs=5))
    expected = rf"{run.id}: the loss has risen from \d.* to \d+.* at step \d+ of 10; lower the learning rate"
    with pytest.raises(VistaError, match=expected):
        train(wild, paths, run)
    assert not paths.trained(run.id).exists()


def test_a_state_with_broken_weights_is_never_gone_on_from(suite: Suite, hyper: Make, tmp_path: Path) -> None:
    run = run_of("rest-em")
    small = with_model(with_training(suite, hyper(epochs=4)), ModelTraining(save_every=2))
    paths = Paths(tmp_path / "broken")
    prepare(paths, run, some_rows("rest-em", 8))

    def break_weights(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 4:
            with torch.no_grad():
                next(self.trainer.model.parameters()).fill_(torch.nan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers.Start, "on_step_end", break_weights)
        for _ in range(2):  # again, and no further
            with pytest.raises(VistaError, match=rf"{run.id}: weight .* is not finite after step 4 of 8"):
                train(small, paths, run)
            assert [state.name for state in states_of(paths, "rest-em").glob("checkpoint-*")] == [
                "checkpoint-2"
            ]
    train(small, paths, run)
    assert read_manifest(paths.trained(run.id)).counts["resumed_at_step"] == 2
    assert weights(paths, "rest-em") == weights(uninterrupted(small, "rest-em", tmp_path), "rest-em")


def test_a_run_that_diverged_starts_anew_with_a_lower_learning_rate(
    suite: Suite, hyper: Make, tmp_path: Path
) -> None:
    run = run_of("rest-em")
    keep = ModelTraining(save_every=1)
    paths = Paths(tmp_path / "diverged")
    prepare(paths, run, some_rows("rest-em", 8))
    wild, tame = (
        with_model(with_training(suite, hyper(epochs=3, learning_rate=rate)), keep) for rate in (1e4, 1e-3)
    )
    for _ in range(2):  # the first step's weights are good to go on from, the second's are not kept
        with pytest.raises(VistaError, match=r"weight .* is not finite after step 2 of 6"):
            train(wild, paths, run)
        assert not paths.trained(run.id).exists()
    train(tame, paths, run)
    assert "resumed_at_step" not in read_manifest(paths.trained(run.id)).counts
    assert weights(paths, "rest-em") == weights(uninterrupted(tame, "rest-em", tmp_path), "rest-em")
