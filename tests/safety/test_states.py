"""A state that training resumes from is read as weights only; one with anything else in it is refused."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import checkpoint as sharded
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.safety.conftest import Payload, Trap
from tests.training.conftest import hyper, suite
from tests.training.test_resume import states_of, stopped
from tests.training.test_train import run_of
from vista.config import ModelTraining, Suite
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import write_json
from vista.training.launch import check_launch
from vista.training.resume import WHOLE, _sizes, check_state
from vista.training.train import train

__all__ = ["hyper", "stopped", "suite"]  # fixtures

Stopped = Callable[[str], tuple[Suite, Paths]]


def plant(state: Path, name: str, trap: Trap) -> None:
    """Put a trap in the place of a file, and list it as whoever can write there would."""
    trap.save(state / name)
    write_json(state / WHOLE, _sizes(state))


def test_going_on_unpickles_nothing(stopped: Stopped, looked_up: list[str]) -> None:
    suite, paths = stopped("dpo")
    looked_up.clear()
    train(suite, paths, run_of("dpo"))
    assert read_manifest(paths.trained(run_of("dpo").id)).counts["resumed_at_step"] == 6
    assert looked_up == []


@pytest.mark.parametrize(
    "name",
    [
        *("optimizer.pt", "scheduler.pt", "rng_state.pth", "pytorch_model.bin", "scaler.pt"),
        *("pytorch_model_fsdp_0_rank0.bin", "optimizer_0_rank0.bin"),  # FSDP's
        "zero_0.pt",
    ],
)
def test_a_trap_in_a_state_does_not_spring_and_is_named(stopped: Stopped, trap: Trap, name: str) -> None:
    suite, paths = stopped("rest-em")
    state = states_of(paths, "rest-em") / "checkpoint-6"
    plant(state, name, trap)
    with pytest.raises(VistaError, match=rf"checkpoint-6/{name}.*posix.mkdir.*; delete .*checkpoint-6"):
        train(suite, paths, run_of("rest-em"))
    assert not trap.sprung
    assert not paths.trained(run_of("rest-em").id).exists()


def test_a_pickle_is_not_taken_for_the_weights_of_a_state(stopped: Stopped, trap: Trap) -> None:
    suite, paths = stopped("rest-em")
    state = states_of(paths, "rest-em") / "checkpoint-6"
    (state / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, state / "pytorch_model.bin")
    write_json(state / WHOLE, _sizes(state))
    with pytest.raises((VistaError, OSError), match=r"model\.safetensors"):
        train(suite, paths, run_of("rest-em"))


@pytest.fixture
def one_process() -> Iterator[DeviceMesh]:
    """A group of one process, over which weights can be spread."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_parts_as_fsdp_writes_them_are_read_and_unpickle_nothing(
    one_process: DeviceMesh, tmp_path: Path, looked_up: list[str]
) -> None:
    model = torch.nn.Linear(3, 2)
    fully_shard(model, mesh=one_process)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert all(isinstance(weight, DTensor) for weight in model.parameters())
    torch.save(model.state_dict(), tmp_path / "pytorch_model_fsdp_0_rank0.bin")
    torch.save(get_optimizer_state_dict(model, optimizer), tmp_path / "optimizer_0_rank0.bin")
    looked_up.clear()
    check_state(tmp_path)
    assert looked_up == []


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """The optimiser's part of a state as torch's distributed checkpoints store it."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    folder = tmp_path / "state/optimizer_0"
    sharded.save({"optimizer": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=folder)
    return folder


@pytest.mark.parametrize("name", [".metadata", "__0.metadata"])
def test_a_description_of_shards_with_a_trap_is_refused(shards: Path, trap: Trap, name: str) -> None:
    (shards / ".metadata").unlink()
    (shards / name).write_bytes(pickle.dumps(Payload(trap.mark)))
    with pytest.raises(VistaError, match=rf"{name}: not a training state.*distributed checkpoint of torch"):
        check_state(shards.parent)
    assert not trap.sprung
    with pytest.raises(CheckpointException):  # what torch would have done
        sharded.load({"x": torch.zeros(1)}, checkpoint_id=shards)
    assert trap.sprung


def test_a_value_among_shards_with_a_trap_is_refused(shards: Path, trap: Trap) -> None:
    description = shards / ".metadata"
    described: Any = pickle.loads(description.read_bytes())  # noqa: S301 - written above
    name = "optimizer.param_groups.0.lr"
    (index,) = [index for index in described.storage_data if index.fqn == name]
    place = described.storage_data[index]
    file = io.BytesIO()
    torch.save(Payload(trap.mark), file)
    shard = shards / place.relative_path
    place.offset, place.length = shard.stat().st_size, len(file.getvalue())
    shard.write_bytes(shard.read_bytes() + file.getvalue())
    description.write_bytes(pickle.dumps(described))
    with pytest.raises(VistaError, match=r"\.metadata: not a training state that can be trusted"):
        check_state(shards.parent)
    assert not trap.sprung
    sharded.load({name: 1.0}, checkpoint_id=shards)  # what torch would have done
    assert trap.sprung


def test_states_of_fsdp_1_are_not_made_since_they_could_only_be_unpickled(root: Path, tmp_path: Path) -> None:
    shipped = root / "config/accelerate/fsdp.yaml"
    check_launch(ModelTraining(accelerate=shipped, save_every=10), "m")
    older = tmp_path / "fsdp1.yaml"
    for line in ("fsdp_version: 1", "fsdp_forward_prefetch: false"):  # 1 is also accelerate's default
        older.write_text(shipped.read_text().replace("fsdp_version: 2", line))
        with pytest.raises(
            VistaError, match=r"fsdp1.yaml: .* set fsdp_version: 2 .*save_every .* of model m"
        ):
            check_launch(ModelTraining(accelerate=older, save_every=10), "m")
        check_launch(ModelTraining(accelerate=older), "m")


def test_states_below_zero_3_are_not_made_since_they_could_only_be_unpickled(
    root: Path, tmp_path: Path
) -> None:
    shipped = root / "config/accelerate/zero3.yaml"
    check_launch(ModelTraining(accelerate=shipped, save_minutes=30), "m")
    other = tmp_path / "zero2.yaml"
    for line in ("zero_stage: 2", "deepspeed_config_file: config.json"):
        other.write_text(shipped.read_text().replace("zero_stage: 3", line))
        for training in (ModelTraining(save_minutes=30), ModelTraining(save_every=10)):
            with pytest.raises(VistaError, match=r"zero2.yaml: .* set zero_stage: 3 .* of model m"):
                check_launch(training.model_copy(update={"accelerate": other}), "m")
        check_launch(ModelTraining(accelerate=other), "m")
