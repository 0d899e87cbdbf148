"""Which weights are trained, and how the trained model becomes an ordinary one again.

For ``vista train``. At the end low-rank adapters are merged, and the first process gathers weights that
were spread over processes (FSDP, ZeRO-3).
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from vista.config import FullTuning, LoraTuning
from vista.errors import VistaError
from vista.training.trainers import PaperTrainer


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
        self.generation_config = model.generation_config
        self.lora = lora

    def of(self, trainer: PaperTrainer) -> Any:
        """The trained model; ``None`` on all but the first process if weights were spread.

        Adapters are merged in float32, whatever the type of the weights they are added to.
        """
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
            if not trainer.accelerator.is_main_process:
                return None
            model = self._filled(state)
        else:
            model = trainer.accelerator.unwrap_model(trainer.model)
        return model if self.lora is None else model.float().merge_and_unload()

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
        base.generation_config = self.generation_config
        left = [name for name, weight in base.named_parameters() if weight.is_meta]
        if left or unexpected:
            raise RuntimeError(f"gathered weights do not fit the model: {[*left, *unexpected][:5]}")
        return model
