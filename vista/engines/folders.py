"""What a checkpoint folder must hold, and what it must not: looked at before anything heavy is loaded.

It must be complete; it must not bring code, unless its model's entry says so, nor adapters. Of large files
only the first bytes are read. Free of torch and transformers. Every stage that loads a checkpoint asks here,
through ``vista.engines.checkpoints``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vista.errors import VistaError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken", "spiece.model")
ANEW = "copy the checkpoint again"


def check_complete(folder: Path) -> None:
    """Refuse a folder that does not hold a complete checkpoint: weights, configs, processor, tokenizer.

    Raises:
        VistaError: names the folder or file, what is missing or wrong, and the remedy.
    """
    if not folder.is_dir():
        raise VistaError(f"{folder}: no such folder; run the rule that makes it, or correct the model's path")
    if not (folder / "config.json").is_file():
        raise VistaError(
            f"{folder}: no config.json, so it is not a checkpoint folder; correct the model's path"
        )
    if not list(folder.glob("*.safetensors")):
        others = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        found = f", only {', '.join(others)}" if others else ""
        raise VistaError(
            f"{folder}: no *.safetensors{found}; other formats can run code and are not loaded: take a "
            "revision that has safetensors, or load the model with transformers once and save it"
        )
    check_no_adapters(folder)
    if not list(folder.glob("*processor_config.json")):
        raise VistaError(f"{folder}: no processor_config.json; save the model's processor beside it")
    check_contents(folder)


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object of a checkpoint's file.

    Raises:
        VistaError: it cannot be read, or is not an object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VistaError(f"{file}: not valid JSON ({error}); {ANEW}") from error
    if not isinstance(value, dict):
        raise VistaError(f"{file}: expected a JSON object, found {type(value).__name__}; {ANEW}")
    return value


def check_contents(folder: Path) -> None:
    """Refuse damaged configs, weights that are missing or cut short, and a missing tokenizer.

    Raises:
        VistaError: names the file and the remedy.
    """
    config = folder / "config.json"
    if read_object(config).get("model_type") is None:
        raise VistaError(f"{config}: model_type: missing; take the checkpoint of a vision-language model")
    if (folder / "generation_config.json").is_file():
        read_object(folder / "generation_config.json")
    if not any(list(folder.glob(name)) for name in TOKENIZERS):
        raise VistaError(f"{folder}: no tokenizer.json; save the model's processor beside it")
    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_index(index)
    files = sorted(folder.glob("*.safetensors"))
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        names = ", ".join(file.name for file in files)
        raise VistaError(
            f"{folder}: neither model.safetensors nor its index, only {names}; rename the weights"
        )
    for file in files:
        try:
            with safe_open(file, "np"):  # reads the header, and compares it with the file's length
                pass
        except (SafetensorError, OSError) as error:
            raise VistaError(f"{file}: not readable as safetensors ({error}); {ANEW}") from error


def _check_index(file: Path) -> None:
    shards = read_object(file).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise VistaError(f"{file}: weight_map: expected a map from weights to files; {ANEW}")
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise VistaError(f"{file}: weight_map: {name!r} is not a safetensors file of this folder; {ANEW}")
    missing = sorted({name for name in shards.values() if not (file.parent / name).is_file()})
    if missing:
        raise VistaError(f"{file.parent}: missing {', '.join(missing)}; {ANEW}")


def check_code(folder: Path, trusted: bool) -> None:
    """Refuse a checkpoint that brings code, or names another repository's.

    transformers would pass over the code of an architecture that it has itself. Which of the two
    is meant is not for it to say, since they may compute differently.

    Args:
        folder: The checkpoint.
        trusted: Whether the model's entry in ``models.yaml`` lets its code run. Code of another
            repository stays out all the same: nothing pins its revision.

    Raises:
        VistaError: names the file, the code and the remedy.
    """
    for file in sorted(folder.glob("*config*.json")):
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue  # whoever loads it says so
        names = sorted(set(_code_names(value)))
        elsewhere = [name for name in names if "--" in name]
        if elsewhere:
            raise VistaError(
                f"{file}: auto_map: {', '.join(elsewhere)} is code of another repository, at no fixed "
                "revision; copy it into the folder and correct auto_map"
            )
        if names and not trusted:
            raise VistaError(
                f"{file}: auto_map: the checkpoint brings code ({', '.join(names)}), and it is not run; "
                "if you trust it, set trust_remote_code: true in the model's entry in models.yaml; if "
                "transformers has the architecture itself, remove auto_map from this file"
            )


def _code_names(value: Any) -> Iterator[str]:
    """Every class that an ``auto_map`` names, at any depth."""
    if isinstance(value, list):
        for part in value:
            yield from _code_names(part)
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _strings(part) if key == "auto_map" else _code_names(part)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def check_no_adapters(folder: Path) -> None:
    """Refuse adapters, which transformers would put on weights from elsewhere.

    Raises:
        VistaError: names the file and the remedy.
    """
    adapters = folder / "adapter_config.json"
    if adapters.exists():
        raise VistaError(
            f"{adapters}: the folder holds adapters; merge them into the weights (peft's merge_and_unload), "
            "save the model, and give that folder"
        )
