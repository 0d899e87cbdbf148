"""The GPUs that a job was to have, and whether they are there.

Every command that runs a model asks first (``vista sample``, ``score``, ``train``, ``evaluate`` …).
"""

from __future__ import annotations

import os
import socket

import torch

from vista.config import BuiltModel, ModelStage, Suite
from vista.errors import VistaError


def require_gpu(suite: Suite, model: str, stage: ModelStage) -> None:
    """Refuse to run a pretrained model on the CPU of a machine that was to have a GPU for it.

    A node whose driver fails would otherwise spend the job's hours, and those of its retries, on
    its CPU. The small models that are built here run anywhere.

    Args:
        suite: Says how many GPUs a job asks for.
        model: Name of the model.
        stage: What is to be done with it.

    Raises:
        VistaError: the model's jobs ask for a GPU and torch sees none.
    """
    entry = suite.models[model]
    own = entry.resources.of(stage).gpus
    asked = suite.gpus if own is None else own
    if isinstance(entry, BuiltModel) or not asked or torch.cuda.is_available():
        return
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    field = f"gpus: {asked}" if own is None else f"resources.{stage}.gpus: {asked} of model {model}"
    raise VistaError(
        f"{field} asks for a GPU, and torch {torch.__version__} ({built}) sees none on "
        f"{socket.gethostname()} (CUDA_VISIBLE_DEVICES: {visible}); look at `nvidia-smi` there, have the "
        f"scheduler leave the node out, or set gpus: 0 to run {model} on the CPU"
    )
