"""What training needs of DeepSpeed's ZeRO: exact sums, whole weights, and states that are only weights.

DeepSpeed's own states cannot be read so (``TorchCheckpointEngine.load``, as of 0.19.8): they hold objects of
its classes (``ZeroStageEnum``, ``LossScaler``), and no setting prevents that. Those that are written here
hold tensors and plain values. DeepSpeed is imported only where it trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

STAGE, SCALER = "zero_stage", "loss_scaler"  # DeepSpeed's keys of what can only be unpickled


def keep_sums_exact(plugin: Any) -> None:
    """Sum gradients over processes and passes in float32; DeepSpeed's default is the type of the weights."""
    settings = plugin.deepspeed_config
    settings.setdefault("communication_data_type", "fp32")
    settings.setdefault("data_types", {}).setdefault("grad_accum_dtype", "fp32")


def exact_weights(model: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """Copies of the trained weights that rounding to ``dtype`` would change, by name."""
    return {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad and not torch.equal(weight, weight.to(dtype).to(weight.dtype))
    }


def restore(model: Any, exact: dict[str, Tensor]) -> None:
    """Put ``exact_weights`` into DeepSpeed's float32 weights, which it makes from rounded ones."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

    for name, weight in model.named_parameters():
        if name not in exact:
            continue
        if not hasattr(weight, "ds_tensor"):
            safe_set_full_fp32_param(weight, exact[name])
            continue
        size = weight.ds_tensor.numel()
        start = torch.distributed.get_rank() * size
        part = exact[name].flatten()[start : start + size]
        safe_set_local_fp32_param(weight, torch.nn.functional.pad(part, (0, size - len(part))))


def whole_weights(model: Any, main: bool) -> dict[str, Tensor]:
    """All weights of a spread model, on the CPU of the main process; those that were trained in float32.

    All processes have to take part, and one weight at a time is whole on each of them.
    """
    import deepspeed

    found = {}
    for name, weight in model.named_parameters():
        whole = deepspeed.utils.safe_get_full_fp32_param(weight)
        # Of a frozen weight there is no such copy.
        with deepspeed.zero.GatheredParameters([weight], enabled=whole is None):
            if main:
                found[name] = (weight if whole is None else whole).detach().to("cpu", copy=True)
    buffers = dict(model.named_buffers()).keys() & model.state_dict().keys() if main else set()
    return found | {name: model.get_buffer(name).cpu() for name in buffers}


def forget() -> None:
    """Let transformers make ordinary models from now on; it would spread those too."""
    unset_hf_deepspeed_config()


def save_part(engine: Any, folder: Path) -> None:
    """Write this process's part of weights and optimiser."""
    state = engine.optimizer.state_dict()
    del state[STAGE]
    state[SCALER] = vars(state[SCALER])
    state["fp32_flat_groups"] = [part.detach() for part in state["fp32_flat_groups"]]
    torch.save(state, _part(folder))


def load_part(engine: Any, folder: Path) -> None:
    """Read what ``save_part`` wrote in this process of a run with as many of them."""
    optimizer = engine.optimizer
    state = torch.load(_part(folder), map_location="cpu", weights_only=True)
    vars(optimizer.loss_scaler).update(state[SCALER])
    state[SCALER] = optimizer.loss_scaler
    optimizer.checkpoint_event_prologue()
    optimizer.load_state_dict({torch.distributed.get_rank(): state})
    optimizer.checkpoint_event_epilogue()  # small weights, which every process has whole


def _part(folder: Path) -> Path:
    return folder / f"zero_{torch.distributed.get_rank()}.pt"
