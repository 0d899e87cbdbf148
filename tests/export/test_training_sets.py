"""Training sets as other programs read them: by ``datasets``, TRL's trainers, and the documented schemas."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from tests import nano
from tests.export.conftest import World
from vista.chat import reply
from vista.errors import VistaError
from vista.export.folder import export
from vista.images import decode_image
from vista.records import Row

METHODS = ("sft-seed", "vista-sft", "vista-dpo")


def exported(world: World, method: str, to: str, out: Path) -> Path:
    export(world.run(method).id, out, to, suite_file=world.paths.suite)
    return out


def load(folder: Path, cache: Path) -> Any:
    return datasets.load_dataset(str(folder), cache_dir=str(cache), split="train")


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A loaded row with images as pixels."""
    return row | {"images": [image.convert("RGB").tobytes() for image in row["images"]]}


def expected(row: Row) -> dict[str, Any]:
    return dict(row) | {"images": [decode_image(image["bytes"]).tobytes() for image in row["images"]]}


@pytest.mark.parametrize("method", METHODS)
def test_a_training_set_loads_with_images_as_it_lies_in_the_results(
    world: World, tmp_path: Path, method: str
) -> None:
    rows = world.training_set(method)
    file = str(world.paths.training_set(world.run(method).id))
    found = datasets.load_dataset("parquet", data_files=file, cache_dir=str(tmp_path / "c"), split="train")
    assert found.features["images"] == datasets.List(datasets.Image())
    assert [plain(row) for row in found] == [expected(row) for row in rows]


@pytest.mark.parametrize("method", METHODS)
def test_a_hub_folder_holds_every_value(world: World, tmp_path: Path, method: str) -> None:
    rows = world.training_set(method)
    found = load(exported(world, method, "hub-folder", tmp_path / "out"), tmp_path / "c")
    assert [plain(row) for row in found] == [expected(row) for row in rows]
    assert {len(row["images"]) for row in found} == {1, 2, 3}


@pytest.mark.parametrize("method", METHODS)
def test_for_trl_only_tokens_and_their_ends_are_left_out(world: World, tmp_path: Path, method: str) -> None:
    rows = world.training_set(method)
    found = load(exported(world, method, "trl", tmp_path / "out"), tmp_path / "c")
    sides = ["chosen", "rejected"] if method == "vista-dpo" else ["completion"]
    assert found.column_names == ["query_id", "source", "images", "prompt", *sides]
    wanted = [{name: expected(row)[name] for name in found.column_names} for row in rows]
    assert [plain(row) for row in found] == wanted


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "internvl"])
@pytest.mark.parametrize("to", ["trl", "hub-folder"])
@pytest.mark.parametrize("method", METHODS)
def test_trls_own_trainer_takes_it_as_it_is(
    world: World, tmp_path: Path, method: str, to: str, architecture: str
) -> None:
    world.training_set(method)
    rows = load(exported(world, method, to, tmp_path / "out"), tmp_path / "c")
    checkpoint = nano.own_checkpoint(architecture)
    settings: dict[str, Any] = {
        **{"output_dir": str(tmp_path / "trained"), "max_steps": 1, "per_device_train_batch_size": 4},
        **{"max_length": None, "report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no"},
        **{"logging_steps": 1, "disable_tqdm": True, "activation_checkpointing": False},
    }
    given = {"train_dataset": rows, "processing_class": checkpoint.processor.inner}
    if method == "vista-dpo":
        reference = nano.own_checkpoint(architecture).model
        trainer = DPOTrainer(checkpoint.model, reference, args=DPOConfig(**settings), **given)
    else:
        trainer = SFTTrainer(checkpoint.model, args=SFTConfig(**settings), **given)
    batch = next(iter(trainer.get_train_dataloader()))
    # All images of all rows: a pair's go through the model with both responses.
    images = sum(len(row["images"]) for row in rows) * (2 if method == "vista-dpo" else 1)
    if architecture == "qwen2.5-vl":
        assert len(batch["image_grid_thw"]) in (images, images // 2)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] > 0


# --- LLaMA-Factory and ms-swift ---


def text_of(turn: Row) -> str:
    return "".join("<image>" if part["type"] == "image" else part["text"] for part in turn["content"])


def check_images(folder: Path, names: list[str], row: Row) -> None:
    for name, image in zip(names, row["images"], strict=True):
        assert (folder / name).read_bytes() == image["bytes"]
        assert re.fullmatch(r"images/[0-9a-f]{64}\.png", name)
        assert hashlib.sha256(image["bytes"]).hexdigest() in name
        with Image.open(folder / name) as opened:
            assert opened.format == "PNG"


@pytest.mark.parametrize("method", METHODS)
def test_llama_factory_reads_it_by_its_documented_schema(world: World, tmp_path: Path, method: str) -> None:
    rows = world.training_set(method)
    folder = exported(world, method, "llama-factory", tmp_path / "out")
    ((name, entry),) = json.loads((folder / "dataset_info.json").read_text()).items()
    assert re.fullmatch(r"[\w.-]+", name)
    pairs = method == "vista-dpo"
    columns = ["messages", "images", *(["chosen", "rejected"] if pairs else [])]
    assert entry == {
        **{"file_name": "train.json", "formatting": "sharegpt", "columns": {each: each for each in columns}},
        "tags": {
            **{"role_tag": "role", "content_tag": "content", "user_tag": "user"},
            **{"assistant_tag": "assistant", "system_tag": "system"},
        },
        **({"ranking": True} if pairs else {}),
    }
    found = json.loads((folder / entry["file_name"]).read_text())
    assert len(found) == len(rows)
    for read, row in zip(found, rows, strict=True):
        assert list(read) == columns
        roles = [turn["role"] for turn in read["messages"]]
        assert roles == ["system", "user", *([] if pairs else ["assistant"])]
        assert all(set(turn) == {"role", "content"} for turn in read["messages"])
        texts = [turn["content"] for turn in read["messages"]]
        assert texts[:2] == [text_of(turn) for turn in row["prompt"]]
        if pairs:
            for side in ("chosen", "rejected"):
                assert read[side] == {"role": "assistant", "content": text_of(row[side][0])}
        else:
            assert texts[2] == text_of(row["completion"][0])
        assert sum(text.count("<image>") for text in texts) == len(read["images"])
        check_images(folder, read["images"], row)


@pytest.mark.parametrize("method", METHODS)
def test_ms_swift_reads_it_by_its_documented_schema(world: World, tmp_path: Path, method: str) -> None:
    rows = world.training_set(method)
    folder = exported(world, method, "ms-swift", tmp_path / "out")
    found = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len(found) == len(rows)
    pairs = method == "vista-dpo"
    for read, row in zip(found, rows, strict=True):
        assert list(read) == ["messages", "images", *(["rejected_response"] if pairs else [])]
        assert [turn["role"] for turn in read["messages"]] == ["system", "user", "assistant"]
        texts = [turn["content"] for turn in read["messages"]]
        assert texts == [
            text_of(turn) for turn in [*row["prompt"], *row["chosen" if pairs else "completion"]]
        ]
        if pairs:
            assert read["rejected_response"] == text_of(row["rejected"][0])
        assert sum(text.count("<image>") for text in texts) == len(read["images"])
        check_images(folder, read["images"], row)


def test_an_image_of_several_rows_is_one_file(world: World, tmp_path: Path) -> None:
    rows = world.training_set("vista-sft")
    folder = exported(world, "vista-sft", "ms-swift", tmp_path / "out")
    distinct = {image["bytes"] for row in rows for image in row["images"]}
    assert len(list((folder / "images").iterdir())) == len(distinct) < sum(len(row["images"]) for row in rows)


@pytest.mark.parametrize("to", ["llama-factory", "ms-swift"])
@pytest.mark.parametrize("mark", ["<image>", "<video>", "<audio>"])
def test_a_text_that_spells_a_place_for_an_image_is_refused_with_its_rows(
    world: World, tmp_path: Path, to: str, mark: str
) -> None:
    world.training_set("vista-sft", completion=reply(f"the {mark} answer"))
    with pytest.raises(
        VistaError, match=rf"row 0: query 'train-grid-closed-0': a text spells {mark}"
    ) as caught:
        exported(world, "vista-sft", to, tmp_path / "out")
    assert "--to trl or hub-folder" in str(caught.value)
    assert not list(tmp_path.glob("*out*")), "nothing half-written is left"
    exported(world, "vista-sft", "trl", tmp_path / "out")


def test_jpegs_keep_their_bytes_and_get_their_own_ending(world: World, tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    Image.new("RGB", (28, 28), "red").save(picture)
    images = [{"bytes": picture.read_bytes(), "path": None}]
    prompt = [{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "is"}]}]
    world.training_set("vista-sft", images=images, prompt=prompt)
    folder = exported(world, "vista-sft", "ms-swift", tmp_path / "out")
    (file,) = (folder / "images").iterdir()
    assert (file.suffix, file.read_bytes()) == (".jpg", picture.read_bytes())
