"""Trains a loaded checkpoint on rows, in one process or several. ``vista train`` calls it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.state import GradientState
from trl import SFTConfig

from vista import plugins
from vista.config import Hyperparameters, ModelTraining
from vista.engines.checkpoints import Checkpoint
from vista.errors import MORE_MEMORY, VistaError, is_out_of_memory, said
from vista.objectives import ObjectiveSettings
from vista.records import Row
from vista.seeding import derive_seed
from vista.training import adapters, resume, trainers
from vista.training.data import ExampleCollator, PairCollator

# transformers before 5.23 knows only the older name; later releases warn about it.
RECOMPUTE = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if hasattr(SFTConfig, name)
)
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def fit(
    checkpoint: Checkpoint,
    rows: list[Row],
    hyper: Hyperparameters,
    objective: ObjectiveSettings,
    title: str,
    training: ModelTraining | None = None,
    dtype: torch.dtype = torch.float32,
    states: resume.States | None = None,
) -> dict[str, float]:
    """Train ``checkpoint.model`` on examples, or on pairs if the ``objective`` asks for them.

    Afterwards ``checkpoint.model`` is the trained model, adapters merged. Where weights were spread over
    processes (FSDP, ZeRO-3) only the main process has it; in the others it is ``None``.

    Args:
        checkpoint: Where to start; the reference of an objective that needs one.
        rows: ``records.EXAMPLE`` or ``records.PAIR`` rows.
        hyper: Settings.
        objective: What to minimise.
        title: Names the run in errors; its random streams derive from it.
        training: The model's settings; default: all weights, one process.
        dtype: What the weights end in; bfloat16 also for computing where a GPU has it.
        states: Where to keep states to resume from, and to look for one; ``None`` keeps none.

    Returns:
        examples, steps, epochs, tokens, first_loss, last_loss and train_seconds; resumed_at_step
        if the run resumed from a state.

    Raises:
        VistaError: the loss or a weight is not a number, or the model alone does not fit in memory.
    """
    began = time.monotonic()
    training = training or ModelTraining()
    seed = derive_seed("training", title) % 2**32
    with tempfile.TemporaryDirectory(prefix="vista-training-") as temporary:
        folder = Path(temporary) if states is None else states.folder
        low_precision = dtype == torch.bfloat16 and torch.cuda.is_available()
        trainer = make_trainer(checkpoint, rows, hyper, objective, folder, seed, training, low_precision)
        trainer.what_diverged = title
        trainers.make_quiet(trainer, f"train {title}")
        state = None if states is None else resume.go_on(states, trainer)
        try:
            trainer.train(resume_from_checkpoint=None if state is None else str(state))
        except Exception as error:
            if is_out_of_memory(error):
                clear_up(trainer, title, error)
            raise
    checkpoint.model = trainer.whole.of(trainer)
    if checkpoint.model is not None:
        trainers.check_weights(checkpoint.model, title, "training", hyper.learning_rate)
        checkpoint.model.to(dtype).eval()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "examples": float(len(rows)),
        "steps": float(trainer.state.global_step),
        "epochs": float(hyper.epochs),
        "tokens": float(trainer.state.num_input_tokens_seen),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "train_seconds": round(time.monotonic() - began, 3),
        **({} if state is None else {"resumed_at_step": float(state.name.rpartition("-")[2])}),
    }


def make_trainer(
    checkpoint: Checkpoint,
    rows: list[Row],
    hyper: Hyperparameters,
    objective: ObjectiveSettings,
    folder: Path,
    seed: int,
    training: ModelTraining | None = None,
    low_precision: bool = False,
) -> Any:
    """The trainer for ``rows``. Arguments are those of ``fit`` and of ``trainer_config``."""
    training = training or ModelTraining()
    lora = adapters.lora_config(checkpoint.model, training.tuning)
    whole = adapters.Whole(checkpoint.model, lora)
    trainer = trainers.PaperTrainer(
        model=checkpoint.model,
        processing_class=checkpoint.processor.inner,
        train_dataset=trainers.index_dataset(len(rows)),
        args=trainer_config(hyper, training, folder, seed, low_precision),
        data_collator=(PairCollator if objective.pairs else ExampleCollator)(rows, checkpoint),
        peft_config=lora,
    )
    trainer.objective = plugins.make(objective)
    trainer.whole = whole
    trainer.add_callback(trainers.Start(trainer))
    trainer.add_callback(trainers.Watch(trainer))
    return trainer


def clear_up(trainer: Any, title: str, error: Exception) -> None:
    """Prepare the process for another trainer after it ran out of memory.

    Raises:
        VistaError: nothing had gone through the model yet, so fewer examples at a time would not help.
    """
    trainer.accelerator.free_memory()
    GradientState._reset_state()  # else the next trainer would continue inside the step that failed
    if not trainer.used:
        raise VistaError(
            f"{title}: out of memory before the first forward pass ({said(error)}): weights, gradients and "
            "optimiser do not fit; under training of the model set tuning: {kind: lora}, or more processes "
            f"with config/accelerate/fsdp.yaml; or {MORE_MEMORY}"
        ) from error


def trainer_config(
    hyper: Hyperparameters, training: ModelTraining, folder: Path, seed: int, low_precision: bool
) -> SFTConfig:
    """TRL's configuration object: the arguments of transformers' Trainer.

    Args:
        hyper: The suite's settings.
        training: The model's settings.
        folder: Where Trainer may write.
        seed: Seed of this run, below 2³².
        low_precision: Compute in bfloat16 over float32 weights.
    """
    on_gpu = torch.cuda.is_available()
    saving: dict[str, Any] = {"save_strategy": "no"}
    if training.save_every is not None:
        saving = {"save_strategy": "steps", "save_steps": training.save_every}
    return SFTConfig(
        **saving,
        **{RECOMPUTE: training.gradient_checkpointing},
        output_dir=str(folder),
        per_device_train_batch_size=training.device_batch(hyper.batch_size),
        gradient_accumulation_steps=training.passes(hyper.batch_size),
        num_train_epochs=hyper.epochs,
        learning_rate=hyper.learning_rate,
        warmup_steps=hyper.warmup,  # below 1: a share of all steps
        lr_scheduler_type=SCHEDULES[hyper.schedule],
        weight_decay=hyper.weight_decay,
        max_grad_norm=hyper.max_grad_norm,
        seed=seed,
        data_seed=seed,
        bf16=low_precision,
        use_cpu=not on_gpu,
        dataloader_num_workers=0,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        max_length=None,  # TRL would cut image tokens off; lengths are checked instead
        logging_nan_inf_filter=False,  # it would hide a NaN; ours stops the run
        logging_strategy="steps",
        logging_steps=0.05,  # a share of all steps
        logging_first_step=True,
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
