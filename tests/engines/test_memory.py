"""Out of memory while sampling: the batch is halved, and the samples are those of enough memory."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from accelerate.utils.memory import should_reduce_batch_size

from tests.engines.starved import ROWS, sampled
from tests.nano import ARCHITECTURES, checkpoint, own_checkpoint, query
from tests.starved import MESSAGE, Starvation
from vista.chat import encode_query
from vista.engines.base import Request
from vista.engines.batching import BatchSize
from vista.engines.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError, is_out_of_memory

LIMIT = 16
OUT_OF_MEMORY = [
    torch.OutOfMemoryError(MESSAGE),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"
    ),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 800 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("std::bad_alloc"),
]
OTHERS = [
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."),
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("ran out of memory lane"),
    VistaError("q1: out of memory while sampling"),
]


def requests(made: Checkpoint, count: int = 12, seeds: int = 5) -> list[Request]:
    """Prompts of three lengths, some with a prefix."""
    return [
        Request(
            encode_query(made.processor, query(number, words=4 + number % 3)),
            [100 * number + seed for seed in range(seeds)],
            [20, 21] if number % 4 == 3 else [],
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_a_lack_of_memory_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_what_accelerate_takes_for_a_lack_of_memory_is_recognised() -> None:
    known = [error for error in OUT_OF_MEMORY if should_reduce_batch_size(error)]
    assert len(known) >= 3
    assert all(map(is_out_of_memory, known))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_samples_are_the_same_where_only_few_rows_fit(architecture: str) -> None:
    made = own_checkpoint(architecture)
    asked = requests(made)
    expected = HfEngine(made, 64).sample(asked, 1.0, LIMIT)
    starved = Starvation(rows=8)
    engine = HfEngine(starved.of(made), 64)
    assert engine.sample(asked, 1.0, LIMIT) == expected
    assert starved.failures >= 1
    assert engine.batch.size <= 8


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("starvation", [{"rows": 8}, {"at": 1}, {"at": 9}])
def test_where_memory_runs_out_batches_of_unequal_lengths_are_halved_too(
    architecture: str, starvation: dict[str, int]
) -> None:
    asked = requests(checkpoint(architecture))
    expected = HfEngine(own_checkpoint(architecture), 1).sample(asked, 1.0, LIMIT)
    starved = Starvation(**starvation)
    engine = HfEngine(starved.of(own_checkpoint(architecture, padding=True)), 32)
    for found, wanted in zip(engine.sample(asked, 1.0, LIMIT), expected, strict=True):
        for one, other in zip(found, wanted, strict=True):
            assert (one.token_ids, one.finished) == (other.token_ids, other.finished)
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    assert starved.failures >= 1


def test_samples_are_the_same_whichever_pass_fails(capfd: pytest.CaptureFixture[str]) -> None:
    asked = requests(checkpoint("internvl"))
    counting = Starvation()
    expected = HfEngine(counting.of(own_checkpoint("internvl")), 32).sample(asked, 1.0, LIMIT)
    for at in range(0, len(counting.passes), 11):
        starved = Starvation(at=at)
        engine = HfEngine(starved.of(own_checkpoint("internvl")), 32)
        capfd.readouterr()
        assert engine.sample(asked, 1.0, LIMIT) == expected
        assert starved.failures == 1
        assert 1 <= engine.batch.size <= 16
        assert capfd.readouterr().err.count("out of memory while sampling") == 1


def test_what_is_done_is_not_done_again() -> None:
    asked = requests(checkpoint("internvl"))
    counting = Starvation()
    HfEngine(counting.of(own_checkpoint("internvl")), 15).sample(asked, 1.0, LIMIT)
    last = len(counting.passes) - 1
    starved = Starvation(at=last)
    HfEngine(starved.of(own_checkpoint("internvl")), 15).sample(asked, 1.0, LIMIT)
    assert len(starved.passes) - len(counting.passes) <= 2 * (LIMIT + 1), "two halves of one batch, no more"


def test_the_smaller_size_stays() -> None:
    starved = Starvation(rows=8)
    engine = HfEngine(starved.of(own_checkpoint("internvl")), 64)
    asked = requests(engine.checkpoint)
    engine.sample(asked, 1.0, LIMIT)
    failures = starved.failures
    engine.sample(asked, 0.0, LIMIT)
    assert starved.failures == failures


def test_where_not_one_fits_the_error_names_the_query_and_what_was_tried() -> None:
    starved = Starvation(rows=0)
    engine = HfEngine(starved.of(own_checkpoint("internvl")), 10)
    with pytest.raises(VistaError) as caught:
        engine.sample(requests(engine.checkpoint)[5:6], 1.0, LIMIT)
    said = str(caught.value)
    assert said.startswith(
        "query 'q5': out of memory while sampling, even one at a time (tried 10, 2, 1 at once;"
    )
    assert MESSAGE[:40] in said
    assert "max_pixels" in said
    assert "max_new_tokens" in said
    assert starved.failures == 3


def test_other_errors_end_the_sampling_at_once() -> None:
    starved = Starvation(at=3, error=RuntimeError("a kernel is broken"))
    engine = HfEngine(starved.of(own_checkpoint("internvl")), 10)
    with pytest.raises(RuntimeError, match="a kernel is broken"):
        engine.sample(requests(engine.checkpoint), 1.0, LIMIT)
    assert len(starved.passes) == 4


def test_sizes_divide_what_they_have_to() -> None:
    batch = BatchSize(15, "training", whole=30)
    for expected in (6, 3, 1):
        batch.trying(["run"] * batch.size)
        batch.halve("no memory")
        assert batch.size == expected
    with pytest.raises(VistaError, match=r"run: out of memory.*tried 15, 6, 3, 1"):
        batch.halve("no memory")


def test_weights_that_do_not_fit_are_no_damaged_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = own_checkpoint("internvl")
    save_checkpoint(made.model, made.processor, tmp_path / "policy")

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError(MESSAGE)

    monkeypatch.setattr(type(made.model), "to", full)
    with pytest.raises(
        VistaError, match=r"policy: out of memory while loading the weights to cpu \(CUDA out"
    ):
        load_checkpoint(tmp_path / "policy", device="cpu")


@pytest.mark.slow
def test_a_process_that_really_runs_out_of_memory_samples_the_same(root: Path) -> None:
    command = [sys.executable, "-m", "tests.engines.starved", "60"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"sampling {ROWS} at once ([enforce fail at alloc_cpu.cpp" in done.stderr
    found = json.loads(done.stdout)
    assert 8 <= found["batch_size"] <= ROWS // 2
    engine, samples = sampled()
    assert engine.batch.size == ROWS
    assert found["samples"] == [list(astuple(sample)) for sample in samples]
