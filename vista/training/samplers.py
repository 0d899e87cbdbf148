"""What samples from a policy as it is trained: transformers with the very weights, or vLLM with copies."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.distributed.tensor import DTensor

from vista.chat import check_fits
from vista.config import HfEngineSettings
from vista.engines.base import Request, Sample
from vista.engines.checkpoints import Checkpoint, write_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError, writing
from vista.records import Row
from vista.training.data import Online, Prompts

COLOCATED = "vista.engines.colocated"  # by name: what transformers samples does not depend on vLLM's engine
WEIGHTS = "vista-weights-"  # how the folders for weights begin
TOGETHER = 64  # rows whose prompts are encoded at a time


class PolicySampler(Protocol):
    """Samples from the current weights of a training, in all of its processes."""

    def sample(
        self, model: Any, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        """As ``engines.base.Engine.sample``, with the weights of ``model``.

        ``model`` is whole; for vLLM only the main process needs to have it.
        """
        ...

    def close(self) -> None:
        """Give up what the sampler holds."""
        ...


class InProcess:
    """Transformers, in the process of the training."""

    def __init__(self, checkpoint: Checkpoint, engine: HfEngineSettings, accelerator: Accelerator) -> None:
        self.checkpoint, self.settings, self.accelerator = checkpoint, engine, accelerator
        self._engine: HfEngine | None = None

    def sample(
        self, model: Any, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        """Sample; see ``PolicySampler``."""
        if self._engine is None:  # made once the model is on its device
            self._engine = HfEngine(replace(self.checkpoint, model=bare(model)), self.settings.batch_size)
        model.eval()
        try:
            with self.accelerator.autocast():
                return self._engine.sample(requests, temperature, max_new_tokens)
        finally:
            model.train()

    def close(self) -> None:
        """Nothing: the training holds it."""


class Colocated:
    """vLLM, in a process of its own: one for each process of the training, on the same GPU.

    The main process writes the weights, in the type of the checkpoint, to a folder on this machine that all
    of them read. It has been read before the next step's are written: the step between needs every process.
    """

    def __init__(
        self,
        online: Online,
        checkpoint: Checkpoint,
        accelerator: Accelerator,
        prompts: Prompts,
        rows: Sequence[Row],
    ) -> None:
        self.online, self.checkpoint, self.accelerator = online, checkpoint, accelerator
        longest, images = self._largest(prompts, rows)
        module = import_module(COLOCATED)
        start = module.Start(
            str(online.start), online.engine, online.trusted, longest, images, module.plan_of_this()
        )
        self.folder = WeightsFolder() if accelerator.is_main_process else None
        (shared,) = broadcast_object_list([str(self.folder.path) if self.folder else ""])
        self.weights = Path(shared) / "policy"
        self.vllm = module.VllmProcess(start, accelerator.device)

    def _largest(self, prompts: Prompts, rows: Sequence[Row]) -> tuple[int, int]:
        """Tokens of the longest prompt with its response, and most images of a prompt.

        Raises:
            VistaError: a prompt with its response does not fit; names the query, before anything is sampled.
        """
        room, limit = self.online.sampling.max_new_tokens, getattr(self.online.engine, "max_model_len", None)
        longest = images = 0
        for first in range(0, len(rows), TOGETHER):
            part = rows[first : first + TOGETHER]
            for row, prompt in zip(part, prompts.of(part), strict=True):
                check_fits(row, len(prompt), room, self.checkpoint.context)
                if limit is not None and len(prompt) + room > limit:
                    raise VistaError(
                        f"query {row['query_id']!r}: its prompt of {len(prompt)} tokens with a response of "
                        f"up to {room} exceeds engine.max_model_len: {limit}; raise it, or shorten responses"
                    )
                longest, images = max(longest, len(prompt) + room), max(images, prompt.images)
        return longest, images

    def sample(
        self, model: Any, requests: Sequence[Request], temperature: float, max_new_tokens: int
    ) -> list[list[Sample]]:
        """Sample; see ``PolicySampler``."""
        if self.accelerator.is_main_process:
            shutil.rmtree(self.weights, ignore_errors=True)  # first: there need not be room for both
            with writing(self.weights):
                write_checkpoint(
                    bare(model),
                    self.checkpoint.processor,
                    self.weights,
                    whole_state(model, self.online.dtype),
                )
        self.accelerator.wait_for_everyone()
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()  # vLLM needs some for a moment as it reads the weights
        shrink = self.checkpoint.processor.shrink
        found: list[list[Sample]] = self.vllm.sample(
            self.weights, requests, temperature, max_new_tokens, shrink
        )
        return found

    def close(self) -> None:
        """End vLLM, and remove the weights."""
        self.vllm.close()
        if self.folder is not None:
            self.folder.remove()


class WeightsFolder:
    """A folder for weights, on this machine. One that a killed training left is removed by the next one."""

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{WEIGHTS}*"):
            if (lock := _locked(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
        self._lock: int | None = None
        while self._lock is None:  # until it is locked, another training may remove it
            self.path = Path(tempfile.mkdtemp(prefix=WEIGHTS))
            self._lock = _locked(self.path)

    def remove(self) -> None:
        """Remove it, and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(folder: Path) -> int | None:
    """A lock on a folder, which ends with the process; ``None`` if another has it, or the folder is gone.

    Nor has this user a lock on somebody else's folder, which is not readable.
    """
    try:
        found = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(found)
        return None
    if os.fstat(found).st_nlink == 0:  # removed while it was being locked
        os.close(found)
        return None
    return found


def make_sampler(
    online: Online, checkpoint: Checkpoint, accelerator: Accelerator, prompts: Prompts, rows: Sequence[Row]
) -> PolicySampler:
    """The sampler that the suite's engine asks for.

    Args:
        online: How to sample.
        checkpoint: The one that is trained.
        accelerator: The training's.
        prompts: Its prompts.
        rows: All its queries; vLLM is started for the longest of them.
    """
    if isinstance(online.engine, HfEngineSettings):
        return InProcess(checkpoint, online.engine, accelerator)
    return Colocated(online, checkpoint, accelerator, prompts, rows)


def bare(model: Any) -> Any:
    """The model without what peft puts around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.no_grad()
def whole_state(model: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights of an ordinary model, adapters merged in float32 and left as they are in ``model``.

    Returns:
        By name, on the CPU, in ``dtype``; weights that are tied stay so.
    """
    inner = bare(model)
    adapted = {name: each for name, each in inner.named_modules() if isinstance(each, LoraLayer)}
    found: dict[str, Tensor] = {}
    copies: dict[tuple[int, torch.Size], Tensor] = {}
    for name, weight in inner.state_dict().items():
        owner, inside, last = name.rpartition(".base_layer.")
        if inside:
            name = f"{owner}.{last}"
        elif any(name.startswith(f"{each}.") for each in adapted):
            continue  # the adapter's own
        whole = weight
        if inside and last == "weight":
            layer: Any = adapted[owner]
            for adapter in layer.active_adapters:
                whole = whole.float() + layer.get_delta_weight(adapter).float()
        place = (weight.data_ptr(), weight.shape)
        if place not in copies:
            copies[place] = whole.to("cpu", dtype) if whole.is_floating_point() else whole.cpu()
        found[name] = copies[place]
    return found


@torch.no_grad()
def gather(spread: Any, whole: Any) -> None:
    """Fill a model with the weights of its like, whose parts other processes have (FSDP).

    Every process takes part; one without a ``whole`` gets nothing.
    """
    into = {} if whole is None else dict(whole.named_parameters())
    for name, weight in spread.named_parameters():
        full = weight.full_tensor() if isinstance(weight, DTensor) else weight
        if whole is not None:
            into[name].copy_(full)
