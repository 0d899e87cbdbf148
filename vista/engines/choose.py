"""Which engine samples, by the suite's ``engine``. Serves the stages that sample."""

from __future__ import annotations

from pathlib import Path

from vista.config import EngineSettings, VllmEngineSettings
from vista.engines.base import Engine
from vista.engines.checkpoints import Checkpoint
from vista.engines.hf import HfEngine


def choose_engine(
    settings: EngineSettings,
    checkpoint: Checkpoint,
    folder: Path,
    *,
    trust_remote_code: bool = False,
    progress: str | None = None,
) -> Engine:
    """The engine that ``settings`` ask for.

    Args:
        settings: The suite's ``engine``.
        checkpoint: The policy. The ``vllm`` engine gives up its weights, if it has any, when it
            first samples: read from the model what is to be read before that.
        folder: Where the checkpoint lies.
        trust_remote_code: Run code that the checkpoint brings.
        progress: What the progress bar counts; without it there is none.

    Raises:
        VistaError: vLLM is asked for and not installed.
    """
    if isinstance(settings, VllmEngineSettings):
        from vista.engines.vllm import VllmEngine

        return VllmEngine(
            folder, checkpoint, settings, trust_remote_code=trust_remote_code, progress=progress
        )
    return HfEngine(checkpoint, settings.batch_size, progress)
