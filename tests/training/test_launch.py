"""Where a model asks for several processes, `vista train` starts them; what would fail is said first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from transformers import TrainingArguments
from transformers.training_args import ParallelMode

from tests.training.conftest import example
from tests.training.test_train import MODEL, prepare, run_of, some_rows, with_training
from vista.config import Hyperparameters, LoraTuning, ModelTraining, Suite, load_suite, load_yaml
from vista.dag import Dag
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import read_manifest
from vista.models.nano import build_nano
from vista.objectives.sft import SftSettings
from vista.paths import Paths
from vista.training.fit import make_trainer
from vista.training.launch import (
    become_launcher,
    check_launch,
    check_world,
    launch_command,
    told_arithmetic,
)
from vista.training.train import check_accelerate, settings_of
from vista.training.trainers import keep_sums_exact

RUN = Run.parse("m/t/sft-seed/seed0/round0")
SHIPPED = ("bf16", "ddp", "fsdp", "zero3", "zero3-offload")
KINDS = {"bf16": "NO", "ddp": "MULTI_GPU", "fsdp": "FSDP"}


def with_model(suite: Suite, training: ModelTraining) -> Suite:
    entry = suite.models[MODEL].model_copy(update={"training": training})
    return suite.model_copy(update={"models": {**suite.models, MODEL: entry}})


def test_one_process_needs_no_launcher():
    assert launch_command(ModelTraining(), Path("suite.json"), RUN) == []


def test_processes_meet_at_a_free_port_and_each_runs_the_same_command(root: Path):
    file = root / "config/accelerate/fsdp.yaml"
    for training in (ModelTraining(processes=8), ModelTraining(processes=8, accelerate=file)):
        command = launch_command(training, Path("suite.json"), RUN)
        assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
        parsed = launch_command_parser().parse_args(command[3:])
        assert (parsed.num_processes, parsed.num_machines, parsed.main_process_port) == (8, 1, 0)
        assert parsed.config_file == (None if training.accelerate is None else str(file))
        assert parsed.multi_gpu == (training.accelerate is None)
        assert parsed.module
        assert [parsed.training_script, *parsed.training_script_args] == [
            "vista.cli", "train", "suite.json", RUN.id,
        ]  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_accelerate_reads_the_configs_that_come_with_the_project(root: Path, name: str):
    config = load_config_from_file(str(root / f"config/accelerate/{name}.yaml"))
    known = vars(launch_command_parser().parse_args(["script"]))
    settings = {**config.fsdp_config, **config.deepspeed_config}
    assert set(settings) <= set(known)
    assert config.mixed_precision == "bf16"
    assert config.distributed_type.value == KINDS.get(name, "DEEPSPEED")


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "qwen3-vl", "internvl"])
def test_the_layers_to_spread_are_found_in_each_architecture(architecture: Any):
    model, _ = build_nano(architecture, ["a"], 0)
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    plugin.set_auto_wrap_policy(model)
    wrapped = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]  # type: ignore[union-attr]
    assert type(model.get_decoder().layers[0]) in wrapped
    found = [module for module in model.modules() if type(module) in wrapped]
    assert len(found) >= len(model.get_decoder().layers)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("version", [1, 2])
def test_sums_stay_in_float32_whatever_fsdp_multiplies_in(version: int, precision: str):
    plugin = FullyShardedDataParallelPlugin(fsdp_version=version)
    plugin.set_mixed_precision(precision)
    low = plugin.mixed_precision_policy.param_dtype
    keep_sums_exact(plugin)
    policy = vars(plugin.mixed_precision_policy)
    assert low == policy["param_dtype"] != torch.float32 == policy["reduce_dtype"]
    assert policy.get("output_dtype") is None
    assert policy.get("buffer_dtype") == (torch.float32 if version == 1 else None)
    assert not policy["cast_forward_inputs"]


def test_a_config_that_needs_deepspeed_says_how_to_get_it(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    training = ModelTraining(accelerate=root / "config/accelerate/zero3.yaml")
    with pytest.raises(VistaError, match=r"DeepSpeed is not installed.*vista-bench\[deepspeed\].*of model m"):
        check_launch(training, "m")


def test_training_without_trl_says_how_to_get_it(suite: Suite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(VistaError, match=r"needs TRL, which is not installed.*vista-bench\[training\]"):
        become_launcher(suite, Path("suite.json"), run_of("rest-em"))


def test_a_file_that_is_no_config_of_accelerate_is_refused(root: Path):
    with pytest.raises(VistaError, match=r"methods.yaml: no distributed_type"):
        check_launch(ModelTraining(accelerate=root / "config/methods.yaml"), "m")


def test_another_number_of_processes_than_a_step_is_cut_for_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(VistaError, match=r"2 processes were started, but model m asks for .*: 4"):
        check_world(ModelTraining(processes=4), "m")


def test_a_process_that_a_launcher_started_starts_no_other(suite: Suite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    become_launcher(with_model(suite, ModelTraining(processes=2)), Path("suite.json"), run_of("rest-em"))


@pytest.mark.parametrize("launched", [False, True])
def test_only_a_launcher_tells_accelerate_how_to_train(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, launched: bool
):
    """An exported ACCELERATE_MIXED_PRECISION would train in other arithmetic under the same digest."""
    for name in ("ACCELERATE_MIXED_PRECISION", "FSDP_VERSION"):
        monkeypatch.setenv(name, "said")
    if launched:
        monkeypatch.setenv("LOCAL_RANK", "0")
    become_launcher(suite, Path("suite.json"), run_of("rest-em"))
    assert ("ACCELERATE_MIXED_PRECISION" in os.environ) == ("FSDP_VERSION" in os.environ) == launched


def test_spreading_weights_without_gpus_is_refused_as_accelerate_would_not_do_it(root: Path):
    training = ModelTraining(accelerate=root / "config/accelerate/fsdp.yaml")
    with pytest.raises(VistaError, match=r"fsdp.yaml: FSDP needs GPUs"):
        check_accelerate(training, gpus=0, processes=1, model="m")
    with pytest.raises(VistaError, match=r"8 training processes .* but 2 GPUs"):
        check_accelerate(training, gpus=2, processes=8, model="m")
    check_accelerate(training, gpus=8, processes=8, model="m")
    check_accelerate(ModelTraining(), gpus=0, processes=2, model="m")
    alone = ModelTraining(accelerate=root / "config/accelerate/bf16.yaml")
    check_accelerate(alone, gpus=0, processes=1, model="m")


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that shows this process four GPUs, as far as can be asked without computing."""
    for state in (PartialState, AcceleratorState, GradientState):
        state._reset_state()
    for name, value in {"is_available": True, "device_count": 4, "set_device": None}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, value=value: value)
    monkeypatch.setattr(TrainingArguments, "place_model_on_device", property(lambda self: False))
    yield
    for state in (PartialState, AcceleratorState, GradientState):
        state._reset_state()


@pytest.mark.usefixtures("four_gpus")
def test_one_process_trains_on_one_of_several_gpus(fresh: Any, hyper: Any, tmp_path: Path):
    """transformers would spread each batch over all of them in threads, which TRL refuses."""
    rows = [example(0, [31, 32, 33, 34])]
    trainer = make_trainer(fresh(), rows, hyper(), SftSettings(kind="sft"), tmp_path, 0)
    assert (trainer.args.n_gpu, trainer.args.train_batch_size, trainer.args.world_size) == (1, 4, 1)
    assert trainer.args.parallel_mode == ParallelMode.NOT_PARALLEL


def test_how_steps_are_drawn_is_a_setting_that_reruns_the_training_it_is_set_for(suite: Suite):
    sections = suite.training
    grouped = sections.sft.model_copy(update={"sampling_strategy": "group_by_length"})
    other = suite.model_copy(update={"training": sections.model_copy(update={"sft": grouped})})
    sft, dpo = run_of("rest-em"), run_of("dpo")
    assert Dag(suite).training_settings(sft.id) != Dag(other).training_settings(sft.id)
    assert Dag(suite).training_settings(dpo.id) == Dag(other).training_settings(dpo.id)
    assert settings_of(suite, sft)["hyperparameters"]["sampling_strategy"] == "random"
    assert settings_of(other, sft)["hyperparameters"]["sampling_strategy"] == "group_by_length"


def test_what_the_accelerate_file_says_reruns_the_training_and_its_comments_do_not(
    suite: Suite, tmp_path: Path
):
    run, file = run_of("rest-em").id, tmp_path / "ddp.yaml"
    dag = Dag(with_model(suite, ModelTraining(accelerate=file)))
    found = []
    for text in ("mixed_precision: bf16", "# faster\nmixed_precision:   bf16", "mixed_precision: 'no'"):
        file.write_text(f"distributed_type: MULTI_GPU\n{text}\n")
        found.append(dag.training_settings(run))
    bfloat, commented, float32 = found
    assert bfloat == commented != float32
    assert Dag(with_model(suite, ModelTraining())).training_settings(run) not in found
    file.unlink()
    with pytest.raises(VistaError, match=r"ddp\.yaml: no such file"):
        dag.training_settings(run)


def test_where_the_accelerate_file_puts_processes_reruns_nothing(suite: Suite, tmp_path: Path):
    run, file = run_of("rest-em").id, tmp_path / "ddp.yaml"
    dag = Dag(with_model(suite, ModelTraining(accelerate=file)))
    found = set()
    for text in ("", "num_processes: 8", "num_processes: 2\nmain_process_port: 29501\nmachine_rank: 0"):
        file.write_text(f"distributed_type: MULTI_GPU\n{text}\n")
        found.add(dag.training_settings(run))
    assert len(found) == 1


def test_processes_and_passes_rerun_nothing_and_tuning_reruns_the_training(suite: Suite):
    run = run_of("rest-em").id
    spread = ModelTraining(processes=2, device_batch_size=4, gradient_checkpointing=True, save_every=10)
    adapted = ModelTraining(tuning=LoraTuning(kind="lora"))
    plain, wide, narrow = (
        Dag(with_model(suite, training)) for training in (ModelTraining(), spread, adapted)
    )
    assert (plain.cpus("training", run), wide.cpus("training", run)) == (1, 2)
    assert plain.training_settings(run) == wide.training_settings(run) != narrow.training_settings(run)
    assert plain.model_settings(MODEL) == wide.model_settings(MODEL) == narrow.model_settings(MODEL)


@pytest.mark.slow
def test_a_single_process_needs_no_launcher_to_compute_as_a_config_says(
    suite: Suite, tmp_path: Path, root: Path
):
    """accelerate would not tell it that it was launched: it would start a launcher again, for ever."""
    run, paths = run_of("rest-em"), Paths(tmp_path / "results")
    prepare(paths, run, some_rows("rest-em", 4))
    told = with_model(suite, ModelTraining(accelerate=root / "config/accelerate/bf16.yaml"))
    small = with_training(told, Hyperparameters(epochs=1, learning_rate=1e-3, batch_size=4))
    paths.suite.write_text(small.model_copy(update={"results": paths.results}).model_dump_json())
    command = [sys.executable, "-m", "vista.cli", "train", str(paths.suite), run.id]
    with subprocess.Popen(
        command, cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _, errors = process.communicate(timeout=240)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors[-3000:]
    assert "accelerate.commands.launch" not in errors
    found = read_manifest(paths.trained(run.id)).settings["dtype"]
    assert found["arithmetic"] == "torch.bfloat16"
    assert {kind for name, kind in found.items() if name != "arithmetic"} == {"torch.float32"}


@pytest.mark.parametrize("kind", ["NO", "MULTI_CPU"])
@pytest.mark.parametrize("arithmetic", ["no", "bf16", "fp16", None])
def test_what_a_config_of_one_process_says_is_told_to_accelerate(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, arithmetic: str | None
):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "said")
    file = tmp_path / "one.yaml"
    said = "" if arithmetic is None else f"mixed_precision: '{arithmetic}'\n"
    file.write_text(f"distributed_type: '{kind}'\n{said}use_cpu: true\n")
    training = ModelTraining(accelerate=file)
    assert launch_command(training, Path("suite.json"), RUN) == []
    become_launcher(with_model(suite, training), Path("suite.json"), run_of("rest-em"))
    assert os.environ.pop("ACCELERATE_USE_CPU") == "True"
    assert told_arithmetic() == (arithmetic or "no")
    with pytest.raises(VistaError, match=rf"one.yaml: distributed_type: {kind} is one process.*processes: 2"):
        check_launch(training.model_copy(update={"processes": 2}), "m")


def test_an_arithmetic_that_would_be_left_out_in_silence_is_refused(tmp_path: Path):
    file = tmp_path / "eight.yaml"
    for kind in ("NO", "FSDP", "MULTI_GPU"):
        file.write_text(f"distributed_type: '{kind}'\nmixed_precision: fp8\n")
        with pytest.raises(VistaError, match=r"mixed_precision: 'fp8' is not supported; write one of no"):
            check_launch(ModelTraining(accelerate=file), "m")


def test_what_is_wrong_with_a_launchers_config_is_told_all_at_once_when_the_suite_is_read(
    root: Path, tmp_path: Path
):
    """Training comes hours after rollouts; nobody should learn then that it cannot start."""
    file = tmp_path / "eight.yaml"
    file.write_text("distributed_type: 'NO'\nmixed_precision: fp8\n")
    missing, broken = tmp_path / "none.yaml", tmp_path / "broken.yaml"
    broken.write_text("mixed_precision: [bf16\n")
    listed = tmp_path / "listed.yaml"
    listed.write_text("distributed_type: FSDP\nfsdp_config: [2]\ndeepspeed_config: text\n")
    raw = load_yaml(root / "config/smoke.yaml")
    entry = load_yaml(root / "models.yaml")["nano-internvl"]
    raw["models"] = [
        {"one": {**entry, "training": {"accelerate": str(file), "processes": 2}}},
        {"two": {**entry, "training": {"accelerate": str(missing)}}},
        {"three": {**entry, "training": {"accelerate": str(broken)}}},
        {"four": {**entry, "training": {"accelerate": str(listed), "save_every": 5}}},
    ]
    with pytest.raises(VistaError) as caught:
        load_suite(root / "config/smoke.yaml", raw, root)
    for said in (
        "eight.yaml: distributed_type: NO is one process, but model one asks for training.processes: 2",
        "eight.yaml: mixed_precision: 'fp8' is not supported",
        "model two: training.accelerate: ",
        "broken.yaml: not valid YAML",
        "listed.yaml: fsdp_config: expected a mapping of keys to values, found list",
        "listed.yaml: deepspeed_config: expected a mapping of keys to values, found str",
    ):
        assert said in str(caught.value)
