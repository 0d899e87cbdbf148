"""What a training leaves beside its weights: the history of its steps, and logs for other programs.

For ``vista train``. The history is an output: what Trainer logged at each step, under TRL's names, and
nothing that depends on the clock. Logs for TensorBoard, trackio or wandb are written only if the suite asks
for them, below ``logs/``, where no job reads them.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vista.records import write_text

# The first columns of every history; those of the objective follow by name: a state forgets their order.
FIRST = (
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "grad_norm",
    "num_tokens",
    "mean_token_accuracy",
    "entropy",
)


@dataclass(frozen=True)
class Reports:
    """Programs that losses are reported to.

    Attributes:
        to: Their names, as transformers knows them.
        folder: Where their logs go.
        title: The run's name there.
        project: Its group's.
    """

    to: Sequence[str]
    folder: Path
    title: str
    project: str

    def prepare(self) -> dict[str, Any]:
        """Tell the programs where to write, and return the arguments of Trainer.

        They write to the disk alone, unless the user's own environment says otherwise.
        """
        if not self.to:
            return {"report_to": "none"}
        folder = self.folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
        os.environ["TRACKIO_DIR"] = str(folder / "trackio")
        os.environ["WANDB_DIR"] = str(folder)
        for name, value in (("MODE", "offline"), ("PROJECT", self.project), ("SILENT", "true")):
            os.environ.setdefault(f"WANDB_{name}", value)
        return {"report_to": list(self.to), "run_name": self.title, "project": self.project}


def history_text(logged: Iterable[Mapping[str, Any]]) -> str:
    """The history as CSV: a row for each step, numbers to the last bit; only the head if nothing was trained.

    Args:
        logged: Entries of Trainer's ``log_history``; the last one, of the whole run, has no ``loss``.
    """
    steps = [entry for entry in logged if "loss" in entry]
    own = sorted({name for entry in steps for name in entry if name not in FIRST})
    text = io.StringIO()
    writer = csv.DictWriter(text, [*FIRST, *own], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(steps)
    return text.getvalue()


def write_history(file: Path, logged: Iterable[Mapping[str, Any]]) -> None:
    """Write ``history_text`` to a file."""
    write_text(file, history_text(logged))
