"""TRL's configuration object, from a suite's hyperparameters. It serves ``vista train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trl import SFTConfig

from vista.config import Hyperparameters, ModelTraining

# transformers before 5.23 knows only the older name; later releases warn about it.
RECOMPUTE = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if hasattr(SFTConfig, name)
)
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def trainer_config(
    hyper: Hyperparameters, training: ModelTraining, folder: Path, seed: int, low_precision: bool
) -> SFTConfig:
    """Arguments of transformers' Trainer.

    Args:
        hyper: The suite's settings.
        training: The model's settings.
        folder: Where Trainer may write.
        seed: Of this run, below 2³².
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
