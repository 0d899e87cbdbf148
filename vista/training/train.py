"""Stage 5's entry: from a training set and a start checkpoint to a trained checkpoint.

Command: ``vista train <results>/suite.json MODEL/TRAIN_SET/METHOD/seedS/roundR``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vista import grid
from vista.config import BuiltModel, DpoObjective, Hyperparameters, SeedMethod, SelfImprovement, Suite
from vista.engines.checkpoints import Checkpoint, check_folder, load_checkpoint, save_checkpoint
from vista.errors import VistaError
from vista.grid import Run
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths
from vista.records import EXAMPLE, PAIR, Row, read_rows
from vista.seeding import derive_seed
from vista.training.data import DpoCollator, SftCollator


def train(suite: Suite, paths: Paths, run: Run) -> None:
    """Train ``run`` and save its checkpoint folder with a manifest.

    A training set without positives gives a folder with a manifest of that status and no
    weights.

    Raises:
        VistaError: an input is missing or broken, or the loss is not a number; nothing is saved.
    """
    examples = paths.training_set(run.id)
    start = start_folder(suite, paths, run)
    torch.set_num_threads(suite.threads)
    output = paths.trained(run.id)
    recorder = Recorder("training", settings_of(suite, run), [examples, start], device_name())
    if read_manifest(examples).status == "no-positives" or read_manifest(start).status == "no-positives":
        if is_main_process():
            _empty_folder(output)
            recorder.write(output, {"examples": 0.0}, "no-positives")
        return
    objective = objective_of(suite, run)
    rows = read_rows(examples, PAIR if objective else EXAMPLE)
    if not rows:
        raise VistaError(f"{examples}: no rows, though its manifest says complete; delete it and rerun")
    tiny = isinstance(suite.models[run.model], BuiltModel)
    checkpoint = _load(suite, run, start)
    counts = fit(checkpoint, rows, hyperparameters(suite, run), objective, run.id, tiny, stored_dtype(start))
    if is_main_process():
        save_checkpoint(checkpoint.model, checkpoint.processor, output)
        recorder.write(output, counts)


def fit(
    checkpoint: Checkpoint,
    rows: list[Row],
    hyper: Hyperparameters,
    objective: DpoObjective | None,
    title: str,
    tiny: bool = True,
    dtype: torch.dtype = torch.float32,
) -> dict[str, float]:
    """Train ``checkpoint.model`` in place on examples, or on pairs when there is an ``objective``.

    Args:
        checkpoint: Model in float32, where to start; with pairs also the reference.
        rows: ``records.EXAMPLE`` or ``records.PAIR`` rows.
        hyper: Settings.
        objective: DPO's settings; ``None`` for SFT.
        title: Names the run in errors; its random streams derive from it.
        tiny: See ``settings.common``.
        dtype: What the weights end in; bfloat16 also for computing where a GPU has it.

    Returns:
        examples, steps, epochs, tokens, first_loss, last_loss and train_seconds.

    Raises:
        VistaError: the loss or a weight is not a number.
    """
    from vista.training.trainers import make_quiet  # TRL takes seconds to import

    began = time.monotonic()
    seed = derive_seed("training", title) % 2**32
    with tempfile.TemporaryDirectory(prefix="vista-training-") as folder:
        low_precision = dtype == torch.bfloat16 and torch.cuda.is_available()
        trainer = make_trainer(
            checkpoint, rows, hyper, objective, Path(folder), seed, tiny=tiny, low_precision=low_precision
        )
        trainer.what_diverged = title
        make_quiet(trainer, f"train {title}")
        trainer.train()
    _check_weights(checkpoint.model, title, hyper)
    checkpoint.model.to(dtype).eval()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "examples": float(len(rows)),
        "steps": float(trainer.state.global_step),
        "epochs": float(hyper.epochs),
        "tokens": float(trainer.tokens_seen),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "train_seconds": round(time.monotonic() - began, 3),
    }


def make_trainer(
    checkpoint: Checkpoint,
    rows: list[Row],
    hyper: Hyperparameters,
    objective: DpoObjective | None,
    folder: Path,
    seed: int,
    *,
    tiny: bool = True,
    low_precision: bool = False,
) -> Any:
    """The trainer for ``rows``; for pairs it takes the reference log-probabilities at once.

    Arguments as those of ``fit`` and of ``settings.common``.
    """
    from vista.training import settings, trainers

    arguments = settings.common(hyper, folder, seed, tiny, low_precision)
    shared = {
        "model": checkpoint.model,
        "processing_class": checkpoint.processor.inner,
        "train_dataset": trainers.index_dataset(len(rows)),
    }
    if objective is None:
        return trainers.PaperSFTTrainer(
            **shared,
            args=settings.sft_config(arguments),
            data_collator=SftCollator(rows, checkpoint),
        )
    trainer = trainers.PaperDPOTrainer(
        **shared,
        args=settings.dpo_config(arguments, objective),
        data_collator=DpoCollator(rows, checkpoint),
    )
    trainer.alpha = objective.alpha
    return trainer


def start_folder(suite: Suite, paths: Paths, run: Run) -> Path:
    """The checkpoint that ``run`` starts from, and that DPO measures against."""
    before = grid.restart(suite, run)
    if before is None:
        return paths.base(run.model)
    return paths.checkpoint(before, grid.is_trained(suite, before))


def objective_of(suite: Suite, run: Run) -> DpoObjective | None:
    """DPO's settings, or ``None`` where the run is trained by SFT.

    Raises:
        VistaError: the run's method trains nothing.
    """
    method = suite.methods[run.method]
    if isinstance(method, SelfImprovement):
        return method.objective if isinstance(method.objective, DpoObjective) else None
    if isinstance(method, SeedMethod):
        return None
    raise VistaError(f"{run.id}: method {run.method!r} trains nothing; evaluate its model as it is")


def hyperparameters(suite: Suite, run: Run) -> Hyperparameters:
    """The training settings of ``run``."""
    if isinstance(suite.methods[run.method], SeedMethod):
        return suite.training.seed
    return suite.training.sft if objective_of(suite, run) is None else suite.training.dpo


def settings_of(suite: Suite, run: Run) -> dict[str, Any]:
    """What of the config a checkpoint depends on, for its manifest."""
    objective = objective_of(suite, run)
    return {
        "run": run.id,
        "objective": {"kind": "sft"} if objective is None else objective.model_dump(mode="json"),
        "hyperparameters": hyperparameters(suite, run).model_dump(mode="json"),
        "threads": suite.threads,
    }


def is_main_process() -> bool:
    """Whether this process is alone or the first that a launcher such as accelerate started."""
    return os.environ.get("RANK", "0") == "0"


def device_name() -> str:
    """The name of the GPU, or cpu."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def stored_dtype(folder: Path) -> torch.dtype:
    """The type of a checkpoint's weights: training is in float32, and what is saved in this."""
    check_folder(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    found: torch.dtype = getattr(torch, str(name))
    return found


def _load(suite: Suite, run: Run, folder: Path) -> Checkpoint:
    """Float32 weights, on the CPU: Trainer moves them to the GPU of its process."""
    trusted = getattr(suite.models[run.model], "trust_remote_code", False)
    return load_checkpoint(folder, device="cpu", dtype=torch.float32, trust_remote_code=trusted)


def _check_weights(model: Any, title: str, hyper: Hyperparameters) -> None:
    """Refuse to save weights that a last step has broken, when no loss came after it to tell."""
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise VistaError(
                f"{title}: weight {name} is not finite after training; lower the learning rate "
                f"(now {hyper.learning_rate:g}); nothing was saved"
            )


def _empty_folder(folder: Path) -> None:
    """A folder with nothing in it, even if an earlier run had left weights there."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
