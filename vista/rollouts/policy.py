"""The policy whose rollouts are made: its checkpoint, its prompts, its engine. Stage ``rollouts``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from vista import chat, grid
from vista.chat import TOGETHER, Order, Prompt, check_fits
from vista.config import Suite
from vista.engines.base import Engine, choose_engine
from vista.engines.checkpoints import Checkpoint, load_checkpoint, load_outline, require_gpu
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import Row


def folder_of(suite: Suite, paths: Paths, policy: Run) -> Path:
    """Folder of the policy's weights."""
    return paths.checkpoint(policy, grid.is_trained(suite, policy))


def has_weights(suite: Suite, paths: Paths, policy: Run) -> bool:
    """Whether the policy was trained; one that had no positives to train on was not.

    Its rollouts are then empty files with the same status, and so on down to the table.
    """
    return read_manifest(folder_of(suite, paths, policy)).status == "complete"


def load_policy(suite: Suite, paths: Paths, policy: Run, read: bool = True) -> Checkpoint:
    """Load the policy, with the suite's number of threads.

    Args:
        suite: The resolved suite.
        paths: Where everything lies.
        policy: The run whose checkpoint it is.
        read: Whether the job itself reads from the model. If it only samples, an engine that
            loads the weights on its own needs none here.

    Raises:
        VistaError: the checkpoint cannot be loaded, or the job was to have a GPU and there is none.
    """
    require_gpu(suite, policy.model, "rollouts")
    torch.set_num_threads(suite.threads)
    load = load_checkpoint if read or suite.engine.kind == "hf" else load_outline
    return load(folder_of(suite, paths, policy), trust_remote_code=_trusted(suite, policy))


def _trusted(suite: Suite, policy: Run) -> bool:
    return getattr(suite.models[policy.model], "trust_remote_code", False)


def sampler(suite: Suite, paths: Paths, policy: Run, checkpoint: Checkpoint, progress: str) -> Engine:
    """The suite's engine on the policy.

    Args:
        suite: The resolved suite.
        paths: Where everything lies.
        policy: The run whose checkpoint is sampled.
        checkpoint: The same, loaded.
        progress: What the progress bar counts.
    """
    return choose_engine(
        suite.engine,
        checkpoint,
        folder_of(suite, paths, policy),
        trust_remote_code=_trusted(suite, policy),
        progress=progress,
    )


def device_name(checkpoint: Checkpoint) -> str:
    """What a manifest calls the device; of a checkpoint without weights, the one vLLM takes."""
    device = checkpoint.device
    if device.type == "meta":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def encode_queries(
    checkpoint: Checkpoint,
    queries: Sequence[Row],
    response_len: int,
    order: Order = "original",
) -> list[Prompt]:
    """The prompt of every query.

    Raises:
        VistaError: a prompt does not fit the context together with ``response_len`` more tokens,
            or an image cannot be read; names the query.
    """
    prompts: list[Prompt] = []
    with tqdm(total=len(queries), desc="encode", unit=" queries", mininterval=5) as bar:
        for start in range(0, len(queries), TOGETHER):
            shown = queries[start : start + TOGETHER]
            made = chat.encode_queries(checkpoint.processor, shown, order)
            for query, prompt in zip(shown, made, strict=True):
                check_fits(query, len(prompt), response_len, checkpoint.context)
            prompts += made
            bar.update(len(shown))
    return prompts
