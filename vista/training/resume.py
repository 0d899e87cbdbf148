"""What the next start of a run resumes from: states after a kill, a note after a lack of memory.

For ``vista train``. Both are hidden files beside the output, since Snakemake deletes a job's outputs
before it starts the job again.

transformers writes the states: weights, optimiser, schedule and random states. A state is whole once it
contains a list of its files, which is written when all processes have finished theirs.

The note says how many examples fit through the model at once. A step has the same examples for any
number, in more or fewer forward passes. Several processes need the note: a process that fails cannot
stop the others, so all of them end and are started again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer_pt_utils import safe_globals

from vista.batches import Shares
from vista.config import ModelTraining
from vista.engines.batching import BatchSize
from vista.errors import MORE_MEMORY, VistaError
from vista.records import atomic_path, settle, sync, write_json
from vista.training.trainers import SharedTrainer, check_weights

WHOLE = "whole.json"  # in a state: its files and their sizes, written last
IDENTITY = "identity.json"  # beside the states: the run that wrote them
REFERENCE = "reference.safetensors"  # beside the states: what DPO measures against

SAVED_BY_TORCH = (".pt", ".pth", ".bin")
NEVER_READ = "training_args.bin"  # written by transformers, and not used by a resumed run
UNPICKLED = ".metadata"  # ends the names in torch's distributed checkpoints, which torch would unpickle


@dataclass(frozen=True)
class States:
    """The states of one run.

    Attributes:
        folder: Where they are.
        identity: What the run depends on; states with another identity are not used.
        minutes: After which a step is followed by a state, beside those that Trainer writes; ``None``: never.
    """

    folder: Path
    identity: dict[str, Any]
    minutes: float | None = None

    def open(self) -> None:
        """Prepare the folder; remove states of a run with another identity."""
        identity = self.folder / IDENTITY
        if self.folder.exists() and _read(identity) != json.loads(json.dumps(self.identity)):
            print(
                f"{self.folder}: removed, since a run with other settings, inputs, code or versions left it; "
                "starting again",
                file=sys.stderr,
            )
            shutil.rmtree(self.folder)
        if not identity.exists():
            write_json(identity, self.identity)

    def newest(self) -> Path | None:
        """The newest whole state; ``None`` if there is none."""
        whole = [state for state in self.folder.glob("checkpoint-*") if _is_whole(state)]
        return max(whole, key=_step, default=None)

    def finish(self, step: int) -> None:
        """Mark the state of ``step`` as whole, and remove the others."""
        state = self.folder / f"checkpoint-{step}"
        sync(state)
        write_json(state / WHOLE, _sizes(state))
        for other in self.folder.glob("checkpoint-*"):
            if other != state:
                shutil.rmtree(other)

    def remove(self) -> None:
        """Remove all states, once the run's output is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)


class KeepStates(TrainerCallback):  # type: ignore[misc]
    """Completes each state that Trainer writes."""

    def __init__(self, states: States, trainer: SharedTrainer) -> None:
        self.states = states
        self.trainer = trainer
        self.since = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the reference's log-probabilities, which later weights cannot give."""
        self.since = time.monotonic()
        file = self.states.folder / REFERENCE
        if self.trainer.needs_reference and state.is_world_process_zero and not file.exists():
            with atomic_path(file) as part:
                save_file({"log_probs": self.trainer.data_collator.reference}, part)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write a state if it is time, and none after the last step.

        Raises:
            VistaError: the step has broken the weights, so no run could resume from this state.
        """
        control.should_save = control.should_save or self.is_time()
        if state.global_step >= state.max_steps:
            control.should_save = False
        if control.should_save:
            trainer = self.trainer
            when = f"step {state.global_step} of {state.max_steps}"
            check_weights(trainer.model, trainer.what_diverged, when, args.learning_rate)

    def is_time(self) -> bool:
        """Whether a state is due by the main process's clock; all processes write their parts together."""
        if self.states.minutes is None:
            return False
        accelerator = self.trainer.accelerator
        minutes = torch.tensor((time.monotonic() - self.since) / 60, device=accelerator.device)
        return bool(broadcast(minutes) >= self.states.minutes)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Complete the state once all processes have written their parts."""
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            self.states.finish(state.global_step)
        self.since = time.monotonic()


def go_on(states: States, trainer: SharedTrainer) -> Path | None:
    """The state to resume from, the same in every process, with DPO's reference put in place.

    Raises:
        VistaError: as ``check_state``.
    """
    if trainer.accelerator.is_main_process:
        states.open()
    trainer.accelerator.wait_for_everyone()
    state = states.newest()
    if state is not None:
        check_state(state)
    if state is not None and trainer.needs_reference:
        trainer.data_collator.reference = load_file(states.folder / REFERENCE)["log_probs"]
    if state is not None and trainer.accelerator.is_main_process:
        print(f"resuming from {state}", file=sys.stderr)
    trainer.add_callback(KeepStates(states, trainer))
    return state


def check_state(state: Path) -> None:
    """Refuse a state with a file that ``torch.load(weights_only=True)`` does not read.

    Trainer reads states in the same way, but would fail halfway and not name the file.

    Args:
        state: The folder of one state, as Trainer writes it.

    Raises:
        VistaError: names the first such file.
    """
    for file in sorted(state.rglob("*")):
        try:
            if file.name.endswith(UNPICKLED):
                raise ValueError("part of a distributed checkpoint of torch, which is not read here")
            if file.suffix in SAVED_BY_TORCH and file.name != NEVER_READ:
                with safe_globals():  # numpy's random state
                    torch.load(file, map_location="meta", mmap=True, weights_only=True)
        except Exception as error:  # torch raises many kinds for a broken file
            raise VistaError(
                f"{file}: not a training state that can be trusted ({_reason(error)}); "
                f"delete {state} and run again"
            ) from error


@dataclass(frozen=True)
class Note:
    """The file that says how many examples fit.

    Attributes:
        file: Its path.
        identity: What the run depends on, as for ``States``; a note with another identity is not used.
    """

    file: Path
    identity: dict[str, Any]

    def read(self) -> int | None:
        """Examples per process and forward pass; ``None`` if this run has no note."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            size = found["device_batch_size"]
            same = found["identity"] == json.loads(json.dumps(self.identity))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return size if same and isinstance(size, int) and size > 0 else None

    def write(self, size: int) -> None:
        """Note ``size``. Several processes may do so at once, so each first writes its own file."""
        own = self.file.with_name(f"{self.file.name}.{os.environ.get('RANK', '0')}")
        write_json(own, {"device_batch_size": size, "identity": self.identity})
        settle(own, self.file)

    def remove(self) -> None:
        """Remove the note, once the run's output is saved."""
        self.file.unlink(missing_ok=True)


class DeviceBatch(BatchSize):
    """Examples per process and forward pass, in the sizes that divide a process's share of a step.

    Args:
        training: The model's settings.
        batch_size: Examples in a step.
        run: Named in errors.
        model: The model whose settings errors suggest to change.
        note: Keeps a number smaller than the settings' one for the next start.
    """

    def __init__(self, training: ModelTraining, batch_size: int, run: str, model: str, note: Note) -> None:
        wanted = Shares(batch_size, training.processes, training.device_batch_size).device_batch
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
        """Halve the number, and note it.

        Raises:
            VistaError: it was one already; or other processes are waiting for this one.
        """
        tried = self.size
        self.trying([self.run] * tried)
        super().halve(what)
        self.note.write(self.size)
        if self.processes > 1:
            raise VistaError(
                f"{self.run}: out of memory in one of {self.processes} processes, with {tried} examples in a "
                f"forward pass ({what}); start it again (Snakemake does with --retries): it uses "
                f"{self.size}, as noted in {self.note.file}"
            )


def remedies_for(model: str) -> str:
    """What a user can do when not even one example fits."""
    return (
        f"under training of model {model} set gradient_checkpointing: true, tuning: {{kind: lora}}, or more "
        f"processes with config/accelerate/fsdp.yaml; lower its max_pixels; or {MORE_MEMORY}"
    )


def _reason(error: Exception) -> str:
    """The line in which torch names what it refused (after advice to unpickle it), or the first line."""
    lines = str(error).strip().splitlines() or [repr(error)]
    return next((line.strip() for line in lines if "GLOBAL" in line), lines[0]).rstrip(".")


def _step(state: Path) -> int:
    return int(state.name.removeprefix("checkpoint-"))


def _sizes(state: Path) -> dict[str, int]:
    files = [file for file in state.rglob("*") if file.is_file() and file.name != WHOLE]
    return {str(file.relative_to(state)): file.stat().st_size for file in sorted(files)}


def _is_whole(state: Path) -> bool:
    return bool(_read(state / WHOLE) == _sizes(state))


def _read(file: Path) -> Any:
    """A JSON file's content; ``None`` if it is missing or broken."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
