"""Checkpoint folders that are cut short, of another shape, or none: refused when linked, and when read."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.malformed.harness import MODELS, SAMPLE, SUITE, Case, Spoil, World, case, refused

BASE = "results/models/nano"


def config(folder: str, **changes: object) -> Spoil:
    return lambda world: world.json(f"{folder}/config.json", lambda value: value.update(changes))


def removed(name: str) -> Spoil:
    return lambda world: world.path(name).unlink()


def content(name: str, text: str | bytes) -> Spoil:
    return lambda world: world.write(name, text)


def weights(folder: str, change: str) -> Spoil:
    """Change the first large weight of a checkpoint."""

    def spoil(world: World) -> None:
        path = world.path(f"{folder}/model.safetensors")
        tensors = load_file(path)
        name = next(name for name, tensor in tensors.items() if name.endswith("mlp.up_proj.weight"))
        value = tensors.pop(name)
        if change == "nan":
            tensors[name] = value.index_fill(0, torch.tensor([0]), float("nan"))
        elif change == "inf":
            tensors[name] = value.index_fill(0, torch.tensor([0]), float("inf"))
        elif change == "shape":
            tensors[name] = value[:-8].contiguous()
        save_file(tensors, path, metadata={"format": "pt"})

    return spoil


def pickled(world: World) -> None:
    world.path("checkpoint/model.safetensors").rename(world.path("checkpoint/pytorch_model.bin"))


def truncated(name: str, share: float = 0.5) -> Spoil:
    return lambda world: world.cut(name, share)


def index(folder: str, value: object) -> Spoil:
    text = value if isinstance(value, str) else json.dumps(value)
    return content(f"{folder}/model.safetensors.index.json", text)


def folder_is_file(world: World) -> None:
    import shutil

    shutil.rmtree(world.path("checkpoint"))
    world.write("checkpoint", "here are no weights")


def bare_tokenizer(world: World) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        world.path(f"checkpoint/{name}").unlink()


def no_template(world: World) -> None:
    world.path("checkpoint/chat_template.jinja").unlink()
    for name in ("tokenizer_config.json", "processor_config.json"):
        world.json(f"checkpoint/{name}", lambda value: value.pop("chat_template", None))


LINKED = [
    case(
        "no folder at all",
        MODELS,
        ["elsewhere: no such folder"],
        lambda w: w.json(SUITE, lambda v: v["models"]["nano"].update(path="elsewhere")),
    ),
    case("a file in the place of the folder", MODELS, ["checkpoint", "folder"], folder_is_file),
    case("no config", MODELS, ["checkpoint: no config.json"], removed("checkpoint/config.json")),
    case(
        "a config that is no json",
        MODELS,
        ["checkpoint/config.json", "JSON"],
        content("checkpoint/config.json", "{not json"),
    ),
    case("an empty config", MODELS, ["checkpoint/config.json"], content("checkpoint/config.json", "")),
    case(
        "a config that is a list", MODELS, ["checkpoint/config.json"], content("checkpoint/config.json", "[]")
    ),
    case(
        "a config of no model type",
        MODELS,
        ["checkpoint/config.json", "model_type"],
        lambda w: w.json("checkpoint/config.json", lambda v: v.pop("model_type")),
    ),
    case(
        "an unknown architecture",
        MODELS,
        ["checkpoint/config.json", "qwen9-vl"],
        config("checkpoint", model_type="qwen9-vl"),
    ),
    case(
        "a language model without images",
        MODELS,
        ["checkpoint/config.json", "gpt2"],
        config("checkpoint", model_type="gpt2"),
    ),
    case("no weights", MODELS, ["checkpoint: no *.safetensors"], removed("checkpoint/model.safetensors")),
    case(
        "only pickled weights",
        MODELS,
        ["checkpoint: no *.safetensors", "pytorch_model.bin", "can run code"],
        pickled,
    ),
    case(
        "weights of no bytes",
        MODELS,
        ["checkpoint/model.safetensors", "copy"],
        content("checkpoint/model.safetensors", b""),
    ),
    case(
        "weights that are cut short",
        MODELS,
        ["checkpoint/model.safetensors", "copy"],
        truncated("checkpoint/model.safetensors"),
    ),
    case(
        "weights that are a pointer to large files",
        MODELS,
        ["checkpoint/model.safetensors"],
        content(
            "checkpoint/model.safetensors",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        ),
    ),
    case("an index that is no json", MODELS, ["model.safetensors.index.json"], index("checkpoint", "{")),
    case(
        "an index without a map",
        MODELS,
        ["model.safetensors.index.json", "weight_map"],
        index("checkpoint", {"metadata": {}}),
    ),
    case(
        "an index that names a missing shard",
        MODELS,
        ["missing model-2.safetensors"],
        index("checkpoint", {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}),
    ),
    case(
        "an index that goes up",
        MODELS,
        ["model.safetensors.index.json", "../models.yaml"],
        index("checkpoint", {"weight_map": {"a": "../models.yaml"}}),
    ),
    case(
        "no processor",
        MODELS,
        ["checkpoint: no processor_config.json"],
        removed("checkpoint/processor_config.json"),
    ),
    case(
        "a processor that is no json",
        MODELS,
        ["checkpoint", "processor"],
        content("checkpoint/processor_config.json", "{"),
    ),
    case(
        "a processor of an unknown class",
        MODELS,
        ["checkpoint", "processor"],
        lambda w: w.json(
            "checkpoint/processor_config.json",
            lambda v: v.update(
                processor_class="NoProcessor", image_processor={"image_processor_type": "None"}
            ),
        ),
    ),
    case("no tokenizer", MODELS, ["checkpoint", "tokenizer"], bare_tokenizer),
    case(
        "a tokenizer that is no json",
        MODELS,
        ["checkpoint", "tokenizer"],
        content("checkpoint/tokenizer.json", "{"),
    ),
    case(
        "a tokenizer that is cut short",
        MODELS,
        ["checkpoint", "tokenizer"],
        truncated("checkpoint/tokenizer.json"),
    ),
    case("no chat template", MODELS, ["checkpoint: no chat template"], no_template),
    case(
        "a chat template that is no template",
        MODELS,
        ["checkpoint", "chat template"],
        content("checkpoint/chat_template.jinja", "{% for message in messages %}"),
    ),
    case(
        "a chat template that leaves the image out",
        MODELS,
        ["checkpoint", "chat template"],
        content("checkpoint/chat_template.jinja", "{% for m in messages %}{{ m['role'] }}{% endfor %}"),
    ),
    case(
        "loading options that are no json",
        MODELS,
        ["checkpoint/loading.json"],
        content("checkpoint/loading.json", "{"),
    ),
    case(
        "loading options of another type",
        MODELS,
        ["checkpoint/loading.json", "max_pixels"],
        content("checkpoint/loading.json", '{"max_pixels": "many"}'),
    ),
    case(
        "a processor option that is not there",
        MODELS,
        ["processor", "colour"],
        lambda w: w.json(SUITE, lambda v: v["models"]["nano"].update(processor={"colour": 3})),
    ),
    case(
        "a generation config that is no json",
        MODELS,
        ["checkpoint/generation_config.json"],
        content("checkpoint/generation_config.json", "{"),
    ),
]

READ = [
    case("weights of another shape", SAMPLE, [BASE, "shape"], weights(BASE, "shape")),
    case("weights that lack a tensor", SAMPLE, [BASE, "lack 1 tensors"], weights(BASE, "lack")),
    case(
        "weights that are not numbers",
        SAMPLE,
        [BASE, "mlp.up_proj.weight", "not finite"],
        weights(BASE, "nan"),
    ),
    case(
        "weights that are infinite", SAMPLE, [BASE, "mlp.up_proj.weight", "not finite"], weights(BASE, "inf")
    ),
    case(
        "weights cut short after linking",
        SAMPLE,
        [BASE, "model.safetensors"],
        truncated(f"{BASE}/model.safetensors", 0.9),
    ),
    case(
        "weights for a config of more layers",
        SAMPLE,
        [BASE, "lack"],
        lambda w: w.json(
            f"{BASE}/config.json",
            lambda v: v["text_config"].update(num_hidden_layers=5, layer_types=["full_attention"] * 5),
        ),
    ),
    case(
        "weights for a config of fewer layers",
        SAMPLE,
        [BASE],
        lambda w: w.json(
            f"{BASE}/config.json",
            lambda v: v["text_config"].update(num_hidden_layers=2, layer_types=["full_attention"] * 2),
        ),
    ),
    case(
        "a config of another width",
        SAMPLE,
        [BASE, "shape"],
        lambda w: w.json(f"{BASE}/config.json", lambda v: v["text_config"].update(intermediate_size=64)),
    ),
    case(
        "no end token",
        SAMPLE,
        [BASE, "end token"],
        lambda w: (
            w.json(f"{BASE}/generation_config.json", lambda v: v.update(eos_token_id=None)),
            w.json(f"{BASE}/tokenizer_config.json", lambda v: v.pop("eos_token")),
        ),
    ),
    case(
        "an end token beyond the vocabulary",
        SAMPLE,
        [BASE, "end token", "99999"],
        lambda w: w.json(f"{BASE}/generation_config.json", lambda v: v.update(eos_token_id=[99999])),
    ),
    case(
        "a tokenizer with more words than the model",
        SAMPLE,
        [BASE, "vocabulary"],
        lambda w: grow_tokenizer(w),
    ),
    case(
        "a checkpoint without its manifest",
        SAMPLE,
        [f"{BASE}/manifest.json: no such file"],
        removed(f"{BASE}/manifest.json"),
    ),
    case(
        "a checkpoint with a broken manifest",
        SAMPLE,
        [f"{BASE}/manifest.json"],
        content(f"{BASE}/manifest.json", "{"),
    ),
    case(
        "a manifest that is not text",
        SAMPLE,
        [f"{BASE}/manifest.json"],
        content(f"{BASE}/manifest.json", b"\xff\xfe{"),
    ),
    case(
        "a manifest of another form",
        SAMPLE,
        [f"{BASE}/manifest.json"],
        content(f"{BASE}/manifest.json", '{"status": "complete"}'),
    ),
]


def grow_tokenizer(world: World) -> None:
    world.json(
        f"{BASE}/tokenizer.json",
        lambda value: value["added_tokens"].append(
            {
                "id": 5000,
                "content": "<|late|>",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ),
    )


@pytest.mark.parametrize("spoilt", [*LINKED, *READ])
def test_a_malformed_checkpoint_is_refused(spoilt: Case, world: World) -> None:
    refused(world, spoilt)
