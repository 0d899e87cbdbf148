"""How many examples go through the model at once: as set, or fewer where memory ran out.

It serves ``vista train``. A step's examples are the same for any number, only cut into more passes.
What did not fit is noted beside the output, in a hidden file that is no output of the rule, so that
the next start goes on with less. Several processes need it: one that fails alone cannot call the
others back, so all of them end and are started again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vista.config import ModelTraining
from vista.engines.batching import BatchSize
from vista.errors import MORE_MEMORY, VistaError
from vista.records import write_json


@dataclass(frozen=True)
class Note:
    """The file that says how many examples fit.

    Attributes:
        file: Where it lies.
        identity: The run that it is of, as for ``resume.States``; a note of another one does not count.
    """

    file: Path
    identity: dict[str, Any]

    def read(self) -> int | None:
        """Examples per process and forward pass; ``None`` where there is no note of this run."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            size = found["device_batch_size"]
            same = found["identity"] == json.loads(json.dumps(self.identity))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return size if same and isinstance(size, int) and size > 0 else None

    def write(self, size: int) -> None:
        """Note ``size``. Several processes may do so at once: each writes a file of its own first."""
        own = self.file.with_name(f"{self.file.name}.{os.environ.get('RANK', '0')}")
        write_json(own, {"device_batch_size": size, "identity": self.identity})
        os.replace(own, self.file)

    def remove(self) -> None:
        """Remove it: the run's output is saved."""
        self.file.unlink(missing_ok=True)


class DeviceBatch(BatchSize):
    """Examples per process and forward pass, in the sizes that divide a process's share of a step.

    Args:
        training: The model's settings.
        batch_size: Examples in a step.
        run: Named in errors.
        model: Whose settings are to be changed, for errors.
        note: Where less than the settings' number is noted.
    """

    def __init__(self, training: ModelTraining, batch_size: int, run: str, model: str, note: Note) -> None:
        wanted = training.device_batch(batch_size)
        noted = note.read()
        super().__init__(
            wanted if noted is None else min(wanted, noted),
            "training",
            remedies_for(model),
            whole=max(1, batch_size // training.processes),
        )
        self.run = run
        self.note = note
        self.processes = int(os.environ.get("WORLD_SIZE", "1"))

    def halve(self, what: str) -> None:
        """Go down to half, and note it.

        Raises:
            VistaError: it was one alone; or there are other processes, which wait for this one.
        """
        tried = self.size
        self.trying([self.run] * tried)
        super().halve(what)
        self.note.write(self.size)
        if self.processes > 1:
            raise VistaError(
                f"{self.run}: out of memory in one of {self.processes} processes, with {tried} examples in a "
                f"forward pass ({what}); start it again (Snakemake does with --retries): it goes on "
                f"with {self.size}, as noted in {self.note.file}"
            )


def remedies_for(model: str) -> str:
    """What a user can do when not even one example fits."""
    return (
        f"under training of model {model} set gradient_checkpointing: true, tuning: {{kind: lora}}, or more "
        f"processes with config/accelerate/fsdp.yaml; lower its max_pixels; or {MORE_MEMORY}"
    )
