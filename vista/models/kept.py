"""What a base model's training that was killed goes on from: an hour on two cores, with a pretrained decoder.

Stage ``models``; ``vista.models.pretrain`` writes and reads it. One file for each of the two trainings of a
model, in a hidden folder beside the output, since Snakemake deletes a job's outputs before it starts the job
again: trained weights, what the optimisers hold, and what the training reports. Corpus, frozen weights and
learning rates follow from the settings. The folder goes once the checkpoint is saved.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vista.config import digest
from vista.records import atomic_path

MINUTES = 5.0  # between two states


@dataclass
class Progress:
    """How far a training has come, and what it reports of that."""

    part: int  # examples of a batch that go through the model together
    losses: list[float] = field(default_factory=list)  # one for each step
    tokens: int = 0

    @property
    def step(self) -> int:
        """The number of steps done."""
        return len(self.losses)


class Kept:
    """The states of one model's trainings.

    Args:
        folder: Where they are.
        identity: What the model depends on; states of another are not used.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.identity = digest(identity)
        self.since = time.monotonic()
        self.resumed_at: dict[str, int] = {}  # by training, the step that it went on from

    def load(self, name: str, model: Any, active: Sequence[torch.optim.Optimizer]) -> Progress | None:
        """Put a state in place.

        Args:
            name: Of the training.
            model: Its trained weights are overwritten.
            active: The optimisers, in the order in which they were saved.

        Returns:
            How far the training had come; ``None``, and nothing is changed, if there is no state of it.
        """
        file = self._file(name)
        try:
            with safe_open(file, "pt") as opened:
                said = json.loads(opened.metadata()["said"])
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            print(f"{file}: cannot be read ({error}); starting again", file=sys.stderr)
            return None
        if said.pop("identity") != self.identity:
            print(f"{file}: of other settings, inputs, code or versions; starting again", file=sys.stderr)
            return None
        with torch.no_grad():
            for key, weight in _trained(model).items():
                weight.copy_(tensors[f"weight/{key}"])
        for place, optimizer in enumerate(active):
            held: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in tensors.items():
                kind, *where = key.split("/")
                if kind == "optimizer" and where[0] == str(place):
                    held.setdefault(int(where[1]), {})[where[2]] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": held})
        progress = Progress(**said)
        self.resumed_at[name] = progress.step
        print(f"{name}: going on from step {progress.step}, as {file} has it", file=sys.stderr)
        return progress

    def is_due(self) -> bool:
        """Whether it is time for a state."""
        return time.monotonic() - self.since >= 60 * MINUTES

    def save(
        self, name: str, model: Any, active: Sequence[torch.optim.Optimizer], progress: Progress
    ) -> None:
        """Write the state after a step, in the place of the one before."""
        tensors = {f"weight/{key}": weight.detach() for key, weight in _trained(model).items()}
        for place, optimizer in enumerate(active):
            for index, held in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{place}/{index}/{key}": value for key, value in held.items()}
        whole = {key: value.cpu().contiguous() for key, value in tensors.items()}
        said = json.dumps({**asdict(progress), "identity": self.identity})
        with atomic_path(self._file(name)) as part:
            save_file(whole, part, metadata={"said": said})
        self.since = time.monotonic()

    def remove(self) -> None:
        """Remove all states."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def _trained(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
