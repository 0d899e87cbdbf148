"""What a checkpoint folder may not bring along: code, unless its model's entry says so, and adapters.

Every stage that loads a checkpoint asks here first, through ``vista.engines.checkpoints``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vista.errors import VistaError


def check_code(folder: Path, trusted: bool) -> None:
    """Refuse a checkpoint with code of its own, or with another repository's.

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
                "revision; copy it into the folder and mend auto_map"
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
