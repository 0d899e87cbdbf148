"""TRL's configuration objects, from a suite's hyperparameters. They serve ``vista train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trl import DPOConfig, SFTConfig

from vista.config import DpoObjective, Hyperparameters

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def common(
    hyper: Hyperparameters, folder: Path, seed: int, tiny: bool, low_precision: bool
) -> dict[str, Any]:
    """Arguments of transformers' Trainer.

    Args:
        hyper: The suite's settings.
        folder: Where Trainer may write; nothing of it is kept.
        seed: Of this run, below 2³².
        tiny: A model so small that recomputing activations costs time and saves nothing.
        low_precision: Compute in bfloat16 over float32 weights.
    """
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": hyper.batch_size,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": hyper.epochs,
        "learning_rate": hyper.learning_rate,
        "warmup_steps": hyper.warmup,  # below 1: a share of all steps
        "lr_scheduler_type": SCHEDULES[hyper.schedule],
        "weight_decay": hyper.weight_decay,
        "max_grad_norm": hyper.max_grad_norm,
        "seed": seed,
        "data_seed": seed,
        "bf16": low_precision,
        "use_cpu": not on_gpu,
        "activation_checkpointing": not tiny,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": on_gpu,
        "remove_unused_columns": False,
        "max_length": None,  # TRL would cut image tokens off; lengths are checked instead
        "logging_nan_inf_filter": False,  # it would hide a NaN; ours stops the run
        "logging_strategy": "steps",
        "logging_steps": 0.05,  # a share of all steps
        "logging_first_step": True,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def sft_config(arguments: dict[str, Any]) -> SFTConfig:
    """For ``PaperSFTTrainer``."""
    return SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True})


def dpo_config(arguments: dict[str, Any], objective: DpoObjective) -> DPOConfig:
    """For ``PaperDPOTrainer``.

    The policy starts from the reference model, so that one loaded model serves as both: its
    log-probabilities are taken once, before the first step.
    """
    return DPOConfig(
        **arguments,
        beta=objective.beta,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=2 * arguments["per_device_train_batch_size"],
    )
