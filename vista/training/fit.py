"""Train a loaded checkpoint on rows, in one process or several: all its weights, or adapters (LoRA).

``vista train`` calls it.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from accelerate.state import GradientState
from peft import LoraConfig, get_peft_model
from torch import nn
from trl import SFTConfig

from vista import plugins
from vista.batches import Shares
from vista.config import FullTuning, Hyperparameters, LoraTuning, ModelTraining
from vista.engines.checkpoints import Checkpoint
from vista.errors import MORE_MEMORY, VistaError, is_out_of_memory, lack
from vista.objectives import ObjectiveSettings
from vista.records import Row
from vista.seeding import derive_seed
from vista.training import resume, trainers, zero
from vista.training.data import ExampleCollator, Online, PairCollator
from vista.training.launch import told_arithmetic
from vista.training.offline import PaperTrainer
from vista.training.trace import Reports, write_history

# transformers before 5.23 knows only the older name; later releases warn about it.
RECOMPUTE = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if hasattr(SFTConfig, name)
)
SHARED = Path("/dev/shm")  # noqa: S108 - where torch's processes share memory
SHARED_BYTES = 2e9  # for the batches of a process's workers: some hundred images
WORKERS = 2
ONLINE = "vista.training.online"  # by name: other trainings do not depend on the engine that it samples with
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def fit(
    checkpoint: Checkpoint,
    rows: list[Row],
    hyper: Hyperparameters,
    objective: ObjectiveSettings | Online,
    title: str,
    training: ModelTraining | None = None,
    dtype: torch.dtype = torch.float32,
    states: resume.States | None = None,
    history: Path | None = None,
    reports: Reports | None = None,
) -> dict[str, float]:
    """Train ``checkpoint.model`` on examples, or on the pairs or queries that the ``objective`` asks for.

    Afterwards ``checkpoint.model`` is the trained model, adapters merged. Where weights were spread over
    processes (FSDP, ZeRO-3) only the main process has it; in the others it is ``None``.

    Args:
        checkpoint: Where to start; the reference of an objective that needs one.
        rows: ``records.EXAMPLE``, ``records.PAIR`` or ``records.ASKED`` rows.
        hyper: Settings.
        objective: What to minimise.
        title: Names the run in errors; its random streams derive from it.
        training: The model's settings; default: all weights, one process.
        dtype: What the weights end in; bfloat16 also for computing where a GPU has it.
        states: Where to keep states to resume from, and to look for one; ``None`` keeps none.
        history: The file that gets what was logged at each step; the main process writes it.
        reports: The programs that losses are reported to.

    Returns:
        examples, steps, epochs, tokens, first_loss, last_loss (the mean over the last twentieth of the
        steps) and train_seconds; resumed_at_step if the run resumed from a state; solutions, drawn_tokens
        and correct of what was sampled.

    Raises:
        VistaError: the loss or a weight is not a number, or the model itself does not fit in memory.
    """
    began = time.monotonic()
    training = training or ModelTraining()
    seed = derive_seed("training", title) % 2**32
    with tempfile.TemporaryDirectory(prefix="vista-training-") as temporary:
        folder = Path(temporary) if states is None else states.folder
        low_precision = dtype == torch.bfloat16 and torch.cuda.is_available()
        trainer = make_trainer(
            checkpoint, rows, hyper, objective, folder, seed, training, low_precision, reports, title
        )
        trainer.what_diverged = title
        trainers.make_quiet(trainer, f"train {title}")
        state = None if states is None else resume.go_on(states, trainer)
        try:
            trainer.train(resume_from_checkpoint=None if state is None else str(state))
        except VistaError as error:
            raise trainers.as_here(error) from error
        except Exception as error:
            if is_out_of_memory(error):
                clear_up(trainer, title, error)
            raise
    checkpoint.model = trainer.whole.of(trainer)
    if checkpoint.model is not None:
        trainers.check_weights(checkpoint.model, title, "training", hyper.learning_rate)
        checkpoint.model.to(dtype).eval()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    last = losses[-trainers.window(len(losses)) :]
    if history is not None and trainer.accelerator.is_main_process:
        write_history(history, trainer.state.log_history)
    return {
        "examples": float(len(rows)),
        "steps": float(trainer.state.global_step),
        "epochs": float(hyper.epochs),
        "tokens": float(trainer.state.num_input_tokens_seen),
        "first_loss": losses[0],
        "last_loss": sum(last) / len(last),
        "train_seconds": round(time.monotonic() - began, 3),
        **trainer.counts(),
        **({} if state is None else {"resumed_at_step": float(state.name.rpartition("-")[2])}),
    }


def make_trainer(
    checkpoint: Checkpoint,
    rows: list[Row],
    hyper: Hyperparameters,
    objective: ObjectiveSettings | Online,
    folder: Path,
    seed: int,
    training: ModelTraining | None = None,
    low_precision: bool = False,
    reports: Reports | None = None,
    title: str = "",
) -> Any:
    """The trainer for ``rows``. Arguments are those of ``fit`` and of ``trainer_arguments``."""
    training = training or ModelTraining()
    common = (folder, seed, training, low_precision, reports)
    if isinstance(objective, Online):
        trainer = import_module(ONLINE).make_trainer(checkpoint, rows, hyper, objective, title, *common)
    else:
        trainer = make_offline(checkpoint, rows, hyper, objective, *common)
    trainer.add_callback(trainers.Start(trainer))
    trainer.add_callback(trainers.Watch(trainer))
    return trainer


def make_offline(
    checkpoint: Checkpoint,
    rows: list[Row],
    hyper: Hyperparameters,
    objective: ObjectiveSettings,
    folder: Path,
    seed: int,
    training: ModelTraining,
    low_precision: bool,
    reports: Reports | None,
) -> PaperTrainer:
    """The trainer for examples or pairs."""
    lora = lora_config(checkpoint.model, training.tuning)
    whole = Whole(checkpoint.model, lora)
    trainer = PaperTrainer(
        model=checkpoint.model,
        processing_class=checkpoint.processor.inner,
        train_dataset=trainers.index_dataset(len(rows)),
        args=on_one_gpu(
            SFTConfig(
                **trainer_arguments(hyper, training, folder, seed, low_precision, reports),
                max_length=None,  # TRL would cut image tokens off; lengths are checked instead
                dataset_kwargs={"skip_prepare_dataset": True},
            )
        ),
        data_collator=(PairCollator if objective.pairs else ExampleCollator)(rows, checkpoint),
        peft_config=lora,
    )
    trainer.objective = plugins.make(objective)
    trainer.needs_reference = trainer.objective.needs_reference
    trainer.strategy = hyper.sampling_strategy
    trainer.sums = {}
    trainer.whole = whole
    return trainer


def clear_up(trainer: Any, title: str, error: Exception) -> None:
    """Prepare the process for another trainer after it ran out of memory.

    Raises:
        VistaError: nothing had gone through the model yet, so fewer examples at a time would not help.
    """
    trainer.accelerator.free_memory()
    zero.forget()
    GradientState._reset_state()  # else the next trainer would continue inside the step that failed
    if not trainer.used:
        raise VistaError(
            f"{title}: out of memory before the first forward pass ({lack(error)}): weights, gradients and "
            "optimiser do not fit; under training of the model set tuning: {kind: lora}, or more processes "
            f"with config/accelerate/fsdp.yaml; or {MORE_MEMORY}"
        ) from error


def trainer_arguments(
    hyper: Hyperparameters,
    training: ModelTraining,
    folder: Path,
    seed: int,
    low_precision: bool,
    reports: Reports | None = None,
) -> dict[str, Any]:
    """The arguments of transformers' Trainer, for any of TRL's configuration objects.

    Args:
        hyper: The suite's settings.
        training: The model's settings.
        folder: Where Trainer may write.
        seed: Seed of this run, below 2³².
        low_precision: Compute in bfloat16 over float32 weights; else as the launcher says.
        reports: The programs that losses are reported to.
    """
    on_gpu = torch.cuda.is_available()
    workers = workers_of(training, on_gpu)
    arithmetic = "bf16" if low_precision else told_arithmetic()
    saving: dict[str, Any] = {"save_strategy": "no"}
    if training.save_every is not None:
        saving = {"save_strategy": "steps", "save_steps": training.save_every}
    shares = Shares(hyper.batch_size, training.processes, training.device_batch_size)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # Else the gradients of all passes but the last would be summed whole in every process.
        saving["accelerator_config"] = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    return dict(
        **saving,
        **{RECOMPUTE: training.gradient_checkpointing},
        **({"report_to": "none"} if reports is None else reports.prepare()),
        output_dir=str(folder),
        per_device_train_batch_size=shares.device_batch,
        gradient_accumulation_steps=shares.passes,
        num_train_epochs=hyper.epochs,
        learning_rate=hyper.learning_rate,
        warmup_steps=hyper.warmup,  # below 1: a share of all steps
        lr_scheduler_type=SCHEDULES[hyper.schedule],
        weight_decay=hyper.weight_decay,
        max_grad_norm=hyper.max_grad_norm,
        seed=seed,
        data_seed=seed,
        bf16=arithmetic == "bf16",
        fp16=arithmetic == "fp16",
        use_cpu=not on_gpu,
        dataloader_num_workers=workers,  # new ones in each epoch: kept ones would shift the random state
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        logging_nan_inf_filter=False,  # it would hide a NaN; ours stops the run
        logging_strategy="steps",
        logging_steps=1,
        eval_strategy="no",
        disable_tqdm=True,
    )


def on_one_gpu(config: Any) -> Any:
    """A config of TRL's with which a process trains on one GPU, whatever others it sees."""
    if config.n_gpu > 1:
        config._n_gpu = 1
    return config


def workers_of(training: ModelTraining, on_gpu: bool) -> int:
    """Processes that encode the next prompts and images while a training process computes.

    They hand them over in shared memory: without room for some batches, one would be killed by a bus error.
    """
    if training.workers is not None or not on_gpu:
        return training.workers or 0
    free = shutil.disk_usage(SHARED).free if SHARED.is_dir() else 0
    if free < SHARED_BYTES:
        print(
            f"{SHARED}: {free / 1e9:.2g} GB free, too little for processes that encode images beside the "
            "training, which encodes them itself; start the container with --shm-size=8g or --ipc=host",
            file=sys.stderr,
        )
        return 0
    return WORKERS


def lora_config(model: nn.Module, tuning: FullTuning | LoraTuning) -> LoraConfig | None:
    """peft's description of the adapters; ``None`` where all weights are trained.

    Raises:
        VistaError: a target is not the name of a linear layer of the text decoder.
    """
    if isinstance(tuning, FullTuning):
        return None
    return LoraConfig(
        r=tuning.r,
        lora_alpha=tuning.alpha,  # type: ignore[arg-type]  # any number will do
        lora_dropout=tuning.dropout,
        target_modules=adapted_layers(model, tuning.targets),
        task_type="CAUSAL_LM",
    )


def adapted_layers(model: Any, targets: str | list[str]) -> list[str]:
    """Names of the text decoder's linear layers that ``targets`` selects.

    peft's own ``all-linear`` also selects layers of the vision tower, which often have the same names.
    """
    decoder = {id(module) for module in model.get_decoder().modules()}
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) in decoder
    ]
    if isinstance(targets, str):
        return linear
    for target in targets:
        if not any(_ends(name, target) for name in linear):
            known = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise VistaError(
                f"tuning.targets: no linear layer of the text decoder is called {target!r}; "
                f"it has {', '.join(known)}"
            )
    return [name for name in linear if any(_ends(name, target) for target in targets)]


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


class Whole:
    """Turns the trained model into an ordinary one again, with all of its weights in one process."""

    def __init__(self, model: Any, lora: LoraConfig | None) -> None:
        # Trainer changes the class of a model that it spreads over processes.
        self.kind = type(model)
        self.config = model.config
        self.generation_config = copy.deepcopy(model.generation_config)  # Trainer changes the model's
        self.lora = lora

    def of(self, trainer: PaperTrainer) -> Any:
        """The trained model; ``None`` on all but the first process if weights were spread.

        Adapters are merged in float32, whatever the type of the weights they are added to.
        """
        main = trainer.accelerator.is_main_process
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            if trainer.is_fsdp_enabled:
                state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
            else:
                state = zero.whole_weights(trainer.model, main)
                zero.forget()
            if not main:
                return None
            model = self._filled(state)
        else:
            model = trainer.accelerator.unwrap_model(trainer.model)
        if self.lora is not None:
            model = model.float().merge_and_unload()
        model.generation_config = self.generation_config
        return model

    def _filled(self, state: dict[str, torch.Tensor]) -> Any:
        """A model of the same kind with the weights of ``state``, on the CPU."""
        with torch.device("meta"):
            model = self.kind(self.config)
            if self.lora is not None:
                model = get_peft_model(model, self.lora)
        # Tied weights may be missing here; they are tied below.
        _, unexpected = model.load_state_dict(state, strict=False, assign=True)
        base = model if self.lora is None else model.get_base_model()
        base.tie_weights()
        left = [name for name, weight in base.named_parameters() if weight.is_meta]
        if left or unexpected:
            raise RuntimeError(f"gathered weights do not fit the model: {[*left, *unexpected][:5]}")
        return model
