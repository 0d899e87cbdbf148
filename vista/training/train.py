"""Entry point of the training stage: train a start checkpoint on a training set.

Command: ``vista train <results>/suite.json MODEL/TRAIN_SET/METHOD/seedS/roundR``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from vista import plugins
from vista.batches import Shares
from vista.config import (
    AnnotatedRationales,
    Hyperparameters,
    LoraTuning,
    ModelTraining,
    OnlineMethod,
    SeedMethod,
    SelfImprovement,
    Suite,
    load_yaml,
    reporting_problems,
    training_section,
)
from vista.config.launchers import SINGLE
from vista.damage import sha256
from vista.engines.checkpoints import (
    Checkpoint,
    device_name,
    load_checkpoint,
    require_gpu,
    save_checkpoint,
)
from vista.engines.folders import check_folder
from vista.errors import VistaError, fail_if, writing
from vista.grid import Run
from vista.manifest import Recorder, installed, read_manifest, withdraw
from vista.objectives import ObjectiveSettings
from vista.objectives.sft import SftSettings
from vista.paths import Paths
from vista.reads import Reads
from vista.records import ASKED, EXAMPLE, PAIR
from vista.training.data import REFLECTIONS, Online, check_tokens, read_training_set
from vista.training.launch import told_arithmetic
from vista.training.trace import Reports, write_history
from vista.wording import check_wording, trained_templates


def train(suite: Suite, paths: Paths, run: Run) -> None:
    """Train ``run``; its first process saves its history and the checkpoint folder, with their manifests.

    A training set without positives gives a history without steps and a folder without weights, whose
    manifests have the same status.

    Raises:
        VistaError: an input is missing or broken, there are no GPUs or fewer than processes, not even one
            example fits in memory, or training diverged; no checkpoint is saved.
    """
    examples = paths.training_set(run.id)
    reads = Reads(suite, paths)
    start, budget = reads.start(run), reads.budget(run)
    torch.set_num_threads(suite.threads)
    output = paths.trained(run.id)
    recorder = Recorder(
        "training", settings_of(suite, run), [examples, start, *budget], device_name(), is_main_process()
    )
    history = paths.history(run.id)
    if any(read_manifest(each).status == "no-positives" for each in (examples, start, *budget)):
        if is_main_process():
            withdraw(history)
            write_history(history, [])
            recorder.write(history, {"steps": 0.0}, "no-positives")
            _empty_folder(output)
            recorder.write(output, {"examples": 0.0}, "no-positives")
        return
    fail_if(reporting_problems(suite, str(paths.suite)), "Losses cannot be reported:")
    require_gpu(suite, run.model, "training")
    minimised = objective_of(suite, run)
    if isinstance(minimised, Online) and budget:
        minimised = replace(
            minimised, tokens=sum(int(read_manifest(each).counts["tokens"]) for each in budget)
        )
        recorder.settings["budget_tokens"] = minimised.tokens
    rows = read_training_set(examples, training_schema(suite, run))
    training = suite.models[run.model].training
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    check_accelerate(training, torch.cuda.device_count(), processes, run.model)
    from vista.training.fit import fit  # TRL takes seconds to import
    from vista.training.resume import DeviceBatch, Note, States

    dtype = stored_dtype(start)
    if isinstance(minimised, Online):
        minimised = replace(minimised, start=start, dtype=dtype)
        if minimised.engine.kind == "vllm":
            recorder.packages |= import_module(COLOCATED).version(minimised.engine.command)
    recorder.settings["dtype"] = _dtypes(training, dtype)
    hyper = hyperparameters(suite, run)
    identity = _identity(recorder, examples, start)
    states = None
    if training.saves:
        states = States(_beside(output, "resume"), identity, training.save_minutes)
    note = Note(_beside(output, "batch.json"), identity)
    batch = DeviceBatch(training, hyper.batch_size, run.id, run.model, note)
    reports = Reports(
        suite.training.report_to, paths.log("training", run.id).with_suffix(""), run.id, suite.name
    )

    def attempt() -> tuple[Checkpoint, dict[str, float]]:
        """Train from the start checkpoint, or from the newest state if there is one."""
        checkpoint = _load(suite, run, start)
        kept = check_tokens(examples, rows, checkpoint, *_special_tokens(suite, run))
        templates = trained_templates(suite.methods[run.method])
        check_wording(checkpoint.processor.tokenizer, suite.wording, templates, run.model)
        fitting = training.model_copy(update={"device_batch_size": batch.size})
        recorder.settings["training"] |= _passes(fitting, hyper)
        counts = fit(checkpoint, kept, hyper, minimised, run.id, fitting, dtype, states, history, reports)
        return checkpoint, {**counts, "dropped_special_tokens": float(len(rows) - len(kept))}

    if is_main_process():
        withdraw(history)
    checkpoint, counts = batch.until_it_fits(attempt)
    if is_main_process():
        _tell_of_budget(run, minimised, hyper, counts)
        recorder.write(history, {"steps": counts["steps"]})
        save_checkpoint(checkpoint.model, checkpoint.processor, output)
        recorder.write(output, counts)
        note.remove()
        if states is not None:
            states.remove()


def _tell_of_budget(
    run: Run, minimised: ObjectiveSettings | Online, hyper: Hyperparameters, counts: Mapping[str, float]
) -> None:
    """Say so where a run ended by its epochs, before its budget was spent."""
    if not isinstance(minimised, Online) or minimised.tokens is None:
        return
    if (drawn := counts["drawn_tokens"]) < minimised.tokens:
        print(
            f"{run.id}: training.grpo.epochs ({hyper.epochs}) sampled {drawn:,.0f} tokens, fewer than the "
            f"{minimised.tokens:,} of its budget; for as many raise epochs",
            file=sys.stderr,
        )


def _special_tokens(suite: Suite, run: Run) -> tuple[list[str], str]:
    """Sources whose examples are left out if they spell special tokens, and how to correct others.

    Models' texts are left out, as their wrong answers are; what people wrote can be corrected.
    """
    settings = suite.seed_rationales
    if isinstance(settings, AnnotatedRationales):
        files = [
            str(settings.files[task]) for task in suite.train_sets[run.train_set] if task in settings.files
        ]
        return [
            *REFLECTIONS
        ], f"correct the rationale in {' or '.join(files) or 'the queries of the seed split'}"
    return [*REFLECTIONS, "seed"], "make the rationales again"


def _beside(output: Path, name: str) -> Path:
    """A hidden file or folder beside ``output``, whose content Snakemake deletes before a new start."""
    return output.with_name(f".{output.name}.{name}")


def training_schema(suite: Suite, run: Run) -> pa.Schema:
    """What a row of the run's training set is."""
    objective = objective_of(suite, run)
    if isinstance(objective, Online):
        return ASKED
    return PAIR if objective.pairs else EXAMPLE


def objective_of(suite: Suite, run: Run) -> ObjectiveSettings | Online:
    """What the run minimises; SFT where it trains on the seed split.

    Raises:
        VistaError: the run's method trains nothing.
    """
    method = suite.methods[run.method]
    if isinstance(method, SelfImprovement):
        return method.objective
    if isinstance(method, SeedMethod):
        return SftSettings(kind="sft")
    if isinstance(method, OnlineMethod):
        trusted = getattr(suite.models[run.model], "trust_remote_code", False)
        return Online(method.objective, method.rollouts, suite.engine, trusted)
    raise VistaError(f"{run.id}: method {run.method!r} trains nothing; evaluate its model as it is")


def hyperparameters(suite: Suite, run: Run) -> Hyperparameters:
    """The training settings of ``run``."""
    found: Hyperparameters = getattr(suite.training, str(training_section(suite.methods[run.method])))
    return found


def settings_of(suite: Suite, run: Run) -> dict[str, Any]:
    """The settings that a checkpoint depends on, and how it was trained, for its manifest."""
    objective = objective_of(suite, run)  # refuses a method that trains nothing
    if isinstance(objective, Online):
        grpo = objective.objective
        said = {"rollouts": objective.sampling.model_dump(mode="json"), **plugins.origins(grpo.reward)}
        said |= {"objective": grpo.model_dump(mode="json"), "engine": objective.engine.kind}
    else:
        said = {"objective": objective.model_dump(mode="json"), **plugins.origins(objective)}
    hyper = hyperparameters(suite, run)
    training = suite.models[run.model].training
    return {
        "run": run.id,
        **said,
        "hyperparameters": hyper.model_dump(mode="json"),
        "training": {
            **training.model_dump(mode="json", exclude={"accelerate"}),
            **_passes(training, hyper),
            "accelerate": None if training.accelerate is None else _text_of(training.accelerate),
        },
        "threads": suite.threads,
    }


def _passes(training: ModelTraining, hyper: Hyperparameters) -> dict[str, int]:
    """How a process's share of a step is cut into forward passes."""
    size = hyper.batch_size
    shares = Shares(size, training.processes, training.device_batch_size)
    return {"device_batch_size": shares.device_batch, "passes": shares.passes}


def _text_of(file: Path) -> dict[str, str]:
    """A small file's name, text and fingerprint."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise VistaError(f"{file}: cannot be read ({error.strerror}); correct training.accelerate") from error
    return {"file": str(file), "sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text}


def _dtypes(training: ModelTraining, stored: torch.dtype) -> dict[str, str]:
    """Types of the weights in training, of the arithmetic, and of what is saved."""
    low = stored == torch.bfloat16 and torch.cuda.is_available()
    weights = _loading_dtype(training, stored)
    told = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(told_arithmetic(), weights)
    return {
        "weights": str(weights),
        "arithmetic": str(torch.bfloat16 if low else told),
        "saved": str(stored),
    }


# Of the packages that manifests record, those that checkpoints are trained with.
PACKAGES = ("torch", "transformers", "trl", "accelerate", "numpy")
COLOCATED = "vista.engines.colocated"  # by name: other trainings do not depend on vLLM's engine


def _identity(recorder: Recorder, examples: Path, start: Path) -> dict[str, Any]:
    """What a run's states depend on; they are used only if all of it is unchanged.

    Its manifest will name one code, and one version of each package.
    """
    settings, versions = recorder.settings, installed()
    kept = {
        name: value
        for name, value in settings["training"].items()
        if not name.startswith("save_") and name != "workers"
    }
    return {
        "settings": {**settings, "training": kept},
        "digests": recorder.digests,
        "packages": {name: versions.get(name) for name in PACKAGES} | recorder.packages,
        "examples": sha256(examples),
        "start": read_manifest(start).checksums,
    }


def check_accelerate(training: ModelTraining, gpus: int, processes: int, model: str) -> None:
    """Refuse what a machine with this many GPUs cannot do, or would silently do differently.

    Args:
        training: The model's settings.
        gpus: GPUs of this machine.
        processes: Training processes on it.
        model: Named in errors.

    Raises:
        VistaError: weights cannot be spread here, or processes would have to share a GPU.
    """
    if training.accelerate is not None and gpus == 0:
        kind = load_yaml(training.accelerate).get("distributed_type")
        if kind not in SINGLE:
            raise VistaError(
                f"{training.accelerate}: {kind} needs GPUs, but this machine has none, and accelerate would "
                f"train without {kind}; remove training.accelerate of model {model}"
            )
    if 0 < gpus < processes:
        raise VistaError(
            f"{processes} training processes on this machine, but {gpus} GPUs; lower "
            f"training.processes of model {model}, or ask for more GPUs"
        )


def is_main_process() -> bool:
    """Whether this process is alone or the first that a launcher such as accelerate started."""
    return os.environ.get("RANK", "0") == "0"


def stored_dtype(folder: Path) -> torch.dtype:
    """The type of a checkpoint's weights, in which the trained ones are saved too."""
    check_folder(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    found = getattr(torch, str(name), None)
    if not isinstance(found, torch.dtype):
        raise VistaError(
            f"{folder / 'config.json'}: dtype: {name!r} is not a type of torch; write float32 or bfloat16"
        )
    return found


def _loading_dtype(training: ModelTraining, stored: torch.dtype) -> torch.dtype:
    """Frozen weights keep their stored type; weights that are trained are kept in float32."""
    return stored if isinstance(training.tuning, LoraTuning) else torch.float32


def _load(suite: Suite, run: Run, folder: Path) -> Checkpoint:
    """The checkpoint on the CPU; Trainer moves it to the GPU of its process."""
    model = suite.models[run.model]
    trusted = getattr(model, "trust_remote_code", False)
    dtype = _loading_dtype(model.training, stored_dtype(folder))
    return load_checkpoint(folder, device="cpu", dtype=dtype, trust_remote_code=trusted)


def _empty_folder(folder: Path) -> None:
    """Make ``folder`` empty, even if an earlier run left weights there."""
    with writing(folder):
        if folder.exists():
            withdraw(folder)
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
