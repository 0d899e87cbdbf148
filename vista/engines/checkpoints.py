"""Loading and saving checkpoint folders: a model with its processor, whole or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor

from vista.chat import end_tokens, forbidden_tokens
from vista.errors import VistaError


@dataclass
class Checkpoint:
    """A loaded model in evaluation mode, with what every user of it needs to know."""

    model: Any
    processor: Any
    end_ids: list[int]
    forbidden_ids: list[int]
    pad_id: int
    context: int | None

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        device: torch.device = next(self.model.parameters()).device
        return device


def wrap(model: Any, processor: Any) -> Checkpoint:
    """Gather what the engines ask of a model and processor that are in memory."""
    ends = end_tokens(model, processor)
    if not ends:
        raise VistaError("the checkpoint declares no end token; set eos_token_id in generation_config.json")
    pad = processor.tokenizer.pad_token_id
    text_config = model.config.get_text_config()
    return Checkpoint(
        model=model,
        processor=processor,
        end_ids=ends,
        forbidden_ids=forbidden_tokens(processor, ends),
        pad_id=ends[0] if pad is None else pad,
        context=getattr(text_config, "max_position_embeddings", None),
    )


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no complete checkpoint, before anything heavy is loaded."""
    if not folder.is_dir():
        raise VistaError(f"{folder}: no such folder; run the rule that makes it, or mend the model's path")
    if not (folder / "config.json").is_file():
        raise VistaError(f"{folder}: no config.json; this is no checkpoint folder")
    if not list(folder.glob("*.safetensors")):
        raise VistaError(f"{folder}: no *.safetensors; other weight formats are not loaded")
    if not list(folder.glob("*processor_config.json")):
        raise VistaError(f"{folder}: no processor_config.json; save the model's processor beside it")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(name for name in shards if not (folder / name).is_file())
        if missing:
            raise VistaError(f"{folder}: missing {', '.join(missing)}; copy the checkpoint again")


def load_checkpoint(
    folder: Path,
    *,
    attention: str = "sdpa",
    device: str | None = None,
    dtype: torch.dtype | str = "auto",
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Load a model and processor from a folder, without the network.

    Raises:
        VistaError: the folder is missing, incomplete or damaged.
    """
    check_folder(folder)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            output_loading_info=True,
            dtype=dtype,
            attn_implementation=attention,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
        )
        processor = AutoProcessor.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise VistaError(f"{folder}: the checkpoint cannot be loaded: {error}") from error
    absent = sorted(report["missing_keys"])
    if absent:  # transformers would go on with random numbers in their place
        raise VistaError(
            f"{folder}: the weights lack {len(absent)} tensors ({absent[0]} …); copy or train it again"
        )
    return wrap(model.to(where).eval(), processor)


def save_checkpoint(model: Any, processor: Any, folder: Path) -> None:
    """Save an ordinary checkpoint folder under a temporary name, then give it its own."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed job left
    try:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
