"""Traps: files that leave a mark when they are unpickled, or when their code runs."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

LOOKED_UP: list[str] = []  # what unpicklers of this process asked for, since the hook was set


def witness(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        LOOKED_UP.append(f"{arguments[0]}.{arguments[1]}")


sys.addaudithook(witness)


@pytest.fixture
def looked_up() -> list[str]:
    """Every class or function that an unpickler looks up during the test."""
    LOOKED_UP.clear()
    return LOOKED_UP


class Payload:
    """Makes the folder ``mark`` when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@dataclass
class Trap:
    """Sets traps, and tells whether one has sprung."""

    mark: Path
    code: str = field(init=False)  # Python that springs the trap when it is imported

    def __post_init__(self) -> None:
        self.code = f"import os\nos.mkdir({str(self.mark)!r})\n"

    @property
    def sprung(self) -> bool:
        return self.mark.exists()

    def save(self, file: Path) -> None:
        """Write a trap as ``torch.save`` writes what it is given."""
        torch.save({"state": Payload(self.mark)}, file)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "sprung")
