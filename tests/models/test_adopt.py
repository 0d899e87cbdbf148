"""What was trained elsewhere becomes a run's checkpoint if it is of the run's model; else it says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from vista.config import Loading, load_suite, load_yaml
from vista.engines.checkpoints import load_checkpoint, save_checkpoint
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder, read_manifest
from vista.models.adopt import adopt, tied_weights
from vista.models.build import check_checkpoint
from vista.models.nano import Size, build_nano
from vista.paths import Paths

WORDS = ["which", "digit", "is", "in", "row", "?", "answer", ":", "yes", "no"]
RUN = Run("nano-smoke", "grids", "mine", 0, 1)


@dataclass(frozen=True)
class Elsewhere:
    """A base checkpoint, and a folder with what was trained from it."""

    paths: Paths
    source: Path
    adopted: Path
    take: Callable[[], None]

    @property
    def base(self) -> Path:
        return self.paths.base(RUN.model)

    def refused(self) -> str:
        with pytest.raises(VistaError) as caught:
            self.take()
        assert not self.adopted.exists()
        return str(caught.value)

    def edit(self, name: str, **values: Any) -> None:
        """Change values of a JSON file; ``section__name`` is one of a section."""
        file = self.source / name
        config = json.loads(file.read_text())
        for key, value in values.items():
            *sections, last = key.split("__")
            part = config
            for section in sections:
                part = part[section]
            part[last] = value
        file.write_text(json.dumps(config))

    def train(self, seed: int = 1, words: list[str] = WORDS, **size: int) -> None:
        """Save another checkpoint of the same architecture."""
        shutil.rmtree(self.source, ignore_errors=True)
        model, processor = build_nano("qwen2.5-vl", words, seed, Size(**{**vars(SMALL), **size}))
        save_checkpoint(model, processor, self.source)

    def adapt(self, **settings: Any) -> Any:
        """Save an adapter of the base that changes what it says; returns the adapted model."""
        shutil.rmtree(self.source, ignore_errors=True)
        model = load_checkpoint(self.base, device="cpu").model
        chosen = {"r": 2, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **settings}
        adapted = get_peft_model(model, LoraConfig(**chosen))
        generator = torch.Generator().manual_seed(0)
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
        adapted.save_pretrained(self.source)
        return adapted


SMALL = Size(layers=2, width=64, vision_layers=1, vision_width=16)


@pytest.fixture
def elsewhere(root: Path, tmp_path: Path) -> Elsewhere:
    source = tmp_path / "mine"
    own = {"mine": {"kind": "external", "checkpoints": {RUN.model: str(source)}}}
    raw = load_yaml(root / "config/smoke.yaml")
    raw |= {"results": str(tmp_path / "results"), "methods": [*raw["methods"], own]}
    suite = load_suite(root / "config/smoke.yaml", raw, root)
    paths = Paths(suite.results)
    made = Elsewhere(paths, source, paths.adopted(RUN.id), lambda: adopt(suite, paths, RUN))
    model, processor = build_nano("qwen2.5-vl", WORDS, 0, SMALL)
    save_checkpoint(model, processor, made.base)
    Recorder("models", {"model": RUN.model}, []).write(made.base, {})
    made.train()
    return made


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_checkpoint(folder, device="cpu").model.state_dict()
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_whole_checkpoint_is_linked(elsewhere: Elsewhere) -> None:
    (elsewhere.source / "optimizer.pt").write_text("not read")
    elsewhere.take()
    assert same(weights(elsewhere.adopted), weights(elsewhere.source))
    file = elsewhere.adopted / "model.safetensors"
    assert file.readlink() == elsewhere.source / "model.safetensors"
    assert not (elsewhere.adopted / "optimizer.pt").exists()
    manifest = read_manifest(elsewhere.adopted)
    assert (manifest.settings["kind"], manifest.settings["from_base"]) == ("checkpoint", [])
    assert set(manifest.inputs) == {str(elsewhere.base)}


def test_files_of_the_processor_that_are_missing_are_those_of_the_base(elsewhere: Elsewhere) -> None:
    kept = {"config.json", "model.safetensors"}
    for file in elsewhere.source.iterdir():
        if file.name not in kept:
            file.unlink()
    elsewhere.take()
    load_checkpoint(elsewhere.adopted)
    borrowed = set(read_manifest(elsewhere.adopted).settings["from_base"])
    assert {"tokenizer.json", "processor_config.json", "chat_template.jinja"} <= borrowed
    assert not any((elsewhere.adopted / name).is_symlink() for name in borrowed)


def test_another_chat_template_is_kept_and_recorded(elsewhere: Elsewhere) -> None:
    file = elsewhere.source / "chat_template.jinja"
    file.write_text(file.read_text() + "{# mine #}")
    elsewhere.take()
    assert read_manifest(elsewhere.adopted).settings["chat_template"] == "its own"


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ({"layers": 3}, r"text_config.num_hidden_layers: 3, but the base"),
        ({"vision_width": 32}, r"vision_config.*: 32, but the base"),
        ({"words": [*WORDS, "more"]}, r"vocab_size"),
    ],
)
def test_other_sizes_are_refused_by_their_name(elsewhere: Elsewhere, size: Any, said: str) -> None:
    elsewhere.train(**size)
    with pytest.raises(VistaError, match=said):
        elsewhere.take()


def test_another_family_is_refused(elsewhere: Elsewhere) -> None:
    shutil.rmtree(elsewhere.source)
    save_checkpoint(*build_nano("qwen3-vl", WORDS, 0, SMALL), elsewhere.source)
    assert "model_type: 'qwen3_vl', but the base" in elsewhere.refused()


def test_another_vocabulary_of_the_same_size_is_refused(elsewhere: Elsewhere) -> None:
    elsewhere.train(words=[*WORDS[:-1], "maybe"])
    said = elsewhere.refused()
    assert f"{elsewhere.source}: the vocabulary is not that of model nano-smoke: " in said


def test_another_image_processor_is_refused(elsewhere: Elsewhere) -> None:
    elsewhere.edit("processor_config.json", image_processor__image_mean=[0.1, 0.2, 0.3])
    assert "the image processor is not that of model nano-smoke: 'image_mean' is [0.1, 0.2, 0.3]" in (
        elsewhere.refused()
    )


def test_weights_of_another_shape_than_the_base_are_refused_by_name(elsewhere: Elsewhere) -> None:
    file = elsewhere.source / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if name.endswith("q_proj.weight"))
    save_file({**tensors, name: tensors[name][:-1].contiguous()}, file, {"format": "pt"})
    assert f"weight {name} has shape 63×64" in elsewhere.refused()


def test_weights_that_are_missing_are_refused(elsewhere: Elsewhere) -> None:
    file = elsewhere.source / "model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(name for name in sorted(tensors) if name.endswith("q_proj.weight")))
    save_file(tensors, file, {"format": "pt"})
    assert "the weights lack 1 tensors" in elsewhere.refused()


def test_code_and_pickles_are_refused(elsewhere: Elsewhere) -> None:
    elsewhere.edit("config.json", auto_map={"AutoModel": "mine.Model"})
    assert "the checkpoint brings code" in elsewhere.refused()
    (elsewhere.source / "model.safetensors").rename(elsewhere.source / "pytorch_model.bin")
    assert "no *.safetensors, only pytorch_model.bin" in elsewhere.refused()


def test_a_folder_that_is_missing_says_which_field_names_it(elsewhere: Elsewhere) -> None:
    shutil.rmtree(elsewhere.source)
    assert "no such folder; correct checkpoints.nano-smoke of method mine" in elsewhere.refused()


# --- adapters ---


def test_an_adapter_is_merged_with_its_base(elsewhere: Elsewhere) -> None:
    adapted = elsewhere.adapt()
    elsewhere.take()
    own = weights(elsewhere.adopted)
    assert same(own, adapted.merge_and_unload().state_dict())
    assert not same(own, weights(elsewhere.base))
    manifest = read_manifest(elsewhere.adopted)
    assert manifest.settings["kind"] == "adapter"
    assert str(elsewhere.source / "adapter_model.safetensors") in manifest.inputs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"base_model_name_or_path": "Qwen/other-7b"},
            "base_model_name_or_path: .*'Qwen/other-7b', but model",
        ),
        ({"target_modules": ["nowhere"]}, r"Target modules \{'nowhere'\} not found"),
        ({"target_modules": ["q_proj"]}, r"has base_model.*v_proj.lora_A.weight \(\d+ keys\), but the base"),
        ({"target_modules": ["q_proj", "k_proj", "v_proj"]}, "does not have base_model.*k_proj.lora_A"),
        ({"r": 8}, "size mismatch for base_model.*q_proj.lora_A"),
        ({"use_next_years_lora": True}, "use_next_years_lora: the installed peft does not know"),
        ({"peft_type": "UNKNOWN"}, "the installed peft cannot use the adapter"),
        ({"auto_mapping": {"parent_library": "mine"}}, "auto_mapping: it names code"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_with_the_key(
    elsewhere: Elsewhere, changes: dict[str, Any], said: str
) -> None:
    elsewhere.adapt()
    elsewhere.edit("adapter_config.json", **changes)
    with pytest.raises(VistaError, match=said):
        elsewhere.take()
    assert not elsewhere.adopted.exists()


def test_an_adapter_with_numbers_that_are_none_is_refused(elsewhere: Elsewhere) -> None:
    elsewhere.adapt()
    file = elsewhere.source / "adapter_model.safetensors"
    save_file({name: weight * float("nan") for name, weight in load_file(file).items()}, file)
    assert "the installed peft cannot merge the adapter: ValueError: NaNs" in elsewhere.refused()


def test_an_adapter_as_a_pickle_is_refused(elsewhere: Elsewhere) -> None:
    elsewhere.adapt()
    file = elsewhere.source / "adapter_model.safetensors"
    file.rename(file.with_name("adapter_model.bin"))
    assert "no adapter_model.safetensors, only adapter_model.bin" in elsewhere.refused()


@pytest.mark.parametrize("name", ["/data/Nano-Smoke", "a/models--lab--nano-smoke/snapshots/1", None, ""])
def test_a_base_may_be_named_by_its_folder_anywhere(elsewhere: Elsewhere, name: str | None) -> None:
    elsewhere.adapt()
    elsewhere.edit("adapter_config.json", base_model_name_or_path=name)
    elsewhere.take()


def test_a_base_of_another_name_is_known_by_its_bytes(elsewhere: Elsewhere, tmp_path: Path) -> None:
    elsewhere.adapt()
    shutil.copytree(elsewhere.base, tmp_path / "start")
    elsewhere.edit("adapter_config.json", base_model_name_or_path=str(tmp_path / "start"))
    elsewhere.take()


def test_weights_that_are_one_are_found(elsewhere: Elsewhere) -> None:
    first, second = torch.ones(2), torch.ones(2)
    assert tied_weights({"a": first, "b": second, "c": first}) == [("a", "c")]


def test_an_adapter_as_a_model_is_called_one_and_shown_where_it_belongs(elsewhere: Elsewhere) -> None:
    elsewhere.adapt()
    with pytest.raises(
        VistaError, match=r"holds a peft adapter.*kind: external, checkpoints: \{BASE: FOLDER\}"
    ):
        check_checkpoint(elsewhere.source, Loading())
