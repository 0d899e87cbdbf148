"""A peft adapter on disk: what its folder must hold, and whether it was trained on a given base.

Neither torch nor peft is imported: for whoever merges it, and for ``vista doctor``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vista.config import BuiltModel, HubModel, LocalModel
from vista.damage import sha256
from vista.engines.folders import ADAPTER, PICKLES, read_object
from vista.errors import VistaError

WEIGHTS = "adapter_model.safetensors"
CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/")  # a folder of the hub's cache


def read_adapter(folder: Path) -> dict[str, Any]:
    """What an adapter says of itself.

    Raises:
        VistaError: the folder also holds whole weights, has no safetensors, or needs more than it holds.
    """
    file = folder / ADAPTER
    config = read_object(file)
    if (folder / "config.json").is_file() and list(folder.glob("model*.safetensors")):
        raise VistaError(
            f"{file}: the folder holds an adapter and a whole checkpoint (config.json); move one of them to "
            "a folder of its own, and give the one that is meant"
        )
    if not (folder / WEIGHTS).is_file():
        others = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        found = f", only {', '.join(others)}" if others else ""
        raise VistaError(
            f"{folder}: no {WEIGHTS}{found}; other formats can run code and are not loaded: load the adapter "
            "with peft once and save it"
        )
    if not isinstance(config.get("peft_type"), str):
        raise VistaError(
            f"{file}: peft_type: {config.get('peft_type')!r} is no kind of adapter; save it again"
        )
    for key in ("megatron_config", "auto_mapping"):
        if config.get(key):
            raise VistaError(
                f"{file}: {key}: it names code to import, which is not run; merge the adapter into the "
                "weights yourself (peft's merge_and_unload), save the model, and give that folder"
            )
    return config


def check_base_name(
    folder: Path, config: dict[str, Any], model: str, entry: BuiltModel | LocalModel | HubModel, base: Path
) -> None:
    """Refuse an adapter that says it was trained on something else than a model's base checkpoint.

    Args:
        folder: The adapter.
        config: What it says of itself.
        model: Name of the model.
        entry: Its entry.
        base: Its base checkpoint, if that has been made.

    Raises:
        VistaError: names the key, what it says, and what would be right.
    """
    file = folder / ADAPTER
    key, named = "base_model_name_or_path", config.get("base_model_name_or_path")
    if named is not None and not isinstance(named, str):
        raise VistaError(f"{file}: {key}: expected a name, found {named!r}; correct it")
    if not named:
        return
    known = list(_names(model, entry))
    cached = CACHED.search(named)
    said = f"{cached[1]}/{cached[2]}" if cached else named
    tails = {Path(name).name.casefold() for name in known}
    if Path(said).name.casefold() not in tails and not _is_copy(Path(named), base):
        raise VistaError(
            f"{file}: {key}: the adapter was trained on {named!r}, but model {model} is {known[-1]!r}; give "
            f"it to the model that it belongs to; if {named!r} is the same checkpoint, write {known[-1]!r} "
            "there"
        )
    revision, own = str(config.get("revision")), getattr(entry, "revision", None)
    if own is not None and re.fullmatch(r"[0-9a-f]{40}", revision) and revision != own:
        raise VistaError(
            f"{file}: revision: the adapter was trained on revision {revision}, but model {model} has {own}; "
            "correct either"
        )


def _names(model: str, entry: BuiltModel | LocalModel | HubModel) -> Iterator[str]:
    """What a model's base is called, the most telling name last."""
    yield model
    if not isinstance(entry, BuiltModel) and entry.path is not None:
        yield str(entry.path.resolve())
    if isinstance(entry, HubModel):
        yield entry.repo


def _is_copy(named: Path, base: Path) -> bool:
    """Whether a folder has the same weights as a base checkpoint, byte by byte."""
    own = sorted(base.glob("*.safetensors"))
    others = [named / file.name for file in own]
    return bool(own) and all(
        other.is_file() and other.stat().st_size == file.stat().st_size and sha256(other) == sha256(file)
        for file, other in zip(own, others, strict=True)
    )
