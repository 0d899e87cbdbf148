"""A checkpoint's pickles are never read and its code never runs, whichever stage loads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.evaluation.conftest import RUN, TASKS, SmallSuite
from tests.evaluation.conftest import query as asked
from tests.rollouts.conftest import POLICY, SAMPLES, policy_folder, suite_at
from tests.safety.conftest import Trap
from tests.training.conftest import example, responses
from tests.training.test_train import prepare, run_of
from tests.vouched import vouch
from vista.config import HubModel, Loading, LocalModel, SelfImprovement, Suite, load_suite
from vista.engines.checkpoints import load_checkpoint, load_outline
from vista.engines.presenter import load_processor
from vista.errors import VistaError
from vista.evaluation.evaluate import evaluate
from vista.models.build import build_model
from vista.paths import Paths
from vista.rollouts.gains import gains_shard
from vista.rollouts.sample import sample_shard
from vista.rollouts.score import score_shard
from vista.training.train import train

__all__ = ["policy_folder"]  # a fixture

Stage = tuple[Path, Callable[[], None]]  # the checkpoint folder that a stage loads, and the stage


@pytest.fixture(params=["models", "sample", "score", "gains", "train", "evaluate"])
def stage(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> Stage:
    """Each stage that loads checkpoints, ready to run."""
    testbed = load_suite(root / "config/testbed.yaml", root=root)
    if request.param == "models":
        source = shutil.copytree(request.getfixturevalue("saved"), tmp_path / "mine")
        suite = testbed.model_copy(update={"models": {"mine": LocalModel(kind="path", path=source)}})
        return source, lambda: build_model(suite, Paths(tmp_path / "results"), "mine")
    if request.param == "train":
        paths = Paths(tmp_path / "results")
        rows = [example(n, ids) for n, ids in enumerate(responses(4))]
        prepare(paths, run_of("rest-em"), rows)
        return paths.base(run_of("rest-em").model), lambda: train(testbed, paths, run_of("rest-em"))
    if request.param == "evaluate":
        suite = testbed.model_copy(
            update={
                "results": tmp_path,
                "out_of_domain": [],
                "train_sets": {"grids": TASKS},
                "eval_max_new_tokens": 4,
            }
        )
        small = SmallSuite(suite, Paths(tmp_path))
        for task in TASKS:
            small.write_queries(task, [asked(task, n) for n in range(2)])
        return small.save_base(), lambda: evaluate(suite, small.paths, RUN)
    shutil.copytree(request.getfixturevalue("policy_folder"), tmp_path, dirs_exist_ok=True)
    scored, method = suite_at(tmp_path), SelfImprovement.model_validate(GAINED)
    small_suite = scored.model_copy(update={"methods": {**scored.methods, "gained": method}})
    paths = Paths(tmp_path)
    sample_shard(small_suite, paths, POLICY, SAMPLES, 0)
    work = {
        "sample": lambda: sample_shard(small_suite, paths, POLICY, SAMPLES, 0),
        "score": lambda: score_shard(small_suite, paths, POLICY, f"{SAMPLES}+all", 0),
        "gains": lambda: gains_shard(small_suite, paths, POLICY, f"{SAMPLES}+all", 0),
    }
    return paths.base(POLICY.model), work[request.param]


GAINED = {
    "kind": "self-improvement",
    "initial_policy": "zero-shot",
    "rollouts": {"k": 4, "max_new_tokens": 12},
    "filter": {"kind": "vig", "scope": "all"},
}


def give_code(folder: Path, trap: Trap, file: str = "config.json", kind: str = "new") -> None:
    """Let a checkpoint bring code of its own."""
    (folder / "modeling_own.py").write_text(trap.code)
    path = folder / file
    value = json.loads(path.read_text())
    classes = {
        "AutoConfig": "modeling_own.OwnConfig",
        "AutoProcessor": "modeling_own.OwnProcessor",
        "AutoTokenizer": [None, "modeling_own.OwnTokenizer"],
        "AutoModelForImageTextToText": "modeling_own.OwnModel",
    }
    value["auto_map"] = classes
    if kind == "new":
        value["model_type"] = "own"  # none that transformers has
    path.write_text(json.dumps(value))
    vouch(folder)


def test_without_a_trap_each_stage_runs(stage: Stage, looked_up: list[str]) -> None:
    _, run = stage
    run()
    assert looked_up == []


def test_pickles_beside_the_weights_are_not_read(stage: Stage, trap: Trap, looked_up: list[str]) -> None:
    folder, run = stage
    for name in ("pytorch_model.bin", "adapter_model.bin", "optimizer.pt", "training_args.bin"):
        trap.save(folder / name)
    vouch(folder)
    run()
    assert not trap.sprung
    assert looked_up == []


@pytest.mark.parametrize("left", ["nothing", "other.safetensors", "an index"])
def test_pickles_in_the_place_of_the_weights_are_refused_and_named(
    stage: Stage, trap: Trap, left: str
) -> None:
    folder, run = stage
    weights = folder / "model.safetensors"
    names = list(load_file(weights))
    if left == "other.safetensors":
        weights.rename(folder / left)
    elif left == "an index":
        weights.rename(folder / "model-00001-of-00001.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, "pytorch_model.bin")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        weights.unlink()
    trap.save(folder / "pytorch_model.bin")
    with pytest.raises(VistaError, match=str(folder)):
        run()
    assert not trap.sprung


@pytest.mark.parametrize("kind", ["new", "known"])
def test_code_of_a_checkpoint_does_not_run_and_the_error_names_the_opt_in(
    stage: Stage, trap: Trap, kind: str
) -> None:
    folder, run = stage
    give_code(folder, trap, kind=kind)
    with pytest.raises(VistaError, match=r"config\.json.*modeling_own.*trust_remote_code: true"):
        run()
    assert not trap.sprung


@pytest.mark.parametrize("file", ["processor_config.json", "tokenizer_config.json"])
def test_code_of_its_processor_or_tokenizer_does_not_run_either(folder: Path, trap: Trap, file: str) -> None:
    give_code(folder, trap, file, kind="known")
    for load in (load_checkpoint, load_outline, load_processor):
        with pytest.raises(VistaError, match=rf"{file}.*trust_remote_code"):
            load(folder)
    assert not trap.sprung


def test_with_the_opt_in_of_its_entry_the_code_runs(
    folder: Path, trap: Trap, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traps above would spring: nothing but the entry in models.yaml keeps them from it."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    give_code(folder, trap)
    testbed = load_suite(root / "config/testbed.yaml", root=root)
    entry = LocalModel(kind="path", path=folder, trust_remote_code=True)
    suite = testbed.model_copy(update={"models": {"mine": entry}})
    with pytest.raises((VistaError, AttributeError)):  # the code is a trap and nothing else
        build_model(suite, Paths(tmp_path / "results"), "mine")
    assert trap.sprung


def test_code_of_another_repository_is_refused_even_with_the_opt_in(folder: Path) -> None:
    path = folder / "config.json"
    value = {**json.loads(path.read_text()), "auto_map": {"AutoConfig": "some/one--modeling.Config"}}
    path.write_text(json.dumps(value))
    with pytest.raises(VistaError, match=r"some/one--modeling\.Config.*another repository"):
        load_checkpoint(folder, trust_remote_code=True)


def test_the_opt_in_does_not_travel_in_the_checkpoint(folder: Path, trap: Trap) -> None:
    assert "trust_remote_code" not in Loading.model_fields
    give_code(folder, trap)
    (folder / "loading.json").write_text(json.dumps({"trust_remote_code": True}))
    with pytest.raises(VistaError, match="trust_remote_code"):
        load_checkpoint(folder)
    assert not trap.sprung


def test_no_entry_opts_in_by_default() -> None:
    assert not LocalModel(kind="path", path=Path("x")).trust_remote_code
    assert not HubModel(kind="hub", repo="a/b", revision=None).trust_remote_code


def test_adapters_that_would_be_put_on_other_weights_are_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/elsewhere"}))
    with pytest.raises(VistaError, match=r"adapter_config\.json.*merge"):
        load_checkpoint(folder)


@pytest.mark.parametrize("shard", ["../elsewhere.safetensors", "/etc/elsewhere.safetensors", "a.bin", 3])
def test_an_index_names_safetensors_of_its_own_folder_only(folder: Path, shard: Any) -> None:
    (folder.parent / "elsewhere.safetensors").write_bytes(b"")
    (folder / "a.bin").write_bytes(b"")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": shard}}))
    with pytest.raises(VistaError, match=r"index\.json: weight_map"):
        load_checkpoint(folder)


@pytest.mark.parametrize("dtype", ["load", "os", "no such type"])
def test_a_type_of_weights_is_looked_up_among_types_only(root: Path, tmp_path: Path, dtype: str) -> None:
    paths = Paths(tmp_path)
    prepare(paths, run_of("rest-em"), [example(0, [30])])
    config = paths.base(run_of("rest-em").model) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "dtype": dtype}))
    vouch(config.parent)
    suite: Suite = load_suite(root / "config/testbed.yaml", root=root)
    with pytest.raises(VistaError, match=r"config\.json: dtype"):
        train(suite, paths, run_of("rest-em"))


@pytest.mark.parametrize("part", [None, "text_config", "vision_config"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("quantization_config", {"quant_method": "mxfp4"}),
        ("quantization_config", {"quant_method": "fp8", "weight_block_size": [128, 128]}),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ("compression_config", {"quant_method": "compressed-tensors"}),
    ],
)
def test_a_config_cannot_choose_code_that_computes_quantised_weights(
    saved: Path, tmp_path: Path, part: str | None, name: str, settings: dict[str, Any]
) -> None:
    folder = shutil.copytree(saved, tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    (config if part is None else config[part])[name] = settings
    (folder / "config.json").write_text(json.dumps(config))
    where = name if part is None else f"{part}.{name}"
    for load in (load_checkpoint, load_outline):
        with pytest.raises(VistaError, match=rf"config.json: {where}: quantised weights are refused"):
            load(folder)


@pytest.mark.parametrize("key", ["use_kernels", "kernel_config", "trust_remote_code", "custom_generate"])
def test_no_other_setting_of_a_config_fetches_code(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("code was asked for")

    folder = shutil.copytree(saved, tmp_path / "mine")
    for name in ("config.json", "generation_config.json"):
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(config | {key: {"RMSNorm": "kernels-community/x"}}))
    for name in ("get_kernel", "register_kernel_replacements_and_fusions"):
        monkeypatch.setattr(f"transformers.integrations.hub_kernels.{name}", fetch, raising=False)
    monkeypatch.setattr(
        "transformers.modeling_utils.PreTrainedModel.set_use_kernels", lambda self, use, *_: use and fetch()
    )
    model = load_checkpoint(folder, device="cpu").model
    assert not model.use_kernels
