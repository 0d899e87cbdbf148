"""States that a killed training run goes on from. They serve ``vista train``.

transformers writes them: weights, optimiser, schedule and random states. They lie in a hidden
folder beside the output, which is no output of a rule: Snakemake would delete it before a new
start. A state counts once a list of its files stands in it, written when all processes are done.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from vista.records import write_json
from vista.training.pickles import check_state
from vista.training.trainers import PaperTrainer, check_weights

WHOLE = "whole.json"  # in a state: its files and their sizes, written last
IDENTITY = "identity.json"  # beside the states: the run that they are of
REFERENCE = "reference.safetensors"  # beside the states: what DPO measures against


@dataclass(frozen=True)
class States:
    """The states of one run.

    Attributes:
        folder: Where they lie.
        identity: What the run depends on; states of another identity are not gone on from.
        every: Optimiser steps from one state to the next.
    """

    folder: Path
    identity: dict[str, Any]
    every: int

    def open(self) -> None:
        """Make the folder ready: states of a run with other settings or inputs are removed."""
        identity = self.folder / IDENTITY
        if self.folder.exists() and _read(identity) != json.loads(json.dumps(self.identity)):
            print(
                f"{self.folder}: left by a run with other settings or inputs; starting anew",
                file=sys.stderr,
            )
            shutil.rmtree(self.folder)
        if not identity.exists():
            write_json(identity, self.identity)

    def newest(self) -> Path | None:
        """The newest whole state; ``None`` where there is none."""
        whole = [state for state in self.folder.glob("checkpoint-*") if _is_whole(state)]
        return max(whole, key=_step, default=None)

    def finish(self, step: int) -> None:
        """Call the state of ``step`` whole, and remove the others."""
        state = self.folder / f"checkpoint-{step}"
        write_json(state / WHOLE, _sizes(state))
        for other in self.folder.glob("checkpoint-*"):
            if other != state:
                shutil.rmtree(other)

    def remove(self) -> None:
        """Remove all: the run's output is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)


class KeepStates(TrainerCallback):  # type: ignore[misc]
    """Completes each state that Trainer writes."""

    def __init__(self, states: States, trainer: PaperTrainer) -> None:
        self.states = states
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the reference's log-probabilities: later weights cannot give them again."""
        file = self.states.folder / REFERENCE
        if self.trainer.objective.needs_reference and state.is_world_process_zero and not file.exists():
            part = file.with_suffix(".part")
            save_file({"log_probs": self.trainer.data_collator.reference}, part)
            part.rename(file)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log before a state is written, so that no loss is forgotten; none after the last step.

        Raises:
            VistaError: the step has broken the weights. From such a state a run could never go on.
        """
        if state.global_step >= state.max_steps:
            control.should_save = False
        if control.should_save:
            trainer = self.trainer
            when = f"step {state.global_step} of {state.max_steps}"
            check_weights(trainer.model, trainer.what_diverged, when, args.learning_rate)
        control.should_log = control.should_log or control.should_save

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Complete the state when all processes have written their part of it."""
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            self.states.finish(state.global_step)


def go_on(states: States, trainer: PaperTrainer) -> Path | None:
    """The state to go on from, the same in every process, with DPO's reference put in place.

    Raises:
        VistaError: the state holds something that a training state does not.
    """
    if trainer.accelerator.is_main_process:
        states.open()
    trainer.accelerator.wait_for_everyone()
    state = states.newest()
    if state is not None:
        check_state(state)
    if state is not None and trainer.objective.needs_reference:
        trainer.data_collator.reference = load_file(states.folder / REFERENCE)["log_probs"]
    if state is not None and trainer.accelerator.is_main_process:
        print(f"{state}: going on from there", file=sys.stderr)
    trainer.add_callback(KeepStates(states, trainer))
    return state


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
