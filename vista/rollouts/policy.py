"""The policy whose rollouts are made: its checkpoint, its prompts, its engine. Stage ``rollouts``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from vista import grid
from vista.chat import Order, Prompt, check_fits, encode_query
from vista.config import Suite
from vista.engines.checkpoints import Checkpoint, load_checkpoint
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


def load_policy(suite: Suite, paths: Paths, policy: Run) -> Checkpoint:
    """Load the policy's weights, with the suite's number of threads."""
    torch.set_num_threads(suite.threads)
    trusted = getattr(suite.models[policy.model], "trust_remote_code", False)
    return load_checkpoint(folder_of(suite, paths, policy), trust_remote_code=trusted)


def device_name(checkpoint: Checkpoint) -> str:
    """What a manifest calls the device."""
    device = checkpoint.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def encode_queries(
    checkpoint: Checkpoint,
    queries: Sequence[Row],
    response_len: int,
    order: Order = "original",
    hinted: bool = False,
) -> list[Prompt]:
    """The prompt of every query, its answer as a hint if ``hinted``.

    Raises:
        VistaError: a prompt does not fit the context together with ``response_len`` more tokens,
            or an image cannot be read; names the query.
    """
    prompts = []
    for query in tqdm(queries, desc="encode", unit=" queries", mininterval=5):
        hint = query["answer"] if hinted else None
        prompt = encode_query(checkpoint.processor, query, order, hint)
        check_fits(query, len(prompt), response_len, checkpoint.context)
        prompts.append(prompt)
    return prompts
